"""Checkpoints that plain ``torch.load(path, weights_only=True)`` loads: tensors and Python's own values, no class.

mmengine puts its log into a checkpoint, as ``HistoryBuffer`` objects over numpy arrays, and the best score as the
number that the metric returned, of numpy's as a rule. PyTorch's ``weights_only``, its default since 2.6, refuses both
unless they are on an allow list: onedl-mmengine has one for the buffers but not for every number; with the original
mmengine a resumed run raises.
"""

import numpy as np
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner

from mmplugins.engine.whole_files import NAME
from mmplugins.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Turns the log and numpy's numbers in a checkpoint into plain values, and the log back where a run is resumed.

    A checkpoint is written to its end before it takes its name, and an older one is removed after that
    (``max_keep_ckpts``): a run that is killed, or a disk that is full, leaves the last one as it was.

    ``tools/train.py`` adds it. A run that is resumed without it goes on all the same; mmengine then says that it leaves
    out the log of the iterations before, which its smoothed values would start with. What a hook of yours puts into
    the checkpoint stays as it is.

    Examples:
        >>> import numpy as np
        >>> checkpoint = dict(message_hub=dict(runtime_info=dict(best_score=np.float32(62.5))))
        >>> SafeCheckpointHook().before_save_checkpoint(None, checkpoint)
        >>> checkpoint['message_hub']['runtime_info']['best_score']
        62.5
    """

    priority = 'LOWEST'  # after the hooks that put something into the checkpoint

    def before_run(self, runner: Runner) -> None:
        """Has local checkpoints written beside their place and then moved there; see ``engine/whole_files.py``."""
        for hook in runner.hooks:
            local = '://' not in (getattr(hook, 'out_dir', None) or '')
            if isinstance(hook, CheckpointHook) and local and not (hook.backend_args or hook.file_client_args):
                hook.backend_args = {'backend': NAME}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Changes the checkpoint in place; the runner's own log stays."""
        hub = checkpoint.get('message_hub', {})
        info = hub.get('runtime_info', {})
        info.update({key: value.item() for key, value in info.items() if isinstance(value, np.generic)})
        log = hub.get('log_scalars', {})
        log.update({key: _plain(value) for key, value in log.items() if isinstance(value, HistoryBuffer)})

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Makes buffers of what ``before_save_checkpoint`` made of them, in place."""
        log = checkpoint.get('message_hub', {}).get('log_scalars', {})
        log.update({key: _buffer(value) for key, value in log.items() if isinstance(value, dict)})


def _plain(buffer: HistoryBuffer) -> dict:
    """Gives what a buffer holds, as tensors (n,) and its greatest length."""
    history, counts = (torch.from_numpy(np.array(values)) for values in buffer.data)
    return dict(log_history=history, count_history=counts, max_length=buffer.max_length)


def _buffer(plain: dict) -> HistoryBuffer:
    """The inverse of ``_plain``."""
    history, counts = (plain[key].cpu().numpy() for key in ('log_history', 'count_history'))
    return HistoryBuffer(history, counts, plain['max_length'])
