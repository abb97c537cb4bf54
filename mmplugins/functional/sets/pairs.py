"""Matched pairs of queries and objects, of all decoder layers and images, in one copy on the device.

Shapes: L decoder layers, B images, Q queries, G objects of all images together, M matched pairs of all layers.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmplugins.functional.device import cpu_kernels, upload

IndexPairs = Sequence[Sequence[tuple[Tensor, Tensor]]]  # [layer][image] -> (query, object), as an assigner returns them


class PairBlock(NamedTuple):
    """Some pairs of one image.

    Attributes:
        image: Index of the image.
        layers: Layer of each pair; on the plain path all are the same.
        places: Where the pairs are among all: a slice, or int64 (m,) where the pairs of an object stand together.
    """

    image: int
    layers: list[int]
    places: slice | Tensor


class MatchedPairs(NamedTuple):
    """Matched pairs, ordered by layer, image and query.

    Attributes:
        layer: int64 (M,).
        image: int64 (M,).
        query: int64 (M,), index of the query in its image.
        object: int64 (M,), index of the object in its image.
        prediction: int64 (M,), index into the predictions of all layers, flattened from (L, B, Q).
        target: int64 (M,), index into the objects of all images, one image after the other.
        num_objects: int64 (B,), number of objects of each image.
        counts: Number of pairs, [layer][image], on the host.
    """

    layer: Tensor
    image: Tensor
    query: Tensor
    object: Tensor
    prediction: Tensor
    target: Tensor
    num_objects: Tensor
    counts: list[list[int]]

    @property
    def per_layer(self) -> list[int]:
        """Number of pairs of each layer."""
        return [sum(counts) for counts in self.counts]

    def last_layer(self) -> 'MatchedPairs':
        """Returns the pairs of the last layer, as those of layer 0; ``prediction`` still counts all layers."""
        rows = slice(len(self.layer) - self.per_layer[-1], None)
        indices = [part[rows] for part in self[:6]]
        return MatchedPairs(torch.zeros_like(indices[0]), *indices[1:], self.num_objects, self.counts[-1:])

    def blocks(self, limit: int) -> Iterator[PairBlock]:
        """Yields blocks of at most ``limit`` pairs of an image.

        On the plain path the pairs of a block are of one layer. On the CPU they are of all layers, and those of an
        object stand together, so that its mask stays in the processor's cache.
        """
        if cpu_kernels(self.target):
            order = self.target.argsort(stable=True)  # by image, then object
            layers = self.layer[order].tolist()
            sizes = [(image, sum(column)) for image, column in enumerate(zip(*self.counts, strict=True))]
        else:
            order, layers = None, [layer for layer, size in enumerate(self.per_layer) for _ in range(size)]
            sizes = [(image, size) for counts in self.counts for image, size in enumerate(counts)]
        first = 0
        for image, size in sizes:
            for start in range(first, first + size, limit):
                rows = slice(start, min(start + limit, first + size))
                yield PairBlock(image, layers[rows], rows if order is None else order[rows])
            first += size


def pack_pairs(pairs: IndexPairs, num_queries: int, num_objects: Sequence[int], device: torch.device) -> MatchedPairs:
    """Flattens matched pairs and sends them to the device in one copy.

    Args:
        pairs: [layer][image] -> (query, object), int64 indices on the CPU, ascending in the query.
        num_queries: Q.
        num_objects: Number of objects of each image, B entries.
        device: Where the losses are computed.

    Returns:
        The pairs on the device.

    Raises:
        ValueError: There is not one pair of index tensors for each image, on the CPU.
    """
    images = len(num_objects)
    for layer in pairs:
        if len(layer) != images:
            raise ValueError(
                f'expected matched pairs of {images} images in each layer, got {len(layer)}; '
                'assign_batch returns [layer][image] -> (query, object)'
            )
    cells = [cell for layer in pairs for cell in layer] or [torch.zeros(2, 0, dtype=torch.int64)]
    query, index = (torch.cat(part) for part in zip(*cells, strict=True))
    if query.device.type != 'cpu' or index.device.type != 'cpu':
        raise ValueError(
            f'expected matched pairs on the CPU, got {query.device} and {index.device}; an assigner returns them '
            'there, and they reach the device in one copy'
        )
    counts = [[len(query) for query, _ in layer] for layer in pairs]
    cell = torch.arange(len(pairs) * images).repeat_interleave(torch.tensor(counts, dtype=torch.int64).flatten())
    layer, image = cell // max(images, 1), cell % max(images, 1)
    first = torch.tensor([0, *num_objects[:-1]]).cumsum(0)  # of each image's objects
    rows = torch.stack((layer, image, query, index, cell * num_queries + query, first[image] + index))
    packed = torch.cat((rows.flatten(), torch.tensor(num_objects, dtype=torch.int64)))
    *parts, num_objects = upload(packed, device).split([len(query)] * 6 + [images])
    return MatchedPairs(*parts, num_objects, counts)
