"""Losses of a batch of short sequences.

Paper: AOT (NeurIPS 2021), section 5. Released code: ``AOTEngine.forward`` of networks/engines/aot_engine.py and
networks/managers/trainer.py.

Deliberate differences: all samples go through each loss at once, identities that a sample does not have with a logit so
low that their probability is 0; the losses are any that the config names.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmplugins.functional.device import full_precision

from .encoder import ImageFeatures
from .identity import from_slots, shuffled_slots, to_slots
from .memory import FrameMemory
from .network import AOTNetwork
from .settings import SequencePass

UNUSED = -1e10  # logit of identities that a sample has no object for; exp(UNUSED) is 0


def sequence_logits(
    network: AOTNetwork, frames: Tensor, masks: Tensor, num_objects: Tensor, settings: SequencePass
) -> list[Tensor | None]:
    """Propagates the first frame's masks through short sequences.

    1. All frames are encoded at once.
    2. The first frame is the reference; its masks are given.
    3. Every other frame is propagated and decoded, and its masks, annotated or predicted, go into the memory.

    Args:
        network: The network.
        frames: Normalised, shape (B, T, 3, H, W).
        masks: Object of each pixel, integer, shape (B, T, H, W); 255 is not valid.
        num_objects: Objects of each sample, int64, shape (B,).
        settings: What varies during training.

    Returns:
        Logits of each frame by object, (B, max_objects + 1, H, W), upsampled to the frames' size, ``UNUSED`` where a
        sample has no such object; None for a reference that is not decoded.
    """
    batch, length = frames.shape[:2]
    size = frames.shape[3:]
    features = network.encode(frames.transpose(0, 1).flatten(0, 1))  # step 1; frame by frame
    objects = torch.arange(network.max_objects + 1, device=masks.device)
    unused = objects > num_objects[:, None]  # (B, max_objects + 1)
    slots = objects.expand(batch, -1)
    if settings.shuffle:
        slots = shuffled_slots(batch, network.max_objects, masks.device)

    def decode(frame: ImageFeatures, outputs: Sequence[Tensor]) -> Tensor:
        logits = full_precision(from_slots(network.decode(frame, outputs), slots))
        return network.resize(logits.masked_fill(unused[:, :, None, None], UNUSED), size)

    memory = FrameMemory(settings.gap)
    results: list[Tensor | None] = []
    for index in range(length):
        frame = features.part(slice(index * batch, (index + 1) * batch))
        if index == 0:  # step 2
            identities = to_slots(masks[:, 0], slots)
            outputs, entries = network.reference(frame, identities, settings.own_masks)
            memory.add_reference(entries, 0)
            results.append(decode(frame, outputs) if settings.decode_reference else None)
            continue
        outputs, current = network.propagate(frame, memory)  # step 3
        results.append(decode(frame, outputs))
        if index < length - 1:
            mask = results[-1].detach().argmax(1) if settings.own_masks else masks[:, index]
            memory.update(network.fuse(current, to_slots(mask, slots), settings.own_masks), index)
    return results
