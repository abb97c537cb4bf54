"""Checks of set predictions and of the objects that they are compared with.

Shapes: L decoder layers, B images, Q queries, C classes, G objects of one image (all images where so said).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmplugins.functional.device import DeferredReads, full_precision

LARGEST = 10.0  # images; a normalised box is never that far out, and one in pixels always


class Objects(NamedTuple):
    """Objects of all images, one image after the other.

    Attributes:
        labels: int64 (G,), G of all images.
        boxes: (G, 4), cx,cy,w,h normalised, dtype of the predictions; None if there are none.
        counts: Number of objects of each image.
    """

    labels: Tensor
    boxes: Tensor | None
    counts: list[int]


def check_outputs(
    outputs: Mapping[str, Tensor | Sequence[Tensor]], needed: Sequence[str], num_classes: int, mask_layers: str = 'all'
) -> dict[str, Tensor | Sequence[Tensor]]:
    """Checks the shapes of what a network predicts and picks what is needed.

    Args:
        outputs: 'logits' (L, B, Q, C+1); 'boxes' (L, B, Q, 4); 'masks' (L, B, Q, h, w), a list of L tensors
            (B, Q, h, w), or (B, Q, h, w) of the last layer.
        needed: Keys that must be there, 'logits' among them.
        num_classes: C.
        mask_layers: 'all' or 'last', the layers whose masks must be there.

    Returns:
        Logits and boxes in float32 (float64 for float64); masks as they are, with an axis of layers.

    Raises:
        ValueError: A key is missing or a shape does not fit.
        TypeError: A prediction is not floating.
    """
    for key in needed:
        if key not in outputs:
            raise ValueError(
                f'outputs lack {key!r}, got {list(outputs)}; give the prediction, or take its loss out of `losses`'
            )
        for value in [outputs[key]] if isinstance(outputs[key], Tensor) else outputs[key]:
            if not torch.is_floating_point(value):
                raise TypeError(f'outputs[{key!r}] must be floating, got {value.dtype}; pass what the head computed')
    logits = outputs['logits']
    if logits.dim() != 4 or logits.shape[-1] != num_classes + 1 or 0 in logits.shape[:2]:
        raise ValueError(
            f'expected logits (L, B, Q, {num_classes + 1}): {num_classes} classes and no-object, L and B at least 1, '
            f'got {tuple(logits.shape)}; for a single layer add an axis, logits[None], and check num_classes'
        )
    if 'boxes' in needed and outputs['boxes'].shape != (*logits.shape[:3], 4):
        raise ValueError(
            f'expected boxes (L, B, Q, 4) beside logits {tuple(logits.shape)}, got {tuple(outputs["boxes"].shape)}; '
            'both must come from the same layers, images and queries'
        )
    checked = {key: full_precision(outputs[key]) for key in ('logits', 'boxes') if key in needed}
    if 'masks' in needed:
        checked['masks'] = _mask_layers(outputs['masks'], logits, mask_layers)
    return checked


def _mask_layers(masks: Tensor | Sequence[Tensor], logits: Tensor, mask_layers: str) -> Tensor | Sequence[Tensor]:
    """Checks the shapes of mask logits and gives them an axis of layers."""
    masks = masks[None] if isinstance(masks, Tensor) and masks.dim() == 4 else masks
    shapes = [tuple(layer.shape) for layer in masks]
    if any(len(shape) != 4 or shape[:2] != logits.shape[1:3] for shape in shapes):
        raise ValueError(
            f'expected masks (L, B, Q, h, w), or (B, Q, h, w) of the last layer, beside logits {tuple(logits.shape)}, '
            f'got {len(shapes)} layers of {shapes[:1]}'
        )
    if len(masks) != len(logits) and (mask_layers == 'all' or len(masks) != 1):
        raise ValueError(
            f'mask_layers={mask_layers!r} needs the masks of {len(logits)} layers, got those of {len(masks)}; '
            "give all, or the last one's with mask_layers='last'"
        )
    return masks


def join_objects(
    targets: Sequence[Mapping[str, Tensor]], needed: Sequence[str], logits: Tensor, names: Sequence[str]
) -> Objects:
    """Checks the shapes of the objects of all images and joins their labels and boxes.

    Args:
        targets: For each image 'labels' (G,), integers; and, where needed, 'boxes' (G, 4) and 'masks' (G, H, W).
        needed: Keys that must be there.
        logits: Predictions (L, B, Q, C+1) in the precision of the losses.
        names: What to call each image in a message.

    Returns:
        The objects.

    Raises:
        ValueError: There is not one target for each image, a key is missing, a shape or a device does not fit.
        TypeError: Labels are not integers.
    """
    if len(targets) != logits.shape[1]:
        raise ValueError(f'expected a target for each of {logits.shape[1]} images, got {len(targets)}')
    for target, name in zip(targets, names, strict=True):
        for key in needed:
            if key not in target:
                raise ValueError(
                    f'the target of {name} lacks {key!r}, got {list(target)}; an image without objects '
                    'has tensors of length 0'
                )
            if target[key].device != logits.device:
                raise ValueError(
                    f'{key!r} of {name} are on {target[key].device}, the predictions on {logits.device}; '
                    'move the targets to the device of the predictions'
                )
        labels = target['labels']
        if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
            error = ValueError if labels.dim() != 1 else TypeError
            raise error(f'labels of {name} must be class indices (G,), got {labels.dtype} {tuple(labels.shape)}')
        for key, shape in (('boxes', '(G, 4)'), ('masks', '(G, H, W)')):
            if key not in needed:
                continue
            found = target[key].shape
            if len(found) != shape.count(',') + 1 or found[0] != len(labels) or (key == 'boxes' and found[1] != 4):
                raise ValueError(f'expected {key} {shape} with G={len(labels)} as the labels of {name}, got {found}')
    labels = torch.cat([target['labels'] for target in targets]).long()
    boxes = torch.cat([target['boxes'] for target in targets]).to(logits.dtype) if 'boxes' in needed else None
    return Objects(labels, boxes, [len(target['labels']) for target in targets])


def valid_maps(targets: Sequence[Mapping[str, Tensor]]) -> list[Tensor | None] | None:
    """Returns the maps of valid pixels, None for an image without one; None if no image has one."""
    valid = [target.get('valid') for target in targets]
    return None if all(one is None for one in valid) else valid


def check_objects(objects: Objects, num_classes: int, names: Sequence[str], reads: DeferredReads) -> Objects:
    """Checks labels and boxes without waiting for the device.

    Args:
        objects: Objects of all images.
        num_classes: C.
        names: What to call each image in a message.
        reads: Queue for the outcome. On the CPU an error is raised at once; on CUDA when the queue is polled next.

    Returns:
        The objects; on CUDA labels out of range are the no-object class C, and invalid boxes a point in the middle,
        so that nothing fails on the device before the error is raised.

    Raises:
        ValueError: A label is not in 0..C-1; a box is not finite, has a negative size, or is not normalised. A size
            of 0 is allowed.
    """
    labels, boxes, _ = objects
    if len(labels) == 0:
        return objects
    wrong_label = (labels < 0) | (labels >= num_classes)  # (G,)
    wrong = [wrong_label]
    if boxes is not None:
        wrong_box = ~((boxes.abs() <= LARGEST).all(1) & (boxes[:, 2:] >= 0).all(1))  # (G,); a NaN compares false
        wrong.append(wrong_box)
    found = torch.stack(wrong)

    def read(found: Tensor) -> None:
        if found.any():
            raise ValueError(_message(objects, found, num_classes, names))

    if reads.push(found, read):
        return objects
    if boxes is not None:
        middle = boxes.new_full((4,), 0.5)
        middle[2:] = 0
        boxes = torch.where(wrong_box[:, None], middle, boxes)
    return Objects(torch.where(wrong_label, num_classes, labels), boxes, objects.counts)


def _message(objects: Objects, found: Tensor, num_classes: int, names: Sequence[str]) -> str:
    """Names the image and the first wrong object of a batch."""
    row, index = found.nonzero()[0].tolist()
    image = int(torch.tensor(objects.counts).cumsum(0).gt(index).nonzero()[0])
    place = f'object {index - sum(objects.counts[:image])} of {names[image]}'
    if row == 0:
        return (
            f'{place} has the label {int(objects.labels[index])}, but there are {num_classes} classes, so labels must '
            f'lie in 0..{num_classes - 1}; check num_classes and the data set'
        )
    values = ', '.join(f'{value:.6g}' for value in objects.boxes[index].tolist())
    return (
        f'{place} has the box (cx, cy, w, h) = ({values}); it must be finite, of a width and height of 0 or more, and '
        'in units of the image, 0 to 1; check the annotation and the transforms'
    )
