"""Every decode head of ours in mmseg's segmentor: whole images, slides and padded images, values compared."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from tests.locations import ROOT

pytest.importorskip('mmseg', reason='the heads stand on those of mmseg')

from mmseg.structures import SegDataSample
from mmseg.utils import stack_batch

from tests.models.decode_heads.pfnet_models import build, small_pfnet

HEIGHT, WIDTH = 56, 88  # padded: 64 x 96
HEADS = ('FPNSegmentationHead', 'PFNetHead', 'Mask2FormerSegHead', 'MaskFormerSegHead')


@pytest.fixture(scope='module', params=HEADS)
def segmentor(request):
    """A small segmentor with the head; tests set its test_cfg."""
    if request.param == 'PFNetHead':
        return small_pfnet().eval()
    if request.param == 'FPNSegmentationHead':
        config = Config.fromfile(ROOT / 'configs/_base_/models/fpn-head_mobilenetv2.py').model
        config.backbone = dict(type='ResNet', depth=18, base_channels=8)
        config.decode_head.in_channels = [8, 16, 32, 64]
        config.auxiliary_head = None
        torch.manual_seed(0)
        return build(config).eval()
    pytest.importorskip('mmdet', reason='the mask heads stand on those of mmdet')
    from tests.models.decode_heads.test_mask_seg_heads import small_segmentor

    return small_segmentor(request.param.removesuffix('SegHead')).eval()


def predict(segmentor, images, *, divisor=None, **test_cfg):
    """Tests images (N, 3, H, W) as the runner does; returns logits or probabilities (N, C, H, W)."""
    segmentor.test_cfg.clear()
    segmentor.test_cfg.update(test_cfg)
    samples = [SegDataSample(metainfo=dict(img_shape=tuple(x.shape[1:]), ori_shape=tuple(x.shape[1:]))) for x in images]
    if divisor is not None:
        images, padding = stack_batch(list(images), size_divisor=divisor)
        for sample, added in zip(samples, padding, strict=True):
            sample.set_metainfo(added)
    with torch.no_grad():
        return torch.stack([sample.seg_logits.data for sample in segmentor.predict(images, samples)])


def images(count=1, height=HEIGHT, width=WIDTH):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize('divisor', [None, 32])
def test_a_slide_of_one_window_is_the_whole_image(segmentor, divisor):
    whole = predict(segmentor, images(2), divisor=divisor, mode='whole')
    slide = predict(segmentor, images(2), divisor=divisor, mode='slide', crop_size=(64, 96), stride=(32, 48))
    assert whole.shape[2:] == (HEIGHT, WIDTH)
    assert torch.equal(slide, whole)
    assert whole.std() > 1e-4  # a constant would pass


@pytest.mark.parametrize('divisor', [None, 32])
def test_windows_of_a_slide_are_averaged(segmentor, divisor):
    """Two windows, 64 wide, beside one another: alone where only one is, else the mean of the maps before a sigmoid."""
    image = images(width=96)
    slide = predict(segmentor, image, divisor=divisor, mode='slide', crop_size=(64, 64), stride=(64, 32))
    if divisor:
        image = F.pad(image, (0, 0, 0, 8))
    left, right = (predict(segmentor, image[..., x : x + 64], mode='whole')[..., :HEIGHT, :] for x in (0, 32))
    torch.testing.assert_close(slide[..., :32], left[..., :32])
    torch.testing.assert_close(slide[..., 64:], right[..., 32:])
    if segmentor.out_channels == 1:
        left, right = left.logit(), right.logit()
    mean = (left[..., 32:] + right[..., :32]) / 2
    torch.testing.assert_close(slide[..., 32:64], mean.sigmoid() if segmentor.out_channels == 1 else mean)


def test_a_padded_image_is_predicted_at_its_own_place(segmentor):
    """As if the padded image were the image, and the padding cut off: nothing is stretched."""
    image = images(2)
    padded = predict(segmentor, image, divisor=32, mode='whole')
    expected = predict(segmentor, F.pad(image, (0, 96 - WIDTH, 0, 64 - HEIGHT)), mode='whole')
    assert torch.equal(padded, expected[..., :HEIGHT, :WIDTH])


def test_a_window_is_no_larger_than_the_image(segmentor):
    """Images of several sizes in turn, one smaller than the window."""
    for height, width in ((40, 88), (72, 56)):
        slide = predict(segmentor, images(1, height, width), mode='slide', crop_size=(64, 64), stride=(48, 48))
        assert slide.shape[2:] == (height, width)
        assert torch.isfinite(slide).all()
