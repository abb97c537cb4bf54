"""What the losses on masks share: the call, the layers of a set criterion, and losses given as configs."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmplugins.functional.device import DeferredReads
from mmplugins.functional.masks.ignored import Ignored, find_ignored
from mmplugins.functional.masks.pairs import (
    LEFT_OUT,
    MaskLogits,
    MaskPairs,
    check_mask_values,
    check_masks,
    join_pairs,
)
from mmplugins.registry import MODELS

from .base import check_floating

Losses = tuple[Tensor, Tensor]


class BaseMaskLoss(nn.Module, metaclass=ABCMeta):
    """Base class of the losses between mask logits and ground-truth masks.

    Losses of mmdet that the built-in ones equal up to ``loss_weight`` are not called: the built-in ones are faster.

    Args:
        loss_mask: A registered loss's config, or a module, instead of the built-in one; called as mmdet's heads do.
        loss_dice: Likewise.

    Attributes:
        mask_weight: Factor of the built-in loss instead of ``loss_mask``; None: ``loss_mask`` is called.
        dice_weight: Likewise.
    """

    same_mask: tuple[str, dict] = ('', {})  # type of mmdet and settings under which it is the built-in loss
    same_dice = (
        'DiceLoss',
        {'use_sigmoid': True, 'activate': True, 'reduction': 'mean', 'naive_dice': True, 'eps': 1.0},
    )

    def __init__(self, loss_mask: dict | nn.Module | None = None, loss_dice: dict | nn.Module | None = None) -> None:
        super().__init__()
        self.loss_mask = MODELS.build(loss_mask) if isinstance(loss_mask, dict) else loss_mask
        self.loss_dice = MODELS.build(loss_dice) if isinstance(loss_dice, dict) else loss_dice
        self.mask_weight = built_in_weight(self.loss_mask, *self.same_mask)
        self.dice_weight = built_in_weight(self.loss_dice, *self.same_dice)
        self._reads = DeferredReads()

    def single_layer(
        self,
        mask_logits: Tensor,
        masks: Tensor,
        avg_factor: Tensor | float | None,
        point_coords: Tensor | None,
        valid: Tensor | None,
        **kwargs,
    ) -> dict[str, Tensor]:
        """Computes the losses of M logit maps and their masks; see the subclasses' ``forward``."""
        check_floating('mask_logits', mask_logits)
        if mask_logits.dim() != 3 or masks.dim() != 3 or len(mask_logits) != len(masks):
            raise ValueError(
                'expected mask logits (M, h, w) and as many masks (M, H, W), got '
                f'{tuple(mask_logits.shape)} and {tuple(masks.shape)}; take the matched ones of both'
            )
        every = torch.arange(len(masks))
        avg_factor = max(len(masks), 1) if avg_factor is None else avg_factor
        coords = None if point_coords is None else [point_coords]
        if valid is not None and valid.dim() == 3:  # a map each: M images of one mask
            matches, masks, valid = [[(every[:1] * 0, every[:1] * 0)] * len(masks)], masks.split(1), valid.unbind()
            mask_logits = mask_logits[None, :, None]
        else:
            matches, masks, valid = [[(every, every)]], [masks], None if valid is None else [valid]
            mask_logits = mask_logits[None, None]
        losses = self.layer_losses(mask_logits, masks, matches, avg_factor, coords, valid, **kwargs)
        return {name: value[0] for name, value in losses.items()}

    def layer_losses(
        self,
        mask_logits: MaskLogits,
        masks: Sequence[Tensor],
        matches: Sequence[Sequence[tuple[Tensor, Tensor]]],
        avg_factor: Tensor | float,
        point_coords: Sequence[Tensor] | None = None,
        valid: Sequence[Tensor | None] | None = None,
        **kwargs,
    ) -> dict[str, Tensor]:
        """Computes the losses of the matched pairs of every decoder layer.

        Args:
            mask_logits: (L, B, Q, h, w), or a list of L tensors (B, Q, h, w), which saves a copy where layers come
                apart.
            masks: (G, H, W) of each image, bool, integer 0 and 1, or floating in [0, 1]; never copied at full size.
            matches: [layer][image] -> (query, ground truth), int64 indices on the logits' device or the CPU.
            avg_factor: What the sum over a layer's pairs is divided by, as in mmdet with float32's epsilon added.
            point_coords: For each layer points x,y in 0 to 1, (M, P, 2), a row for each pair, image by image as in
                ``matches``; None: the loss chooses. Only for losses on points.
            valid: For each image bool (H, W), False where pixels take no part, or None.
            **kwargs: What the loss takes beside; see its ``pair_losses``.

        Returns:
            ``loss_mask`` and ``loss_dice``, (L,) each; 0 and attached to the logits in a layer without pairs.

        Raises:
            ValueError: Shapes do not fit, or masks hold other values (on CUDA at one of the next calls).
            TypeError: Logits that are not floating.
        """
        layers = check_logits(mask_logits)
        check_masks(masks, layers[0].shape[0])
        check_mask_values(masks, self._reads)
        check_valid(valid, masks)
        device = layers[0].device
        with torch.autocast(device.type, enabled=False):
            pairs = join_pairs(matches, masks, len(layers), device)
            ignored = find_ignored(valid, len(masks), layers[0].shape[-2:])
            losses = self.pair_losses(mask_logits, masks, pairs, avg_factor, point_coords, ignored, **kwargs)
        return dict(zip(('loss_mask', 'loss_dice'), losses, strict=True))

    @abstractmethod
    def pair_losses(
        self,
        mask_logits: MaskLogits,
        masks: Sequence[Tensor],
        pairs: MaskPairs,
        avg_factor: Tensor | float,
        point_coords: Sequence[Tensor] | None,
        ignored: Sequence[Ignored | None],
    ) -> Losses:
        """Computes both losses of every layer, (L,) each; takes what ``layer_losses`` takes, checked."""

    def train(self, mode: bool = True) -> 'BaseMaskLoss':
        """Sets the mode; before an evaluation, raises what checks on the device have found so far."""
        if not mode:
            self._reads.flush()
        return super().train(mode)


def built_in_weight(loss: nn.Module | None, name: str, settings: dict) -> float | None:
    """Gives the factor with which the built-in loss equals a given one, or None if it does not.

    Args:
        loss: A module; None is the built-in loss itself.
        name: Type of mmdet that can be equal.
        settings: Attributes that it must have.
    """
    if loss is None:
        return 1.0
    if type(loss).__name__ != name or not type(loss).__module__.startswith('mmdet.models.losses.'):
        return None
    missing = object()
    same = all(getattr(loss, key, missing) == value for key, value in settings.items())
    return float(loss.loss_weight) if same else None


def mean_over(value: Tensor, avg_factor: Tensor | float) -> Tensor:
    """Divides the sum of a value of each pair, (M,); as in mmdet with float32's epsilon, so that 0 is allowed."""
    return value.sum() / (avg_factor + torch.finfo(torch.float32).eps)


def call_loss_mask(
    loss: nn.Module, logits: Tensor, target: Tensor, weight: Tensor | None, avg_factor: Tensor | float
) -> Tensor:
    """Calls a registered loss on elements, as mmdet's Mask2FormerHead does.

    Args:
        loss: The loss.
        logits: (M, P).
        target: (M, P).
        weight: 0 or 1 for each element, (M, P), or None; each row's weights are scaled so that its mean is over those
            that count.
        avg_factor: What the sum over pairs is divided by.
    """
    if not logits.numel():
        return logits.sum()
    avg_factor = avg_factor * logits.shape[1]
    if weight is None:
        return loss(logits.flatten(), target.flatten(), avg_factor=avg_factor)
    weight = weight * (logits.shape[1] / weight.sum(1, keepdim=True).clamp(min=1))
    return loss(logits.flatten(), target.flatten(), weight.flatten(), avg_factor=avg_factor)


def call_loss_dice(
    loss: nn.Module, logits: Tensor, target: Tensor, weight: Tensor | None, avg_factor: Tensor | float
) -> Tensor:
    """Calls a registered loss on masks, as mmdet's heads do; elements left out are certain background.

    Takes what ``call_loss_mask`` takes.
    """
    if not logits.numel():
        return logits.sum()
    if weight is not None:
        logits, target = logits.masked_fill(weight == 0, LEFT_OUT), target.masked_fill(weight == 0, 0)
    return loss(logits, target, avg_factor=avg_factor)


def check_logits(mask_logits: MaskLogits) -> list[Tensor]:
    """Checks mask logits, (L, B, Q, h, w) or L tensors (B, Q, h, w), and returns the layers.

    Raises:
        ValueError: The axes or sizes do not fit.
        TypeError: They are not floating.
    """
    layers = list(mask_logits.detach() if isinstance(mask_logits, Tensor) else mask_logits)
    if not layers or any(layer.dim() != 4 or layer.shape != layers[0].shape for layer in layers):
        raise ValueError(
            'expected mask logits (L, B, Q, h, w), or a list of L tensors (B, Q, h, w), got '
            f'{[tuple(layer.shape) for layer in layers]}'
        )
    check_floating('mask_logits', layers[0])
    return layers


def check_valid(valid: Sequence[Tensor | None] | None, masks: Sequence[Tensor]) -> None:
    """Raises ValueError if there are maps of the pixels that take part, but not one, (H, W), for each image."""
    if valid is None:
        return
    if len(valid) != len(masks):
        raise ValueError(f'expected valid of {len(masks)} images, (H, W) or None each, got {len(valid)}')
    for image, (pixels, mask) in enumerate(zip(valid, masks, strict=True)):
        if pixels is not None and (pixels.dim() != 2 or (len(mask) and pixels.shape != mask.shape[1:])):
            raise ValueError(
                f'expected valid of image {image} as (H, W) like its masks, {tuple(mask.shape[1:])}, got '
                f'{tuple(pixels.shape)}'
            )
