"""Matched pairs of mask logits and ground-truth masks, of all decoder layers and images of a batch.

A pixel that takes no part (``valid`` is False) must change nothing, whatever is predicted or drawn there. A value at
a point is made of four pixels of the mask and four logits, so a point takes part if none of the eight is ignored,
and a logit is ignored if every pixel that it covers is.

Shapes: L layers, B images, Q queries, h w size of the logits, G ground truths of an image, H W label size, P points,
M pairs of all layers.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .deferred import DeferredReads
from .mask_points import sample_masks
from .matches import upload
from .points import Participation

MaskLogits = Tensor | Sequence[Tensor]  # (L, B, Q, h, w), or L tensors (B, Q, h, w)
LEFT_OUT = -1e4  # logit of what takes no part: certain background, also in half precision
_CPU_PAIRS = 4  # pairs that are worked on together on the CPU, so that what is made of them stays in the cache


class MaskPairs(NamedTuple):
    """Where matched pairs are, ordered by layer, then by image, then as the matches have them.

    Attributes:
        layer: int64 (M,).
        image: int64 (M,).
        query: int64 (M,).
        truth: int64 (M,), the ground truth, an index into its image's masks.
        groups: On the CPU the places of the pairs of each image and ground truth, elsewhere those of each image.
        counts: Number of pairs, [layer][image].
    """

    layer: Tensor
    image: Tensor
    query: Tensor
    truth: Tensor
    groups: list[tuple[int, Tensor]]
    counts: list[list[int]]

    @property
    def per_layer(self) -> list[int]:
        """Number of pairs of each layer."""
        return [sum(counts) for counts in self.counts]

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Yields an image and the places of some of its pairs, (m,): a few of one ground truth, or all."""
        for image, places in self.groups:
            on_cpu = places.device.type == 'cpu'
            yield from ((image, part) for part in (places.split(_CPU_PAIRS) if on_cpu else [places]))


def join_pairs(
    matches: Sequence[Sequence[tuple[Tensor, Tensor]]], masks: Sequence[Tensor], num_layers: int, device: torch.device
) -> MaskPairs:
    """Joins the matches of all layers and images on the device, without waiting for it.

    Args:
        matches: [layer][image] -> (query, ground truth), int64, all on the device or all on the CPU.
        masks: Ground-truth masks (G, H, W) of each image.
        num_layers: Number of layers.
        device: The logits' device.

    Raises:
        ValueError: There is not a pair of index lists for each layer and image.
    """
    if len(matches) != num_layers or any(len(layer) != len(masks) for layer in matches):
        raise ValueError(
            f'expected matches [layer][image] -> (query, ground truth) of {num_layers} layers with {len(masks)} images '
            f'each, got {[len(layer) for layer in matches]} images'
        )
    counts = [[len(query) for query, _ in layer] for layer in matches]
    pairs = [pair for layer in matches for pair in layer] or [torch.zeros(2, 0, dtype=torch.int64)]
    query, truth = (torch.cat(indices) for indices in zip(*pairs, strict=True))
    cell = torch.arange(num_layers * len(masks)).repeat_interleave(torch.tensor(counts).flatten())  # layer and image
    layer, image = cell // len(masks), cell % len(masks)
    group = image
    if device.type == 'cpu':
        group = image * (1 + max(map(len, masks), default=0)) + truth
    group, order = group.sort(stable=True)
    sizes = group.unique_consecutive(return_counts=True)[1].tolist()
    images = image[order].tolist()
    layer, image, order = upload(torch.stack((layer, image, order)), device)
    groups, start = [], 0
    for places in order.split(sizes):
        groups.append((images[start], places))
        start += len(places)
    return MaskPairs(layer, image, upload(query, device), upload(truth, device), groups, counts)


def pair_maps(mask_logits: MaskLogits, pairs: MaskPairs, image: int, places: Tensor) -> Tensor:
    """Gathers the logits of pairs of one image, (m, h, w), float32 or float64.

    Args:
        mask_logits: (L, B, Q, h, w), or L tensors (B, Q, h, w).
        pairs: The pairs.
        image: Index of the image.
        places: int64 (m,), which pairs, as ``MaskPairs.blocks`` yields them.
    """
    layer, query = pairs.layer[places], pairs.query[places]
    if isinstance(mask_logits, Tensor):
        maps = mask_logits[layer, image, query]
    elif query.device.type == 'cpu':
        maps = torch.stack([mask_logits[i][image, j] for i, j in zip(layer.tolist(), query.tolist(), strict=True)])
    else:  # a block is all pairs of the image, layer by layer
        counts = [counts[image] for counts in pairs.counts]
        maps = torch.cat([logits[image][part] for logits, part in zip(mask_logits, query.split(counts), strict=True)])
    return maps if maps.dtype == torch.float64 else maps.float()


def participation(valid: Tensor | None, height: int, width: int) -> Participation | None:
    """Gives the function that tells which points take part.

    Args:
        valid: bool (H, W), False where a pixel takes no part; None: all take part.
        height: Of the logits.
        width: Of the logits.

    Returns:
        A function of points x,y in 0 to 1, (..., 2), that gives bool (...): True if no pixel and no logit around the
        point is ignored. None if, as far as is known without waiting for the device, all do.
    """
    if valid is None or (valid.device.type == 'cpu' and bool(valid.all())):
        return None
    pixels = ~valid.bool()
    cells = ignored_logits(valid, height, width)

    def takes_part(points: Tensor) -> Tensor:
        flat = points.reshape(-1, 2)
        found = sample_masks(pixels[None], flat)[0] + sample_masks(cells[None], flat)[0]
        return (found == 0).view(points.shape[:-1])

    return takes_part


def ignored_logits(valid: Tensor, height: int, width: int) -> Tensor:
    """Tells which logits, bool (h, w), cover ignored pixels only; see ``participation``."""
    return F.adaptive_max_pool2d(valid[None].float(), (height, width))[0] == 0


def check_masks(masks: Sequence[Tensor], num_images: int, size: Sequence[int] | None = None) -> None:
    """Checks the shapes of ground-truth masks.

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
    extremes = [
        torch.stack(mask.detach().aminmax()).double() for mask in masks if mask.dtype != torch.bool and mask.numel()
    ]
    if extremes:
        reads.push(torch.stack(extremes), _read_extremes)


def _read_extremes(extremes: Tensor) -> None:
    for low, high in extremes.tolist():
        if not (low >= 0 and high <= 1):  # written so that NaN raises
            raise ValueError(
                f'masks must be bool, or hold 0 and 1, or floats between, got {low:g} to {high:g}; threshold 8-bit '
                'masks (mask > 127), and mark pixels that take no part in valid, not by 255'
            )
