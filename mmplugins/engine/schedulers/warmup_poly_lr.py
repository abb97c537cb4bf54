"""Linear warm-up and polynomial decay between one least rate and each parameter group's own rate.

Paper: AOT (NeurIPS 2021). Released code: utils/learning.py, ``adjust_learning_rate``. mmengine's LinearLR and PolyLR
one after the other differ: the warm-up begins at a share of each group's own rate, not at the least rate.
"""

from mmengine.optim import PolyLR
from torch.optim import Optimizer

from mmplugins.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupPolyLR(PolyLR):
    """Sets the rate of step i of T = end - begin, of which W are the warm-up, to eta_min + (lr - eta_min) * f(i).

    1. f(i) = i / W for i < W.
    2. f(i) = (1 - (i - W) / (T - W + 1))^power from there on.

    Each group starts from its own initial rate at every step, so that this cannot be chained with another scheduler
    over the same steps. AOT's encoder, whose distance from the least rate is a tenth of the others', has
    ``lr_mult=(0.1 * (lr - eta_min) + eta_min) / lr``.

    Args:
        optimizer: The optimizer, or its wrapper.
        warmup: Steps of the warm-up, W.
        **kwargs: Other arguments of mmengine's PolyLR: ``power``, ``eta_min``, ``begin``, ``end``; ``by_epoch`` must be
            False, and is by default.

    Raises:
        ValueError: ``warmup`` is not below the number of steps, or ``by_epoch`` is True.

    Examples:
        >>> param_scheduler = [dict(type='mmplugins.WarmupPolyLR', warmup=500, power=0.9, eta_min=2e-5, end=10000)]
    """

    def __init__(self, optimizer: Optimizer, warmup: int, **kwargs) -> None:
        if kwargs.setdefault('by_epoch', False):
            raise ValueError(
                'WarmupPolyLR counts iterations: set by_epoch=False, and warmup, begin and end in iterations'
            )
        steps = kwargs.get('end', float('inf')) - kwargs.get('begin', 0)
        if not 0 <= warmup < steps:
            raise ValueError(f'warmup must be 0 or above and below end - begin, {steps}, got {warmup}')
        self.warmup = warmup
        super().__init__(optimizer, **kwargs)

    def _get_value(self) -> list[float]:
        """Returns the rate of each parameter group at ``last_step``."""
        if self.last_step < self.warmup:  # 1
            share = self.last_step / self.warmup
        else:  # 2
            share = (1 - (self.last_step - self.warmup) / (self.end - self.begin - self.warmup + 1)) ** self.power
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_values]
