"""Polynomial decay shifted by one step, as in several released training loops.

Released code: PFNet's train.py, which sets the rate to lr * (1 - (i + 1) / T)^p before step i = 0 .. T - 1: the first
step is already below lr and the last has the rate 0. mmengine's PolyLR has lr at the first step and
lr * (1 - i / (T - 1))^p later.
"""

from mmengine.optim import PolyLR

from mmplugins.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class ShiftedPolyLR(PolyLR):
    """Sets the rate of step i to eta_min + (lr - eta_min) * (1 - (i + 1) / T)^power, T = end - begin.

    Takes the arguments of mmengine's PolyLR: ``power``, ``eta_min``, ``begin``, ``end``, ``by_epoch``,
    ``convert_to_iter_based``. Unlike it, it starts from each parameter group's own initial rate at every step, so that
    it cannot be chained with another scheduler over the same steps.

    Examples:
        >>> param_scheduler = [dict(type='mmplugins.ShiftedPolyLR', power=0.9, end=12, by_epoch=False)]
    """

    def _get_value(self) -> list[float]:
        """Returns the rate of each parameter group at ``last_step``."""
        left = 1 - (self.last_step + 1) / (self.end - self.begin)
        return [self.eta_min + (base - self.eta_min) * left**self.power for base in self.base_values]
