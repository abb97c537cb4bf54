"""Matched pairs of all decoder layers and images, as flat indices that reach the device in one copy.

Shapes: L decoder layers, B images, Q queries, G objects of all images together, M matched pairs of all layers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmplugins.functional.device import upload

Pairs = Sequence[Sequence[tuple[Tensor, Tensor]]]


class Matches(NamedTuple):
    """Matched pairs, ordered by layer, image and query.

    Attributes:
        prediction: int64 (M,), index into the predictions of all layers, flattened from (L, B, Q).
        target: int64 (M,), index into the objects of all images, one image after the other.
        query: int64 (M,), index of the query in its image.
        object: int64 (M,), index of the object in its image.
        counts: Number of pairs, [layer][image].
        numbers: int64 (N,), what else was sent along.
    """

    prediction: Tensor
    target: Tensor
    query: Tensor
    object: Tensor
    counts: list[list[int]]
    numbers: Tensor

    @property
    def per_layer(self) -> list[int]:
        """Number of pairs of each layer."""
        return [sum(counts) for counts in self.counts]

    def by_image(self) -> list[list[tuple[Tensor, Tensor]]]:
        """Gives the pairs as [layer][image] -> (query, object), views on the device."""
        flat = [count for counts in self.counts for count in counts]
        pairs = iter(zip(self.query.split(flat), self.object.split(flat), strict=True))
        return [[next(pairs) for _ in counts] for counts in self.counts]


def pack_matches(
    pairs: Pairs, num_queries: int, num_objects: Sequence[int], device: torch.device, numbers: Sequence[int] = ()
) -> Matches:
    """Flattens the matched pairs and sends them to the device in one copy.

    Args:
        pairs: [layer][image] -> (query, object), int64 indices on the CPU, ascending in the query.
        num_queries: Q.
        num_objects: Number of objects of each image, B entries.
        device: Where the losses are computed.
        numbers: Integers that are wanted on the device too.

    Returns:
        The pairs on the device.

    Raises:
        ValueError: There is not one list of pairs for each image.
    """
    for layer in pairs:
        if len(layer) != len(num_objects):
            raise ValueError(
                f'expected matched pairs of {len(num_objects)} images in each layer, got {len(layer)}; '
                'assign_batch returns [layer][image] -> (query, object)'
            )
    counts = [[len(query) for query, _ in layer] for layer in pairs]
    query = torch.cat([query for layer in pairs for query, _ in layer])
    index = torch.cat([index for layer in pairs for _, index in layer])
    block = torch.arange(len(pairs) * len(num_objects))  # layer and image, flattened
    block = block.repeat_interleave(torch.tensor([count for layer in counts for count in layer]))
    first = torch.tensor([0, *num_objects[:-1]]).cumsum(0)  # of each image's objects
    prediction = block * num_queries + query
    target = first[block % len(num_objects)] + index
    packed = torch.cat([prediction, target, query, index, torch.tensor(numbers, dtype=torch.int64)])
    sizes = [len(query)] * 4 + [len(numbers)]
    prediction, target, query, index, numbers = upload(packed, device).split(sizes)
    return Matches(prediction, target, query, index, counts, numbers)
