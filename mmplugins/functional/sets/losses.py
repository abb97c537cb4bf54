"""Losses of a set of predictions that are matched to objects, for all decoder layers at once.

Paper: DETR (ECCV 2020), section 3.1; released code: models/detr.py, ``SetCriterion``. Differences: all layers at
once; a layer whose weights sum to 0 has the loss 0.

Shapes: L decoder layers, B images, Q queries, C classes, G objects of all images together, M matched pairs of all
layers.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmplugins.functional.gradients import first_order
from mmplugins.functional.sets.boxes import aligned_overlap, cxcywh_to_xyxy
from mmplugins.functional.sets.pairs import MatchedPairs


def matched_classes(labels: Tensor, pairs: MatchedPairs, shape: Sequence[int], no_object: int) -> Tensor:
    """Returns the class of every prediction: the matched object's, or no-object.

    Args:
        labels: int64 (G,), classes of the objects.
        pairs: Matched pairs.
        shape: (L, B, Q).
        no_object: Index of the no-object class.

    Returns:
        int64 (L, B, Q).
    """
    classes = labels.new_full((shape[0] * shape[1] * shape[2],), no_object)
    return classes.index_copy_(0, pairs.prediction, labels[pairs.target]).view(*shape)


def classification_loss(
    logits: Tensor, classes: Tensor, class_weight: Tensor, avg_factor: Tensor | float | None = None
) -> Tensor:
    """Weighted cross entropy of each layer.

    Args:
        logits: (L, B, Q, C+1), the last one for no-object.
        classes: int64 (L, B, Q), in 0..C.
        class_weight: (C+1,), dtype of the logits.
        avg_factor: What each layer's sum is divided by, a scalar; None: the sum of its predictions' weights.

    Returns:
        (L,); attached to the logits.
    """
    weight = class_weight[classes]  # (L, B, Q)
    loss = _CrossEntropy.apply(logits, classes.unsqueeze(-1), weight.unsqueeze(-1))  # (L, B, Q, 1)
    if avg_factor is None:
        avg_factor = weight.flatten(1).sum(1)
        avg_factor = avg_factor.masked_fill(avg_factor == 0, 1)
    return loss.flatten(1).sum(1) / avg_factor


class _CrossEntropy(torch.autograd.Function):
    """Weighted cross entropy of each row of logits, with a third less memory in the backward pass than torch's.

    The gradient of a row is weight * (softmax - one-hot), made in one buffer; torch's operators make two.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
        log_prob = logits.log_softmax(-1)
        ctx.save_for_backward(log_prob, classes, weight)
        return -weight * log_prob.gather(-1, classes)

    @staticmethod
    @first_order('classification_loss')
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        log_prob, classes, weight = ctx.saved_tensors
        scale = grad * weight
        gradient = log_prob.exp().mul_(scale)
        # scatter_add_ would do the same, but on CUDA not for those who ask torch for deterministic algorithms.
        return gradient.scatter_(-1, classes, gradient.gather(-1, classes) - scale), None, None


def box_losses(
    boxes: Tensor, target_boxes: Tensor, pairs: MatchedPairs, avg_factor: Tensor | float
) -> tuple[Tensor, Tensor]:
    """L1 and generalised IoU losses of the matched boxes of each layer.

    Args:
        boxes: (L, B, Q, 4), cx,cy,w,h, normalised.
        target_boxes: (G, 4), cx,cy,w,h, normalised.
        pairs: Matched pairs.
        avg_factor: What each layer's sum is divided by: the number of objects.

    Returns:
        L1 and 1 - GIoU, (L,) each; 0 and attached to the boxes where nothing is matched.
    """
    predicted = boxes.flatten(0, 2).index_select(0, pairs.prediction)  # (M, 4)
    target = target_boxes[pairs.target]  # (M, 4)
    distance = (predicted - target).abs().sum(1)  # (M,)
    overlap = aligned_overlap(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target))  # (M,)
    both = torch.stack((distance, 1 - overlap))  # (2, M)
    both = torch.stack([part.sum(1) for part in both.split(pairs.per_layer, dim=1)], dim=1)  # (2, L)
    return (both / avg_factor).unbind()


def class_error(predicted: Tensor, classes: Tensor, no_object: int, num_matched: int) -> Tensor:
    """Share of the matched queries whose best class is wrong, for the log.

    Args:
        predicted: int64 (B, Q), best class, no-object included.
        classes: int64 (B, Q), class of the matched object, or no-object.
        no_object: Index of the no-object class.
        num_matched: Number of matched queries.

    Returns:
        Scalar, in percent; 100 where nothing is matched, as released.
    """
    correct = ((predicted == classes) & (classes != no_object)).sum()
    return 100 - 100 * correct / max(num_matched, 1)


def cardinality_error(predicted: Tensor, num_objects: Tensor, no_object: int) -> Tensor:
    """Mean difference between the numbers of predicted objects and of objects of an image, for the log.

    Args:
        predicted: int64 (B, Q), best class, no-object included.
        num_objects: int64 (B,).
        no_object: Index of the no-object class.

    Returns:
        Scalar.
    """
    return ((predicted != no_object).sum(1) - num_objects).abs().float().mean()


def name_by_layer(values: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Names losses by their layer, as mmdet does.

    Args:
        values: By name, (L,) each, or (1,) for a loss that only the last layer has.
        num_layers: L.

    Returns:
        Scalars: the last layer's under their own names, and before the name of another's stands ``d{i}.``
    """
    named = {}
    values = {name: value.unbind() for name, value in values.items()}
    for layer in [num_layers - 1, *range(num_layers - 1)]:
        for name, layers in values.items():
            place = layer - num_layers + len(layers)
            if place >= 0:
                named[name if layer == num_layers - 1 else f'd{layer}.{name}'] = layers[place]
    return named
