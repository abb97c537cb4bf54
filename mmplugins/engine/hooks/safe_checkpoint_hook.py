"""Checkpoints that torch loads without unpickling code, when best scores are numpy's.

``torch.load`` takes tensors and plain values only, unless told otherwise, and mmengine allows the few numpy types that
its own log needs. mmseg's IoUMetric returns float32 scores, which are not among them: with ``save_best`` the score
enters the checkpoint, and mmengine falls back, with a warning, to a load that would run any code in the file.
"""

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmplugins.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Turns numpy numbers of the checkpoint's runtime information into Python's. ``tools/train.py`` adds it.

    Examples:
        >>> import numpy as np
        >>> checkpoint = dict(message_hub=dict(runtime_info=dict(best_score=np.float32(62.5))))
        >>> SafeCheckpointHook().before_save_checkpoint(None, checkpoint)
        >>> checkpoint['message_hub']['runtime_info']['best_score']
        62.5
    """

    priority = 'LOWEST'  # after the hooks that put something into the checkpoint

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Changes the checkpoint in place."""
        info = checkpoint.get('message_hub', {}).get('runtime_info', {})
        info.update({key: value.item() for key, value in info.items() if isinstance(value, np.generic)})
