"""What our heads over mmdet's share: all decoder layers in one criterion, or mmdet's own way where that differs."""

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping, Sequence

from mmdet.structures import SampleList
from mmengine.logging import print_log
from torch import Tensor

from mmplugins.models.losses.set_criterion import SetCriterion
from mmplugins.models.losses.toolbox import equal_weight


class SetHead(metaclass=ABCMeta):
    """To stand before mmdet's head among the bases of a class.

    ``loss_by_feat`` goes through ``SetCriterion``. Where that would not give what mmdet's head gives, for example if a
    subclass overrides a step of mmdet's loss, it goes mmdet's own way, and says so once in the log.

    Attributes:
        toolbox: mmdet's head.
        steps: Methods of mmdet's loss that a subclass may override.
        equal: Name of each loss: which of our computations it may equal; see ``models/losses/toolbox.py``.
        criterion: Computes the losses; None without a training config.
    """

    toolbox: type
    steps: tuple[str, ...]
    equal: Mapping[str, str]
    criterion: SetCriterion | None
    _told = False

    @abstractmethod
    def targets(self, batch_data_samples: SampleList) -> list[dict[str, Tensor]]:
        """Returns what ``SetCriterion`` takes as targets, for each image."""

    def built_in_losses(self, **settings: Mapping) -> list[str]:
        """Returns the names of the losses that ours equal up to their weight.

        Args:
            **settings: For a loss by name, attributes that it must have beside those of the table.
        """
        return [
            name
            for name, ours in self.equal.items()
            if equal_weight(getattr(self, name), ours, **settings.get(name, {})) is not None
        ]

    def update_criterion(self, built_in: Sequence[str]) -> None:
        """Hands the criterion what a hook may have changed: the assigner, and the weights of some losses."""
        self.criterion.assigner = self.assigner
        for name in built_in:
            self.criterion.loss_weights[name] = getattr(self, name).loss_weight

    def why_toolbox(self) -> str | None:
        """Returns why ``SetCriterion`` would not compute what this head's losses do; None if it would."""
        overridden = [name for name in self.steps if getattr(type(self), name) is not getattr(self.toolbox, name)]
        return f'{type(self).__name__} overrides {overridden}' if overridden else None

    def tell_once(self, problem: str) -> None:
        """Logs once why mmdet's own way is taken."""
        if not self._told:
            message = f'{type(self).__name__} computes its losses as mmdet does, layer by layer: {problem}'
            print_log(message, 'current')
            self._told = True
