"""Targets of heads that predict masks: bool masks of things and stuff, and the valid pixels.

mmdet's own (``preprocess_panoptic_gt``) makes int64 masks, eight bytes a pixel and object. Here a mask has one byte a
pixel from the pipeline on, and an image's bitmaps are used where they lie.

Shapes: G objects of an image, H W size of the padded input.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmdet.structures.mask import BaseInstanceMasks
from mmengine.structures import InstanceData
from torch import Tensor

from mmplugins.functional.device import upload
from mmplugins.functional.masks.classes import class_masks, present_classes

IGNORED = 255  # label of pixels without a class, in mmdet's semantic maps


def mask_tensor(masks: BaseInstanceMasks | Tensor, device: torch.device) -> Tensor:
    """Returns masks as bool, without a copy where they are bitmaps of 0 and 1 on the host.

    Args:
        masks: mmdet's BitmapMasks or PolygonMasks, or a tensor (G, H, W); what is not 0 is foreground.
        device: Where they go.

    Returns:
        bool (G, H, W).
    """
    if isinstance(masks, Tensor):
        return (masks if masks.dtype == torch.bool else masks != 0).to(device, non_blocking=True)
    array = masks.to_ndarray()
    if array.dtype != np.bool_:
        zero_or_one = array.dtype == np.uint8 and (array.size == 0 or array.max() <= 1)
        array = array.view(np.bool_) if zero_or_one else array != 0
    return torch.from_numpy(array).to(device, non_blocking=True)


def panoptic_targets(
    instances: Sequence[InstanceData], sem_segs: Sequence[Tensor | None], num_things: int, num_stuff: int
) -> list[InstanceData]:
    """Joins the masks of things with those of the stuff in semantic maps.

    Args:
        instances: For each image ``labels`` (G,) and ``masks``, see ``mask_tensor``.
        sem_segs: For each image a semantic map (1, H, W) whose labels num_things to num_things + num_stuff - 1 are
            stuff, or None.
        num_things: Number of classes of things.
        num_stuff: Number of classes of stuff.

    Returns:
        For each image ``labels`` and ``masks``, bool (n, H, W): things, then stuff.

    Raises:
        ValueError: A semantic map and the masks differ in size, or an instance and the map have one class of stuff.
    """
    maps = [None if seg is None or num_stuff == 0 else seg.squeeze(0) for seg in sem_segs]
    found = iter(present_classes([one for one in maps if one is not None], num_things + num_stuff, IGNORED))
    stuff_classes = [[] if one is None else [index for index in next(found)[0] if index >= num_things] for one in maps]
    if any(stuff_classes):  # the host has waited for the maps already
        _check_things(instances, stuff_classes, num_things)
    targets = []
    for things, stuff_map, stuff in zip(instances, maps, stuff_classes, strict=True):
        labels = things.labels
        if not stuff:
            targets.append(InstanceData(labels=labels, masks=mask_tensor(things.masks, labels.device)))
            continue
        masks = torch.empty(len(labels) + len(stuff), *stuff_map.shape, dtype=torch.bool, device=labels.device)
        if len(labels):
            thing_masks = mask_tensor(things.masks, labels.device)
            if thing_masks.shape[1:] != stuff_map.shape:
                raise ValueError(
                    f'masks {tuple(thing_masks.shape[1:])} and semantic map {tuple(stuff_map.shape)} of an image must '
                    'have one size; set pad_mask=True and pad_seg=True in the data preprocessor'
                )
            masks[: len(labels)] = thing_masks
        class_masks(stuff_map, stuff, out=masks[len(labels) :])
        targets.append(
            InstanceData(
                labels=torch.cat((labels, upload(torch.tensor(stuff, dtype=labels.dtype), labels.device))), masks=masks
            )
        )
    return targets


def _check_things(instances: Sequence[InstanceData], stuff_classes: Sequence[Sequence[int]], num_things: int) -> None:
    """Raises ValueError if an instance and the semantic map have one class of stuff.

    That is so where annotations list stuff before things. Masks of stuff among the instances are right where the map
    has none, as ``SplitPanopticMap`` leaves them.
    """
    labels = torch.cat([one.labels for one in instances]).tolist()
    for index, (one, stuff) in enumerate(zip(instances, stuff_classes, strict=True)):
        of_image, labels = labels[: len(one.labels)], labels[len(one.labels) :]
        twice = sorted(set(of_image) & set(stuff))
        if twice:
            raise ValueError(
                f'image {index} of the batch has an instance of class {twice[0]}, and its semantic map has the class '
                f'too; things have the labels 0 to {num_things - 1} (num_things_classes={num_things}); classes are in '
                "the order of the annotations' categories: list things before stuff there and in metainfo"
            )


def valid_pixels(
    size: Sequence[int],
    device: torch.device,
    img_meta: Mapping,
    sem_seg: Tensor | None = None,
    ignore_index: int = IGNORED,
    crowds: BaseInstanceMasks | Tensor | None = None,
) -> Tensor:
    """Returns which pixels of an image are valid in matching and losses.

    Args:
        size: H and W.
        device: Where the map goes.
        img_meta: ``img_shape``, height and width before padding; all is image where it is missing.
        sem_seg: Semantic map (1, h, w), h and w at most H and W.
        ignore_index: Label of ignored pixels in the semantic map.
        crowds: Masks (n, h, w) of ignored regions.

    Returns:
        bool (H, W): False in the padding, where the label is ``ignore_index``, and in crowds.
    """
    height, width = img_meta.get('img_shape', size)[:2]
    valid = torch.zeros(*size, dtype=torch.bool, device=device)
    valid[:height, :width] = True
    if sem_seg is not None:
        rows, columns = sem_seg.shape[-2:]
        valid[:rows, :columns] &= sem_seg.reshape(rows, columns).to(device) != ignore_index
    if crowds is not None and len(crowds):
        crowd = mask_tensor(crowds, device).any(0)
        valid[: crowd.shape[0], : crowd.shape[1]] &= ~crowd
    return valid


def check_masks(instances: Sequence[InstanceData], img_metas: Sequence[Mapping]) -> None:
    """Raises ValueError if an image comes without masks, as box annotations do; it names the image.

    Args:
        instances: For each image ``masks``, if all is well.
        img_metas: For each image ``img_path``, if known.
    """
    for index, (one, meta) in enumerate(zip(instances, img_metas, strict=True)):
        if 'masks' not in one:
            name = meta.get('img_path') or f'image {index} of the batch'
            raise ValueError(
                f'{name} has no masks (gt_instances holds {", ".join(sorted(one.keys())) or "nothing"}), and this head '
                'learns masks: set with_mask=True in LoadAnnotations; if the data has boxes alone, take a detector of '
                'boxes (DETRHead)'
            )


def check_sizes(targets: Sequence[InstanceData], img_metas: Sequence[Mapping]) -> None:
    """Checks that masks have the size of the padded input, where that is known.

    Args:
        targets: For each image ``masks`` (G, H, W).
        img_metas: For each image, if known, ``batch_input_shape``, height and width.

    Raises:
        ValueError: They have not; it names the image.
    """
    for index, (target, meta) in enumerate(zip(targets, img_metas, strict=True)):
        size = meta.get('batch_input_shape')
        if size is not None and len(target.masks) and tuple(target.masks.shape[-2:]) != tuple(size[-2:]):
            name = meta.get('img_path') or f'image {index} of the batch'
            raise ValueError(
                f'the masks of {name} are {tuple(target.masks.shape[-2:])}, but the padded input is '
                f'{tuple(size[-2:])} (height, width); set pad_mask=True in the data preprocessor, and pad_seg=True '
                'where there are semantic maps'
            )
