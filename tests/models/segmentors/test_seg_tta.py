"""Test-time augmentation: one merged map, whatever the order of the augmentations."""

import itertools

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

pytest.importorskip('mmseg', reason='SegTTAModel merges predictions of mmseg')

from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel as ToolboxSegTTAModel
from mmseg.structures import SegDataSample

from mmplugins.evaluation.metrics import SaliencyMetric
from mmplugins.models.segmentors import SegTTAModel
from tests.models.decode_heads.pfnet_models import small_pfnet

TRUTH = torch.zeros(1, 8, 8, dtype=torch.long)
TRUTH[..., :4] = 1


def of_channels(count, threshold=0.5):
    """A TTA model on a segmentor of which only the number of channels and the threshold matter."""
    tta = SegTTAModel(module=small_pfnet().eval())
    tta.module.out_channels, tta.module.decode_head.threshold = count, threshold
    return tta


def sample(logits, **meta):
    """As EncoderDecoder leaves it."""
    meta = dict(img_path='a.jpg', ori_shape=(8, 8), img_shape=(8, 8)) | meta
    data = dict(seg_logits=PixelData(data=logits.clone()), gt_sem_seg=PixelData(data=TRUTH.clone()))
    return SegDataSample(metainfo=meta, **data)


@pytest.mark.parametrize('order', list(itertools.permutations(range(3))))
def test_one_channel_is_the_mean_in_any_order(order):
    """Means by hand: (0.99 + 0.01 + 0.80) / 3 = 0.6 on the object, (0.01 + 0.01 + 0.40) / 3 = 0.14 beside it."""
    maps = [0.98 * TRUTH + 0.01, torch.full((1, 8, 8), 0.01), 0.4 * TRUTH + 0.4]
    merged = of_channels(1).merge_preds([[sample(maps[index]) for index in order]])[0]
    torch.testing.assert_close(merged.seg_logits.data, torch.where(TRUTH == 1, 0.6, 0.14))
    assert torch.equal(merged.pred_sem_seg.data, TRUTH.float())
    metric = SaliencyMetric()
    metric.process(None, [merged.to_dict()])
    values = metric.compute_metrics(metric.results)
    assert values['MAE'] == pytest.approx(0, abs=1e-6)
    assert values['wFm'] == pytest.approx(1, abs=1e-6)


def test_the_threshold_is_the_heads():
    maps = [torch.full((1, 8, 8), 0.3), torch.full((1, 8, 8), 0.5)]
    for threshold, expected in ((0.5, 0), (0.35, 1)):
        merged = of_channels(1, threshold).merge_preds([[sample(one) for one in maps]])[0]
        assert merged.pred_sem_seg.data.unique().tolist() == [expected]


def test_several_channels_are_the_mean_of_softmaxes():
    """Surer but fewer: class 2 has 0.9 once and 0.2 twice, class 0 0.05 once and 0.5 twice; 1.3 against 1.05 of 3."""
    sure, unsure = torch.tensor([0.05, 0.05, 0.9]), torch.tensor([0.5, 0.3, 0.2])
    maps = [p.log()[:, None, None].expand(3, 8, 8) + 7 for p in (unsure, sure, unsure)]
    merged = of_channels(3).merge_preds([[sample(one) for one in maps]])[0]
    mean = (sure + 2 * unsure) / 3
    torch.testing.assert_close(merged.seg_logits.data.softmax(0), mean[:, None, None].expand(3, 8, 8))
    assert merged.pred_sem_seg.data.shape == (1, 8, 8)
    assert merged.pred_sem_seg.data.unique().tolist() == [2]


def test_two_channels_are_read_by_the_metric():
    maps = [torch.cat([1.0 - TRUTH, TRUTH.float()]) * 9, torch.zeros(2, 8, 8)]
    for order in (maps, maps[::-1]):
        merged = of_channels(2).merge_preds([[sample(one) for one in order]])[0]
        metric = SaliencyMetric()
        metric.process(None, [merged.to_dict()])
        assert metric.compute_metrics(metric.results)['MAE'] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('channels', [1, 2])
def test_the_metric_refuses_what_the_toolbox_merged(channels):
    """Its pred_sem_seg is merged, and its seg_logits are the last augmentation's, here without any foreground."""
    theirs = of_channels(channels)
    perfect = torch.cat([1.0 - TRUTH, TRUTH.float()])
    maps = [9 * perfect, 1 - perfect] if channels == 2 else [0.98 * TRUTH + 0.01, 0.01 * torch.ones(1, 8, 8)]
    merged = ToolboxSegTTAModel.merge_preds(theirs, [[sample(one) for one in maps]])[0].to_dict()
    message = r"of a\.jpg calls a pixel of probability .* foreground.*tta_model=dict\(type='mmplugins\.SegTTAModel'\)"
    with pytest.raises(ValueError, match=message):
        SaliencyMetric().process(None, [merged])
    plain = theirs.module.postprocess_result(perfect[-channels:][None] * 9 - 4).pop()
    plain.set_data(dict(gt_sem_seg=PixelData(data=TRUTH)))
    SaliencyMetric().process(None, [plain.to_dict()])


def test_a_class_that_no_augmentation_sees_stays_finite():
    maps = [torch.tensor([200.0, -200.0])[:, None, None].expand(2, 8, 8)] * 2
    merged = of_channels(2).merge_preds([[sample(one) for one in maps]])[0]
    assert torch.isfinite(merged.seg_logits.data).all()
    assert merged.pred_sem_seg.data.unique().tolist() == [0]


def test_scores_of_mask_classification_are_averaged_as_they_are():
    pytest.importorskip('mmdet', reason='the mask heads stand on those of mmdet')
    from tests.models.decode_heads.test_mask_seg_heads import small_segmentor

    tta = SegTTAModel(module=small_segmentor('MaskFormer').eval())
    maps = [torch.full((6, 8, 8), 0.1) for _ in range(2)]
    maps[0][4], maps[1][2] = 1.5, 0.7
    merged = tta.merge_preds([[sample(one) for one in maps]])[0]
    assert torch.equal(merged.seg_logits.data, (maps[0] + maps[1]) / 2)
    assert merged.pred_sem_seg.data.unique().tolist() == [4]


def test_the_first_augmentation_stays():
    """Its meta information and labels; the last one was flipped."""
    merged = of_channels(1).merge_preds([[sample(TRUTH * 1.0, flip=False), sample(TRUTH * 1.0, flip=True)]])[0]
    assert merged.flip is False
    assert torch.equal(merged.gt_sem_seg.data, TRUTH)


def test_predictions_of_labels_alone_are_named():
    alone = sample(torch.zeros(1, 8, 8))
    del alone.seg_logits
    with pytest.raises(ValueError, match=r'seg_logits, which EncoderDecoder does not predict; set model\.type='):
        of_channels(1).merge_preds([[sample(torch.zeros(1, 8, 8)), alone]])


def test_sizes_that_differ_are_named():
    maps = [torch.zeros(1, 8, 8), torch.zeros(1, 4, 4)]
    with pytest.raises(ValueError, match=r"a\.jpg give maps of \[\(1, 8, 8\), \(1, 4, 4\)\]; .* keep 'ori_shape'"):
        of_channels(1).merge_preds([[sample(one) for one in maps]])


def test_a_mirror_image_gives_the_mirrored_prediction():
    """Through ``test_step``, with PFNet: the merged map of an image and its mirror is that of the mirror, mirrored."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        tta = MODELS.build(dict(type='mmplugins.SegTTAModel', module=small_pfnet().eval()))
    image = torch.randint(0, 255, (3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)

    def predict(image):
        views = []
        for flip in (False, True):
            meta = dict(
                img_path='a.jpg', ori_shape=(64, 96), img_shape=(64, 96), flip=flip, flip_direction='horizontal'
            )
            views.append((image.flip(2) if flip else image, SegDataSample(metainfo=meta)))
        data = dict(inputs=[[view[0]] for view in views], data_samples=[[view[1]] for view in views])
        with torch.no_grad():
            return tta.test_step(data)[0]

    merged, mirrored = predict(image), predict(image.flip(2))
    torch.testing.assert_close(mirrored.seg_logits.data, merged.seg_logits.data.flip(2))
    assert merged.seg_logits.data.std() > 1e-4
    assert torch.equal(merged.pred_sem_seg.data, (merged.seg_logits.data > 0.5).float())
