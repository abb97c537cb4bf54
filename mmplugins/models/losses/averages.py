"""What the losses of a set criterion are divided by: as released, as in mmdet's DETR head, as in its mask heads.

======================  ===================================================  =======================================
class                   the cross entropy of the labels is divided by        box and mask losses are divided by
======================  ===================================================  =======================================
``ReleasedAverages``    the sum of the weights of its queries                the number of objects
``DETRHeadAverages``    the pairs, and the other queries times no-object's   the number of matched pairs
                        weight
``MaskHeadAverages``    the sum of the weights of its queries                the number of matched pairs, where an
                                                                             image without any counts as one
======================  ===================================================  =======================================

Objects and pairs are averaged over all ranks and at least 1. They differ if objects outnumber queries.
"""

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor

from mmplugins.functional.sets.pairs import MatchedPairs


class ReleasedAverages:
    """As in the released codes of DETR, MaskFormer and Mask2Former."""

    def factors(
        self, pairs: MatchedPairs, num_objects: list[int], num_predictions: int
    ) -> tuple[Tensor | float | None, Tensor | float]:
        """Returns what each layer's cross entropy, and what the other losses are divided by; waits for no device.

        Args:
            pairs: The matched pairs.
            num_objects: Number of objects of each image.
            num_predictions: Number of queries of a layer, of all images.

        Returns:
            A number, a scalar tensor, or None for the sum of the weights; a number or a scalar tensor.
        """
        num_pairs, device = pairs.per_layer[-1], pairs.query.device
        count = self.objects(sum(num_objects), num_pairs, num_objects.count(0))
        return self.labels(num_pairs, num_predictions, device), mean_over_ranks(count, device)

    def labels(self, num_pairs: int, num_predictions: int, device: torch.device) -> Tensor | float | None:
        """Returns what the cross entropy is divided by; None: the sum of the weights."""
        return None

    def objects(self, num_objects: int, num_pairs: int, num_empty: int) -> int:
        """Returns this rank's share of what the other losses are divided by.

        Args:
            num_objects: Number of objects.
            num_pairs: Number of matched pairs of a layer.
            num_empty: Number of images without objects.
        """
        return num_objects


class DETRHeadAverages(ReleasedAverages):
    """As in mmdet's ``DETRHead``.

    Args:
        bg_cls_weight: Weight of no-object.
        sync_cls_avg_factor: Whether the divisor of the cross entropy is averaged over ranks.
    """

    def __init__(self, bg_cls_weight: float, sync_cls_avg_factor: bool = False) -> None:
        self.bg_cls_weight = bg_cls_weight
        self.sync_cls_avg_factor = sync_cls_avg_factor

    def labels(self, num_pairs: int, num_predictions: int, device: torch.device) -> Tensor | float:
        """Returns what the cross entropy is divided by."""
        factor = num_pairs + (num_predictions - num_pairs) * self.bg_cls_weight
        return mean_over_ranks(factor, device) if self.sync_cls_avg_factor else max(factor, 1)

    def objects(self, num_objects: int, num_pairs: int, num_empty: int) -> int:
        """Returns the number of matched pairs."""
        return num_pairs


class MaskHeadAverages(ReleasedAverages):
    """As in mmdet's ``MaskFormerHead`` and ``Mask2FormerHead``."""

    def objects(self, num_objects: int, num_pairs: int, num_empty: int) -> int:
        """Returns the number of matched pairs; an image without objects counts as one."""
        return num_pairs + num_empty


def mean_over_ranks(number: float, device: torch.device) -> Tensor | float:
    """Returns the mean of a number over all ranks, at least 1: a number on one rank, else a scalar tensor."""
    if get_world_size() == 1:
        return max(number, 1)
    mean = torch.full((), float(number), device=device)  # filled on the device: no copy to wait for
    all_reduce(mean, 'mean')
    return mean.clamp(min=1)
