"""Pictures of what the losses of a training see, for the run's visualizer."""

import logging
from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmplugins.engine.loss_drawings import draw_clip, draw_matching, draw_pixels, draw_sampled_points, match_stability
from mmplugins.engine.loss_records import LossRecorder
from mmplugins.registry import HOOKS
from mmplugins.visualization.figures import to_image

STABILITY = 'match_stability'


@HOOKS.register_module()
class LossPictureHook(Hook):
    """Shows, at the first iteration and at every n-th, what the losses see of the batch.

    The pictures go to the run's visualizer (with ``LocalVisBackend`` to ``<time>/vis_data/vis_image/``, with
    ``TensorboardVisBackend`` to TensorBoard), those that there is something for:

    - ``look_pixels``: images, truth, prediction, the pixels that OHEM or top-k keeps, the edge weights of the structure
      loss.
    - ``look_matching``: which query took which object, in how many decoder layers, and each of its costs.
    - ``look_points``: where the mask loss of Mask2Former compares the largest object with its query.
    - ``look_clip``: objects, identities that went into AOT's memory, predictions, kept pixels.

    With a matching the log gets ``match_stability``, the share of the objects that one query takes in the last two
    layers.

    The losses are the model's own, recorded in the step that trains; nothing is computed twice but the selection of
    pixels. On other steps the model has nothing of this hook, no step waits for the device, and the loss is never
    touched. Only the first process draws. A loss of yours is drawn if it has a method ``kept_pixels`` or
    ``pixel_weight``; see ``mmplugins/engine/loss_records.py``.

    Args:
        interval: Iterations between pictures.
        max_images: How many images of a batch are drawn.

    Raises:
        ValueError: A number is below 1.

    Examples:
        >>> custom_hooks = [dict(type='mmplugins.LossPictureHook', interval=500)]
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 500, max_images: int = 3) -> None:
        if interval < 1 or max_images < 1:
            raise ValueError(f'interval and max_images are at least 1, got {interval} and {max_images}')
        self.interval = interval
        self.max_images = max_images
        self._recorder: LossRecorder | None = None
        self._told: set[str] = set()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Begins to record, if this iteration has a picture."""
        if runner.rank or not (runner.iter == 0 or self.every_n_train_iters(runner, self.interval)):
            return
        recorder = LossRecorder(_unwrapped(runner.model), self.max_images)
        if recorder.attach():
            self._recorder = recorder
        else:
            self._tell(
                'LossPictureHook finds nothing to draw: no loss of the model has kept_pixels or pixel_weight, and it '
                'has no matching of mmplugins.BatchHungarianAssigner'
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Draws what was recorded. A picture that cannot be drawn is told of, and the training goes on."""
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        recorder.detach()
        meta = getattr(runner.visualizer, 'dataset_meta', None)
        drawings: dict[str, Callable[[], Figure | None]] = {
            'look_pixels': lambda: draw_pixels(recorder, meta),
            'look_matching': lambda: draw_matching(recorder, meta),
            'look_points': lambda: draw_sampled_points(recorder),
            'look_clip': lambda: draw_clip(recorder),
        }
        for name, draw in drawings.items():
            try:
                figure = draw()
                if figure is not None:
                    runner.visualizer.add_image(name, np.ascontiguousarray(to_image(figure)), runner.iter + 1)
            except Exception as error:  # whatever the data are like, a picture is not worth a training
                self._tell(f'LossPictureHook cannot draw {name}: {type(error).__name__}: {error}')
        stability = None if recorder.matching is None else match_stability(recorder.matching.pairs)
        if stability is not None:
            runner.visualizer.add_scalar(STABILITY, stability, runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        """Takes the recorder off where a training ends within a step."""
        if self._recorder is not None:
            self._recorder.detach()

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            print_log(text, 'current', logging.WARNING)


def _unwrapped(model: nn.Module) -> nn.Module:
    while is_model_wrapper(model):
        model = model.module
    return model
