"""Exponential moving average of a model's weights with a warm-up, for mmengine's EMAHook.

Released code: AOT's utils/ema.py, ``ExponentialMovingAverage``. mmengine's MomentumAnnealingEMA differs: its first
update copies the weights, and its n-th has the momentum that this one has two updates earlier.
"""

import torch
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from mmplugins.registry import MODELS


@MODELS.register_module()
class WarmupEMA(ExponentialMovingAverage):
    """Exponential moving average whose decay begins low, as it is then that the weights change most.

    Update n = 1, 2, ... has the decay min(1 - momentum, (1 + n) / (10 + n)): new weights weigh 0.818, 0.75, 0.692 in
    the first updates, and ``momentum`` from the update on at which 9 / (10 + n) is less. The first update averages with
    the weights that the model had when the average was built.

    Args:
        model: The model to be averaged.
        momentum: Least weight of new weights, 1 - decay.
        interval: Iterations between two updates.
        device: Where the average lives; None: where the model is.
        update_buffers: Whether buffers are averaged too; else they are the model's.

    Examples:
        >>> custom_hooks = [dict(type='EMAHook', ema_type='mmplugins.WarmupEMA', momentum=0.0001)]
    """

    def __init__(
        self,
        model: nn.Module,
        momentum: float = 0.0001,
        interval: int = 1,
        device: torch.device | None = None,
        update_buffers: bool = False,
    ) -> None:
        super().__init__(model, momentum, interval, device, update_buffers)
        self.steps += 1  # the number of the next update; at 0 mmengine copies the weights

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: Tensor) -> None:
        """Moves one averaged parameter towards the model's, in place.

        Args:
            averaged_param: The average.
            source_param: The model's parameter, of the same shape.
            steps: Number of the update, from 1.
        """
        averaged_param.lerp_(source_param, max(self.momentum, 9 / (10 + int(steps))))
