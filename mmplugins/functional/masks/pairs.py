"""Matched pairs of mask logits and ground-truth masks, of all decoder layers and images of a batch.

Shapes: L layers, B images, Q queries, h w size of the logits, G ground truths of an image, H W label size, M pairs of
all layers.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmplugins.functional.compat import extremes
from mmplugins.functional.device import DeferredReads, upload
from mmplugins.functional.masks.ignored import Ignored

MaskLogits = Tensor | Sequence[Tensor]  # (L, B, Q, h, w), or L tensors (B, Q, h, w)
LEFT_OUT = -1e4  # logit of what takes no part: certain background, also in half precision


class PairBlock(NamedTuple):
    """Some pairs of one image: on the CPU sorted by ground truth, elsewhere of one layer.

    Attributes:
        image: Index of the image.
        layers: Layer of each pair.
        places: int64 (m,), where the pairs are among all.
    """

    image: int
    layers: list[int]
    places: Tensor


class MaskPairs(NamedTuple):
    """Where matched pairs are, ordered by layer, then by image, then as the matches have them.

    Attributes:
        layer: int64 (M,).
        image: int64 (M,).
        query: int64 (M,).
        truth: int64 (M,), the ground truth, an index into its image's masks.
        groups: The pairs by image on the CPU, those of a ground truth together; elsewhere by layer and image.
        counts: Number of pairs, [layer][image].
    """

    layer: Tensor
    image: Tensor
    query: Tensor
    truth: Tensor
    groups: list[PairBlock]
    counts: list[list[int]]

    @property
    def per_layer(self) -> list[int]:
        """Number of pairs of each layer."""
        return [sum(counts) for counts in self.counts]

    def blocks(self, number: int) -> Iterator[PairBlock]:
        """Yields the groups, at most ``number`` pairs at once."""
        for image, layers, places in self.groups:
            for start in range(0, len(layers), number):
                yield PairBlock(image, layers[start : start + number], places[start : start + number])


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
    sizes = torch.tensor(counts, dtype=torch.int64).flatten()
    cell = torch.arange(num_layers * len(masks)).repeat_interleave(sizes)  # layer and image
    layer, image = cell // max(len(masks), 1), cell % max(len(masks), 1)
    if device.type == 'cpu':
        order = (image * (1 + max(map(len, masks), default=0)) + truth).argsort(stable=True)
        group = image[order]
    else:
        group, order = cell, torch.arange(len(cell))
    sizes = group.unique_consecutive(return_counts=True)[1].tolist()
    of_layer, of_image = layer[order].split(sizes), image[order].split(sizes)
    layer, image, order = upload(torch.stack((layer, image, order)), device)
    groups = [
        PairBlock(int(images[0]), layers.tolist(), places)
        for images, layers, places in zip(of_image, of_layer, order.split(sizes), strict=True)
    ]
    return MaskPairs(layer, image, upload(query, device), upload(truth, device), groups, counts)


def pair_maps(mask_logits: MaskLogits, block: PairBlock, query: Tensor, ignored: Ignored | None = None) -> Tensor:
    """Gathers the logits of a block of pairs, (m, h, w), float32 or float64; a copy.

    Args:
        mask_logits: (L, B, Q, h, w), or L tensors (B, Q, h, w).
        block: The pairs.
        query: Query of every pair, int64 (M,).
        ignored: What takes no part in the image; its logits are set to 0.
    """
    query = query[block.places]
    if query.device.type == 'cpu':
        rows = zip(block.layers, query.tolist(), strict=True)
        maps = torch.stack([mask_logits[layer][block.image, row] for layer, row in rows])
    else:
        maps = mask_logits[block.layers[0]][block.image, query]
    maps = maps if maps.dtype == torch.float64 else maps.float()
    return maps if ignored is None else ignored.clear(maps)


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
    found = [extremes(mask).double() for mask in masks if mask.dtype != torch.bool and mask.numel()]
    if found:
        reads.push(torch.stack(found), _read_extremes)


def _read_extremes(extremes: Tensor) -> None:
    for low, high in extremes.tolist():
        if not (low >= 0 and high <= 1):  # written so that NaN raises
            raise ValueError(
                f'masks must be bool, or hold 0 and 1, or floats between, got {low:g} to {high:g}; threshold 8-bit '
                'masks (mask > 127), and mark pixels that take no part in valid, not by 255'
            )
