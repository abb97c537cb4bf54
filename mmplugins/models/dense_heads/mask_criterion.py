"""``SetCriterion`` as mmdet's MaskFormer and Mask2Former heads average, with their losses in it.

Differences of mmdet from the released codes, kept here: mask losses are divided by the number of matched pairs, where
an image without any counts as one, not by the number of objects (the same unless an image is empty or objects
outnumber queries).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .toolbox_criterion import ToolboxCriterion


class BorrowedLoss:
    """A loss that belongs to another module: called here, but no submodule, so that a checkpoint has it once.

    Args:
        loss: The loss.
    """

    def __init__(self, loss: nn.Module) -> None:
        self.loss = loss

    def __call__(self, *args, **kwargs) -> Tensor:
        """Calls the loss."""
        return self.loss(*args, **kwargs)


class MaskCriterion(ToolboxCriterion):
    """The criterion of a head over mmdet's MaskFormerHead or Mask2FormerHead.

    Args:
        num_classes: Number of classes C.
        assigner: The head's assigner.
        class_weight: Weight of each class, no-object last, C+1 numbers.
        mask_loss: Computes ``loss_mask`` and ``loss_dice``.
        loss_cls: Called for each layer with logits, classes, weights of 1 and the sum of the class weights, as mmdet
            does; None: cross entropy.
    """

    def __init__(
        self,
        num_classes: int,
        assigner: object,
        class_weight: Sequence[float],
        mask_loss: nn.Module,
        loss_cls: Callable[..., Tensor] | None = None,
    ) -> None:
        super().__init__(
            class_weight=class_weight,
            num_classes=num_classes,
            assigner=assigner,
            losses=('labels', 'masks'),
            mask_loss=mask_loss,
        )
        self.loss_cls = loss_cls

    def object_count(self, num_objects: Tensor | int, num_pairs: Tensor | int, num_empty: int) -> Tensor | int:
        """Gives the number of matched pairs; an image without objects counts as one."""
        return num_pairs + num_empty

    def label_loss(self, logits: Tensor, classes: Tensor, avg_factor: Tensor | float | None) -> Tensor:
        """Computes the classification loss of each layer, (L,)."""
        if self.loss_cls is None:
            return super().label_loss(logits, classes, avg_factor)
        weight = self.class_weight.to(logits.dtype)
        losses = []
        for layer, labels in zip(logits, classes.flatten(1), strict=True):
            scores = layer.flatten(0, 1)  # (B * Q, C+1)
            losses.append(self.loss_cls(scores, labels, torch.ones_like(labels), avg_factor=weight[labels].sum()))
        return torch.stack(losses)
