"""Checks of mask logits, of the masks of objects, and of the maps of valid pixels.

Shapes: L layers, B images, Q queries, h w size of the logits, G objects of an image, H W size of its masks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmplugins.functional.checks.labels import check_floating
from mmplugins.functional.compat import extremes
from mmplugins.functional.device import DeferredReads

MaskLogits = Tensor | Sequence[Tensor]  # (L, B, Q, h, w), or L tensors (B, Q, h, w)


def check_mask_logits(mask_logits: MaskLogits) -> list[Tensor]:
    """Checks mask logits, (L, B, Q, h, w) or L tensors (B, Q, h, w), and returns the layers, detached.

    Raises:
        ValueError: The axes or sizes do not fit.
        TypeError: They are not floating.
    """
    is_tensor = isinstance(mask_logits, Tensor)
    layers = list(mask_logits.detach()) if is_tensor else [layer.detach() for layer in mask_logits]
    if not layers or any(layer.dim() != 4 or layer.shape != layers[0].shape for layer in layers):
        raise ValueError(
            'expected mask logits (L, B, Q, h, w), or a list of L tensors (B, Q, h, w), got '
            f'{[tuple(layer.shape) for layer in layers]}'
        )
    check_floating('mask_logits', layers[0])
    return layers


def check_masks(masks: Sequence[Tensor], num_images: int, size: Sequence[int] | None = None) -> None:
    """Checks the shapes of the masks of objects.

    Args:
        masks: (G, H, W) of each image; bool, integer or floating. The size of an image without any is not looked at.
        num_images: Number of images B.
        size: Height and width that they must have, those of the padded input; None: of one another.

    Raises:
        ValueError: Their number, axes or sizes do not fit.
        TypeError: They are no tensors.
    """
    if len(masks) != num_images:
        raise ValueError(f'expected the masks of {num_images} images, a tensor (G, H, W) each, got {len(masks)}')
    for image, mask in enumerate(masks):
        if not isinstance(mask, Tensor):
            raise TypeError(
                f'expected the masks of image {image} as a tensor (G, H, W), got {type(mask).__name__}; convert '
                'BitmapMasks with .to_tensor(torch.bool, device)'
            )
        if mask.dim() != 3:
            raise ValueError(f'expected the masks of image {image} as (G, H, W), got {tuple(mask.shape)}')
        if not len(mask):
            continue
        size = tuple(mask.shape[1:]) if size is None else tuple(size)
        if tuple(mask.shape[1:]) != size:
            raise ValueError(
                f'the masks of image {image} are {tuple(mask.shape[1:])}, but the padded input, or those of an image '
                f'before it, {size} (height, width); pad them with zeros at the right and bottom, as the images are'
            )


def check_mask_values(masks: Sequence[Tensor], reads: DeferredReads) -> None:
    """Checks that masks hold 0 and 1, or floats between; on CUDA the error comes at a later call.

    Args:
        masks: Of any shape each.
        reads: Queue for the outcome.

    Raises:
        ValueError: Other values occur.
    """
    reads.poll()
    found = [extremes(mask).double() for mask in masks if mask.dtype != torch.bool and mask.numel()]
    if found:
        reads.push(torch.stack(found), _read_extremes)


def _read_extremes(found: Tensor) -> None:
    for low, high in found.tolist():
        if not (low >= 0 and high <= 1):  # written so that NaN raises
            raise ValueError(
                f'masks must be bool, or hold 0 and 1, or floats between, got {low:g} to {high:g}; threshold 8-bit '
                'masks (mask > 127), and mark pixels that take no part in valid, not by 255'
            )


def check_valid(valid: Sequence[Tensor | None] | None, masks: Sequence[Tensor]) -> None:
    """Raises ValueError if there are maps of valid pixels, but not one, (H, W), for each image."""
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
