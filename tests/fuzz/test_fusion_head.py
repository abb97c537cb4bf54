"""Results of MaskFormerFusionHead from random logits and sizes, beside mmdet's head, on both paths.

Pixels, segments, boxes and labels are equal bit for bit. Scores may differ in the last digit: mmdet sums the maps of
all instances together, and how torch cuts such a sum depends on their number.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from mmplugins.hosts import problem_with
from tests.fuzz.cases import BOUNDS, BROKEN, DTYPES, SEEDS, fuzz, on_both_paths, random_logits, resized_on_cpu

if problem_with('mmdet'):
    pytest.skip(str(problem_with('mmdet')), allow_module_level=True)

from mmdet.models.seg_heads import MaskFormerFusionHead as ToolboxFusionHead
from mmdet.structures import DetDataSample

from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.models.dense_heads import MaskFormerFusionHead
from tests.models.dense_heads.test_maskformer_fusion_head import assert_equal

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
ORIGINALS = st.tuples(st.integers(1, 200), st.integers(1, 200))


@fuzz(
    'MaskFormerFusionHead',
    seed=SEEDS,
    queries=st.integers(1, 7),
    classes=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    size=SIZES,
    cut=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
    original=ORIGINALS,
    kind=st.sampled_from(('normal', 'equal', 'large', 'huge', 'zero')),
    dtype=st.sampled_from(DTYPES),
    broken=st.sampled_from((None, *BROKEN)),
    low=st.booleans(),
    rescale=st.booleans(),
    filtered=st.booleans(),
    thresholds=st.tuples(st.floats(0, 0.9), st.floats(0, 1)),
)
def test_results_are_those_of_mmdet(
    seed, queries, classes, size, cut, original, kind, dtype, broken, low, rescale, filtered, thresholds
):
    generator, dtype = torch.Generator().manual_seed(seed), resized_on_cpu(dtype)
    scores = random_logits(generator, (1, queries, sum(classes) + 1), 'normal', dtype)
    masks = random_logits(generator, (1, queries, *size), kind, dtype)
    if broken is not None:
        masks[0, seed % queries, 0, 0] = broken
    padded = tuple(4 * side for side in size)
    kept = tuple(max(1, round(side * (1 - share))) for side, share in zip(padded, cut, strict=True))
    meta = dict(batch_input_shape=padded, img_shape=kept, ori_shape=original)
    cfg = dict(
        instance_on=True,
        max_per_image=min(5, queries * sum(classes)),
        object_mask_thr=thresholds[0],
        iou_thr=thresholds[1],
        filter_low_score=filtered,
    )
    full = F.interpolate(masks, padded, mode='bilinear', align_corners=False)
    given = UpsampledLogits(masks, padded) if low else full

    def compare():
        expected = ToolboxFusionHead(*classes, cfg).predict(scores, full, [DetDataSample(metainfo=meta)], rescale)
        found = MaskFormerFusionHead(*classes, cfg).predict(scores, given, [DetDataSample(metainfo=meta)], rescale)
        assert_equal(found, expected, BOUNDS[dtype])

    on_both_paths(compare)
