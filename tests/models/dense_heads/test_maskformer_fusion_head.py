"""Results of our fusion head are mmdet's, bit for bit, from low-resolution logits and from full ones, on both paths."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmdet', reason='the head stands on that of mmdet')

from mmdet.evaluation import CocoMetric
from mmdet.models.seg_heads import MaskFormerFusionHead as ToolboxFusionHead
from mmdet.structures import DetDataSample
from mmdet.structures.mask import encode_mask_results

from mmplugins.functional.device import plain_path
from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.models.dense_heads import MaskFormerFusionHead
from tests.models.mask_models import build, raw_batch, small_detector
from tests.precisions import FLOAT16

THINGS, STUFF = 4, 2
PATHS = pytest.mark.parametrize('path', [nullcontext, plain_path])
CFG = dict(panoptic_on=True, instance_on=True, max_per_image=12, object_mask_thr=0.3, iou_thr=0.5)
PADDED = (64, 96)


def samples(rescale=True):
    """Two images of two sizes in one batch, one enlarged and one shrunk afterwards."""
    shapes = [((60, 96), (83, 120)), ((64, 90), (41, 57))]
    metas = [dict(batch_input_shape=PADDED, img_shape=image, ori_shape=original) for image, original in shapes]
    return [DetDataSample(metainfo=meta) for meta in metas]


def logits(kind='smooth', queries=10, size=(16, 24), seed=0, dtype=torch.float32):
    """Class and mask logits of two images: most queries sure of a class, masks smooth or noise."""
    generator = torch.Generator().manual_seed(seed)
    scores = 4 * torch.randn(2, queries, THINGS + STUFF + 1, generator=generator)
    masks = 8 * torch.randn(2, queries, 4, 5, generator=generator)
    if kind == 'noise':
        masks = 5 * torch.randn(2, queries, *size, generator=generator)
    elif kind == 'ties':
        masks = masks[:, :1].round().expand(-1, queries, -1, -1)
        scores = scores[:, :1].expand(-1, queries, -1).clone()
    elif kind == 'quiet':
        masks = -masks.abs() - 1
    return scores.to(dtype), F.interpolate(masks, size, mode='bilinear').to(dtype)


def full(masks):
    return F.interpolate(masks, PADDED, mode='bilinear', align_corners=False)


def both(scores, masks, cfg=CFG, rescale=True, low=True):
    ours = MaskFormerFusionHead(THINGS, STUFF, cfg)
    theirs = ToolboxFusionHead(THINGS, STUFF, cfg)
    given = UpsampledLogits(masks, PADDED) if low else full(masks)
    return ours.predict(scores, given, samples(), rescale), theirs.predict(scores, full(masks), samples(), rescale)


def assert_equal(ours, theirs, score_error=0.0):
    """Compares results bit for bit, but for a relative error of the scores."""
    for one, other in zip(ours, theirs, strict=True):
        assert list(one) == list(other)
        pairs = []
        if 'pan_results' in other:
            pairs.append((one['pan_results'].sem_seg, other['pan_results'].sem_seg))
        if 'ins_results' in other:
            names = ('bboxes', 'labels', 'scores', 'masks')
            pairs += [(getattr(one['ins_results'], name), getattr(other['ins_results'], name)) for name in names]
        for value, expected in pairs:
            assert value.dtype == expected.dtype
            error = score_error if value.is_floating_point() and value.dim() == 1 else 0.0
            torch.testing.assert_close(value, expected, rtol=error, atol=0, equal_nan=True)


# values


@PATHS
@pytest.mark.parametrize('low', [True, False])
@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('kind', ['smooth', 'noise', 'ties', 'quiet'])
def test_results_are_the_toolboxes(kind, rescale, low, path):
    with path():
        ours, theirs = both(*logits(kind), rescale=rescale, low=low)
    assert_equal(ours, theirs)
    segments = theirs[0]['pan_results'].sem_seg.unique()
    assert len(segments) > (1 if kind in ('smooth', 'noise') else 0)
    if kind != 'ties':
        assert theirs[0]['ins_results'].masks.any() == (kind != 'quiet')


@PATHS
@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('filtered', [True, False])
@pytest.mark.parametrize(('score', 'iou'), [(0.0, 0.0), (0.8, 0.8)])
def test_thresholds(score, iou, filtered, seed, path):
    cfg = dict(CFG, object_mask_thr=score, iou_thr=iou, filter_low_score=filtered, max_per_image=5)
    with path():
        assert_equal(*both(*logits(seed=seed), cfg))


@PATHS
@pytest.mark.parametrize('dtype', [torch.bfloat16, FLOAT16, torch.float64])
def test_other_precisions(dtype, path):
    with path():
        assert_equal(*both(*logits(dtype=dtype)))


@PATHS
@pytest.mark.parametrize('seed', range(3))
def test_large_maps_of_which_windows_are_resized(seed, path, monkeypatch):
    monkeypatch.setattr('tests.models.dense_heads.test_maskformer_fusion_head.PADDED', (256, 352))
    sample = DetDataSample(metainfo=dict(batch_input_shape=(256, 352), img_shape=(250, 340), ori_shape=(300, 410)))
    scores, masks = logits(size=(64, 88), seed=seed)
    theirs = ToolboxFusionHead(THINGS, STUFF, CFG).predict(scores[:1], full(masks[:1]), [sample], rescale=True)
    with path():
        lazy = UpsampledLogits(masks[:1], (256, 352))
        assert_equal(MaskFormerFusionHead(THINGS, STUFF, CFG).predict(scores[:1], lazy, [sample], rescale=True), theirs)


def test_several_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        scores, masks = logits(size=(64, 96))
        for limit in (1, 12):
            assert_equal(*both(scores, masks, dict(CFG, max_per_image=limit)))
    finally:
        torch.set_num_threads(before)


@PATHS
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_logits_that_are_not_finite_give_what_they_give_in_mmdet(value, path):
    scores, masks = logits()
    masks[0, ::2, 3, 5] = value
    with path():
        assert_equal(*both(scores, masks))
        rle, _ = both(scores, masks, dict(CFG, mask_format='rle'))
    assert rle[0]['ins_results'].masks == encode_mask_results(both(scores, masks)[1][0]['ins_results'].masks.numpy())


def test_no_query_and_no_thing():
    scores, masks = logits()
    scores[..., -1] += 50
    ours, theirs = both(scores, masks)
    assert_equal(ours, theirs)
    assert (ours[0]['pan_results'].sem_seg == THINGS + STUFF).all()
    scores[..., :THINGS] -= 99
    ours, theirs = both(scores, masks)
    assert_equal(ours, theirs)
    assert len(ours[0]['ins_results']) == 0


def test_one_query_and_settings_that_are_left_out():
    scores, masks = logits(queries=1)
    assert_equal(*both(scores, masks, dict(instance_on=True, max_per_image=1)))
    assert_equal(*both(scores, masks, dict(panoptic_on=False)))
    assert MaskFormerFusionHead(THINGS, STUFF).loss() == {}


# what is ours


@PATHS
@pytest.mark.parametrize('kind', ['smooth', 'quiet'])
def test_rle_is_what_pycocotools_makes_of_the_masks(kind, path):
    with path():
        ours, theirs = both(*logits(kind), dict(CFG, mask_format='rle'))
    for one, other in zip(ours, theirs, strict=True):
        found, expected = one['ins_results'], other['ins_results']
        assert found.masks == encode_mask_results(expected.masks.numpy())
        assert torch.equal(found.scores, expected.scores)
        assert len(found[found.scores > 0.1].masks) == int((expected.scores > 0.1).sum())


def test_coco_metric_takes_rle_as_it_takes_masks():
    results = []
    for form in ('bool', 'rle'):
        ours, _ = both(*logits(), dict(CFG, mask_format=form))
        metric = CocoMetric(metric='segm')
        predictions = dict(ours[0]['ins_results'].items())
        metric._coco_api = object()  # the truth is not looked at before the end
        metric.process({}, [dict(img_id=0, ori_shape=(83, 120), pred_instances=predictions)])
        results.append(metric.results[0][1]['masks'])
    assert results[0] == results[1]


@PATHS
def test_semantic_result_is_the_largest_sum(path):
    scores, masks = logits()
    given = samples()
    head = MaskFormerFusionHead(THINGS, STUFF, dict(panoptic_on=False, semantic_on=True))
    with path():
        assert head.predict(scores, UpsampledLogits(masks, PADDED), given, rescale=True) == [{}, {}]
    for index, sample in enumerate(given):
        (height, width), original = sample.img_shape, sample.ori_shape
        maps = F.interpolate(full(masks)[index : index + 1, :, :height, :width], original, mode='bilinear')[0]
        sums = torch.einsum('qc,qhw->chw', scores[index].softmax(-1)[:, :-1], maps.sigmoid())
        best = sums.topk(2, 0).values
        sure = best[0] - best[1] > 1e-5
        label = sample.pred_sem_seg.sem_seg
        assert label.shape == (1, *original)
        assert sure.float().mean() > 0.99
        assert torch.equal(label[0][sure], sums.argmax(0)[sure])


def test_mmdets_fusion_head_behind_our_head_and_ours_behind_mmdets():
    scores, masks = logits()
    lazy = UpsampledLogits(masks, PADDED)
    theirs = ToolboxFusionHead(THINGS, STUFF, CFG)
    assert_equal(theirs.predict(scores, lazy, samples(), True), theirs.predict(scores, full(masks), samples(), True))
    assert torch.equal(lazy[1], full(masks)[1])
    with pytest.raises(TypeError, match=r'indexed by the number of an image, got slice.*full\(\) upsamples'):
        lazy[:1]


@pytest.mark.parametrize('model', ['MaskFormer', 'Mask2Former'])
def test_a_detector_predicts_what_it_does_with_mmdets_fusion_head(model):
    torch.manual_seed(0)
    detector = small_detector(model).eval()
    cfg = dict(detector.test_cfg, object_mask_thr=0.0, iou_thr=0.0)
    found = []
    for scope in ('mmdet', 'mmplugins'):
        detector.panoptic_fusion_head = build(
            dict(type=f'{scope}.MaskFormerFusionHead', num_things_classes=4, num_stuff_classes=2, test_cfg=cfg)
        )
        torch.manual_seed(1)
        batch = detector.data_preprocessor(raw_batch())
        with torch.no_grad():
            found.append(detector.predict(batch['inputs'], batch['data_samples'], rescale=True))
    for theirs, ours in zip(*found, strict=True):
        assert torch.equal(ours.pred_panoptic_seg.sem_seg, theirs.pred_panoptic_seg.sem_seg)
        for name in ('bboxes', 'labels', 'scores', 'masks'):
            assert torch.equal(getattr(ours.pred_instances, name), getattr(theirs.pred_instances, name))


# errors


def test_more_instances_than_candidates():
    scores, masks = logits(queries=2)
    head = MaskFormerFusionHead(THINGS, STUFF, dict(CFG, max_per_image=13))
    with pytest.raises(ValueError, match=r'max_per_image=13 .* 2 queries of 6 classes give 12; set it to that or less'):
        head.predict(scores, UpsampledLogits(masks, PADDED), samples(), True)


def test_an_unknown_format():
    with pytest.raises(ValueError, match=r"mask_format of test_cfg must be one of \('bool', 'rle'\), got 'polygon'"):
        MaskFormerFusionHead(THINGS, STUFF, dict(mask_format='polygon'))
