"""What every match cost shares: mmdet's call, a weight, and stacked decoder layers."""

from abc import ABCMeta, abstractmethod

from torch import Tensor


class BaseMatchCost(metaclass=ABCMeta):
    """Base class of the match costs.

    A cost takes one image: predictions (Q, ...), as mmdet's does, or the predictions of all decoder layers,
    (L, Q, ...), at once. It is differentiable; the assigner asks for no gradient.

    Args:
        weight: Factor of the cost.

    Attributes:
        stacks_layers: Tells an assigner that the cost takes stacked layers.
    """

    stacks_layers = True

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    @abstractmethod
    def __call__(self, pred_instances, gt_instances, img_meta: dict | None = None, **kwargs) -> Tensor:
        """Computes the cost of every pair, in float32 (float64 for float64).

        Args:
            pred_instances: mmengine's InstanceData, or anything with the attributes that the class names.
            gt_instances: Likewise.
            img_meta: The image's meta information.
            **kwargs: What other costs of the same assigner take; ignored here unless the class says so.

        Returns:
            Costs times ``weight``, shape (Q, G), or (L, Q, G) for stacked layers.
        """

    def __repr__(self) -> str:
        settings = ', '.join(f'{name}={value!r}' for name, value in vars(self).items())
        return f'{type(self).__name__}({settings})'


def box_tensor(boxes) -> Tensor:
    """Returns boxes as a tensor; mmdet's box types hold theirs in ``tensor``."""
    return boxes if isinstance(boxes, Tensor) else boxes.tensor


def flat_masks(
    pred_instances, gt_instances, valid: Tensor | None = None, stacked: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Flattens the height and width of masks, or leaves points as they are.

    Args:
        pred_instances: ``masks`` (Q, P) or (Q, h, w); stacked (L, Q, P) or (L, Q, h, w).
        gt_instances: ``masks`` (G, P) or (G, h, w); with stacked predictions also (L, G, P) or (L, G, h, w).
        valid: (P,) or (h, w); with stacked predictions also (L, P) or (L, h, w); or None.
        stacked: Whether the predictions are of all layers.

    Returns:
        Predictions (..., Q, P), objects (..., G, P), valid (..., P) or None.

    Raises:
        ValueError: The masks do not have as many axes.
    """
    pred, masks = pred_instances.masks, gt_instances.masks
    layers = 1 if stacked else 0
    size = pred.dim() - layers - 1  # number of axes that make up P
    if size < 1 or not size + 1 <= masks.dim() <= size + 1 + layers:
        raise ValueError(
            f'expected masks of objects (G, P) or (G, h, w) beside predictions (Q, P) or (Q, h, w), got '
            f'{tuple(masks.shape)} beside {tuple(pred.shape)} with stacked={stacked}; predictions of all layers need '
            'stacked=True'
        )
    return pred.flatten(-size), masks.flatten(-size), None if valid is None else valid.flatten(-size)
