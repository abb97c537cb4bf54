"""Maps of classes from the masks of queries: each class's sum over queries of score and mask.

Papers: MaskFormer (NeurIPS 2021), Mask2Former (CVPR 2022), ``semantic_inference``. mmseg upsamples the masks of all
queries at once, takes their sigmoid into another map of that size, and adds up. Here that is done for a block of
columns (``class_scores``, the same but for the rounding of a sum) or, where only labels are asked for, of rows.

Letters: B images, Q queries, C classes, h w size of the logits, H W of the result, R rows of a block.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.compat import autocast_dtype
from mmplugins.functional.device import at_once, empty_buffer, full_precision
from mmplugins.functional.masks.resized import ResizedMasks, Window, mix, separable, sources
from mmplugins.functional.resizing import row_blocks
from mmplugins.functional.upsampled import UpsampledLogits

_CPU_ELEMENTS, _ELEMENTS = 1 << 22, 1 << 26  # of a block of columns of all queries
_LEAST_COLUMNS = 16
_CPU_ROW_ELEMENTS, _ROW_ELEMENTS = 1 << 20, 1 << 25  # of a block of rows of all queries or classes; at least a row


def class_scores(scores: Tensor, masks: UpsampledLogits) -> Tensor:
    """Adds up scores and masks at full size.

    Args:
        scores: Of each query and class, floating, (B, Q, C).
        masks: Logits that stand for (B, Q, H, W), corners not aligned.

    Returns:
        (B, C, H, W).
    """
    logits, (height, width) = masks.logits, masks.size
    halves = {logits.dtype, scores.dtype} & {torch.float16, torch.bfloat16}  # a half resizing would be rounded again
    with_grad = torch.is_grad_enabled() and (logits.requires_grad or scores.requires_grad)
    separate = separable(logits[0], (logits.shape[2], width)) and separable(logits[0], (height, _LEAST_COLUMNS))
    if not separate or halves or with_grad or autocast_dtype(logits.device.type) is not None:
        return torch.einsum('bqc,bqhw->bchw', scores, masks.full().sigmoid())
    column = max(logits.shape[1] * height, 1)
    step = max(_LEAST_COLUMNS, at_once(logits, _CPU_ELEMENTS // column, _ELEMENTS // column))
    result = empty_buffer((*scores.shape[::2], height, width), scores.dtype, scores.device)  # (B, C, H, W)
    for maps, shares, total in zip(logits, scores, result, strict=True):
        # As in resized.py: interpolate goes along a row first, so that columns may be cut in between.
        wide = F.interpolate(maps[None], (maps.shape[1], width), mode='bilinear')
        for columns in row_blocks(width, step):
            part = wide[..., columns]
            probabilities = F.interpolate(part, (height, part.shape[-1]), mode='bilinear')[0].sigmoid_()
            total[..., columns] = torch.einsum('qc,qhw->chw', shares, probabilities)
    return result


def find_classes(
    masks: ResizedMasks, scores: Tensor, window: Window | None = None, size: tuple[int, int] | None = None
) -> Tensor:
    """Finds the class with the largest sum at each pixel, without a map of sums.

    Args:
        masks: Logits.
        scores: Of each query and class, (Q, C).
        window: Rows and columns of the sums that are kept; None: all.
        size: What the sums are resized to, bilinear, corners not aligned; None: they are not.

    Returns:
        int64 (H, W).
    """
    rows, columns = window or (slice(0, masks.size[0]), slice(0, masks.size[1]))
    source = (rows.stop - rows.start, columns.stop - columns.start)
    size = size or source
    index = torch.empty(size, dtype=torch.int64, device=scores.device)
    scores = full_precision(scores)
    row = max(max(scores.shape) * max(source[1], size[1]), 1)
    for block in row_blocks(size[0], at_once(scores, _CPU_ROW_ELEMENTS // row, _ROW_ELEMENTS // row)):
        inputs = sources(block, source[0], size[0])
        needed = slice(rows.start + inputs.start, rows.start + inputs.stop)
        probabilities = full_precision(masks.rows(needed)[..., columns].sigmoid())  # (Q, R, W)
        sums = torch.einsum('qc,qrw->crw', scores.to(probabilities.dtype), probabilities)
        sums = mix(sums, -2, block, source[0], size[0], inputs.start)
        index[block] = mix(sums, -1, slice(0, size[1]), source[1], size[1]).argmax(0)
    return index
