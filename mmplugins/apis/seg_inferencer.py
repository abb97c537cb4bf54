"""mmseg's inferencer for every config that trains: test sets that are joined, masks that our transforms load."""

from collections.abc import Mapping

from mmengine.config import Config
from mmseg.apis import MMSegInferencer

from mmplugins.engine.launch import type_name

from .config_inferencer import ConfigInferencer


class SegInferencer(ConfigInferencer, MMSegInferencer):
    """Predicts images in a program: ``SegInferencer(CONFIG, CHECKPOINT)(IMAGES, out_dir=FOLDER)``.

    Arguments, calls and results are those of mmseg's MMSegInferencer, but for what ``config_inferencer`` tells.
    Heads of one channel give a map of 0 and 1.

    Args:
        model: Path of a config, or a config.
        weights: Path or address of a checkpoint; None: random weights.
        *args: What mmseg's MMSegInferencer takes further.
        **kwargs: Likewise.

    Raises:
        ValueError: The model tracks objects through a video, which takes the first frame's mask.
        UsageError: No tensor of the model is in the checkpoint.
    """

    annotations = ('LoadAnnotations', 'LoadBinaryMask', 'SoftMask')

    def __init__(self, model: str | Mapping | None = None, weights: str | None = None, *args, **kwargs) -> None:
        cfg = Config.fromfile(model) if isinstance(model, str) and model.endswith('.py') else model
        if isinstance(cfg, Mapping | Config) and type_name(cfg.get('model') or {}) == 'AOT':
            raise ValueError(
                'AOT tracks the objects of a first mask, which an inferencer of images does not take: use '
                'python -m mmplugins.demo CONFIG CHECKPOINT VIDEO --mask FIRST.png, or '
                'mmplugins.models.segmentors.aot.track_video'
            )
        super().__init__(cfg, weights, *args, **kwargs)
