"""Labels alone, as EncoderDecoder finds them in its scores."""

import copy

import pytest
import torch

pytest.importorskip('mmseg', reason='the segmentor is one of mmseg')
pytest.importorskip('mmdet', reason='the heads stand on those of mmdet')

from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample

from mmplugins.models.segmentors import ClassMapSegmentor
from tests.models.decode_heads.pfnet_models import small_pfnet
from tests.models.mask_models import build, head_config


def settings(model='Mask2Former', **more):
    return (
        dict(
            data_preprocessor=dict(type='mmseg.SegDataPreProcessor', size_divisor=32),
            backbone=dict(type='mmseg.ResNet', depth=18, base_channels=8, norm_cfg=dict(type='BN')),
            decode_head=head_config(model, semantic=True),
            test_cfg=dict(mode='whole'),
        )
        | more
    )


def segmentor(kind, **more):
    return build(dict(type=kind, **settings(**more)), 'mmseg').eval()


@pytest.mark.parametrize('model', ['MaskFormer', 'Mask2Former'])
def test_labels_are_those_of_the_scores(model):
    """With padding, a flip and an original size of its own; where the best class leads by more than rounding."""
    torch.manual_seed(0)
    ours = segmentor('mmplugins.ClassMapSegmentor', model=model)
    theirs = segmentor('mmseg.EncoderDecoder', model=model)
    assert type(ours) is ClassMapSegmentor
    theirs.load_state_dict(ours.state_dict())
    images = 50 * torch.randn(3, 3, 64, 96)
    metas = [
        dict(ori_shape=(60, 90), padding_size=[0, 6, 0, 4]),
        dict(ori_shape=(100, 140), flip=True, flip_direction='horizontal', img_padding_size=[2, 4, 1, 3]),
        dict(ori_shape=(33, 51), flip=True, flip_direction='vertical'),
    ]
    shape = dict(img_shape=(64, 96), pad_shape=(64, 96))
    samples = [SegDataSample(metainfo=shape | meta) for meta in metas]
    with torch.no_grad():
        expected = theirs.predict(images, copy.deepcopy(samples))
        found = ours.predict(images, samples)
        alone = ours.predict(images)
    for one, other in zip(found, expected, strict=True):
        scores, labels = other.seg_logits.data, one.pred_sem_seg.data
        assert isinstance(one.pred_sem_seg, PixelData)
        assert 'seg_logits' not in one
        assert labels.shape == other.pred_sem_seg.data.shape
        best = scores.topk(2, 0).values
        sure = best[0] - best[1] > 1e-5
        assert sure.float().mean() > 0.9
        assert torch.equal(labels[0][sure], other.pred_sem_seg.data[0][sure])
    assert alone[0].pred_sem_seg.data.shape == (1, 64, 96)


def test_what_it_does_not_serve():
    with pytest.raises(ValueError, match=r"sees an image as a whole, got the mode 'slide'; .* EncoderDecoder"):
        segmentor('mmplugins.ClassMapSegmentor', test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(32, 32)))
    pfnet = small_pfnet()
    assert isinstance(pfnet, EncoderDecoder)
    config = settings() | dict(
        decode_head=dict(
            type='mmseg.FCNHead', in_channels=64, in_index=3, channels=8, num_classes=6, norm_cfg=dict(type='BN')
        )
    )
    with pytest.raises(ValueError, match=r'ClassMapSegmentor needs a decode_head of type .*, got FCNHead with align'):
        build(dict(type='mmplugins.ClassMapSegmentor', **config), 'mmseg')
