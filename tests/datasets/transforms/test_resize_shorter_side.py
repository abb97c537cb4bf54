import numpy as np
import pytest
import torch
from mmengine.registry import TRANSFORMS, init_default_scope
from PIL import Image

from mmplugins.datasets.transforms import ResizeShorterSide
from mmplugins.hosts import problem_with


@pytest.fixture(autouse=True)
def scope():
    pytest.importorskip('mmseg', reason='the toolbox whose Resize is used')
    init_default_scope('mmseg')


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ('settings', 'image', 'expected'),
    [
        # 800 / 480 * 640 = 1066.67: DETR's int() gives 1066, detectron2's + 0.5 gives 1067
        (dict(scale=800, max_size=1333, cut=True), (480, 640), (1066, 800)),
        (dict(scale=800, max_size=1333), (480, 640), (1067, 800)),
        (dict(scale=800, max_size=1333, cut=True), (640, 480), (800, 1066)),
        # the limit: DETR's shorter side is round(666.5) = 666, and the longer one follows; detectron2's is 1333
        (dict(scale=800, max_size=1333, cut=True), (500, 1000), (1332, 666)),
        (dict(scale=800, max_size=1333), (500, 1000), (1333, 667)),
        (dict(scale=800, max_size=1333, cut=True), (300, 640), (1333, 625)),  # round(624.8), int(1333.3)
        (dict(scale=800, max_size=1333, cut=True), (331, 640), (1332, 689)),  # round(689.4), int(1332.2)
        (dict(scale=400, cut=True), (100, 900), (3600, 400)),
        (dict(scale=512), (683, 1024), (768, 512)),
        (dict(scale=300, cut=True), (300, 300), (300, 300)),
        (dict(scale=4, max_size=3, cut=True), (1, 7), (3, 1)),  # found by fuzzing: 0 pixels high
        (dict(scale=4, max_size=3), (7, 1), (1, 3)),
    ],
)
def test_sizes(settings, image, expected):
    assert ResizeShorterSide(**settings).size_of(*image) == expected


def test_the_longer_side_may_exceed_the_limit_by_a_pixel():
    """As DETR's: the shorter side is rounded up to keep the limit, and the longer one follows."""
    resize = ResizeShorterSide(scale=800, max_size=1333, cut=True)
    longest = [max(resize.size_of(height, 640)) for height in range(200, 384)]
    assert max(longest) == 1334
    assert min(longest) >= 1331


def test_image_is_pillows_and_label_as_pytorchs_nearest():
    image, label = picture(90, 120), picture(90, 120, 1)[..., 0]
    results = dict(img=image, gt_seg_map=label, seg_fields=['gt_seg_map'])
    results = ResizeShorterSide(scale=40)(results)
    assert results['img_shape'] == (40, 53)
    expected = np.asarray(Image.fromarray(image).resize((53, 40), Image.Resampling.BILINEAR))
    assert np.array_equal(results['img'], expected)
    nearest = torch.nn.functional.interpolate(torch.from_numpy(label)[None, None].double(), (40, 53), mode='nearest')
    assert np.array_equal(results['gt_seg_map'], nearest[0, 0].byte().numpy())
    assert results['seg_fields'] == ['gt_seg_map']
    assert results['scale_factor'] == pytest.approx((53 / 120, 40 / 90))


def test_colours_keep_their_order():
    image = np.zeros((20, 30, 3), np.uint8)
    image[...] = (10, 100, 200)
    assert (ResizeShorterSide(scale=7)(dict(img=image))['img'] == (10, 100, 200)).all()


def test_as_a_resize_type():
    choice = dict(type='RandomChoiceResize', scales=[30, 50], resize_type='mmplugins.ResizeShorterSide', max_size=64)
    choice = TRANSFORMS.build(choice)
    seen = {choice(dict(img=picture(90, 120)))['img_shape'] for _ in range(20)}
    assert seen == {(30, 40), (48, 64)}


def test_boxes_and_masks_go_along():
    if problem := problem_with('mmdet'):
        pytest.skip(f'mmdet is needed: {problem}')
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    init_default_scope('mmdet')
    mask = np.zeros((1, 48, 64), np.uint8)
    mask[:, :24, :32] = 1
    results = dict(img=picture(48, 64), gt_bboxes=HorizontalBoxes([[0.0, 0.0, 32.0, 24.0]]))
    results['gt_masks'] = BitmapMasks(mask, 48, 64)
    results = ResizeShorterSide(scale=80, cut=True)(results)
    assert results['img_shape'] == (80, 106)  # 106.67 cut
    assert results['gt_bboxes'].tensor.tolist() == [[0, 0, pytest.approx(53), pytest.approx(40)]]
    assert results['gt_masks'].masks.sum() == 40 * 53


def test_repr():
    assert repr(ResizeShorterSide(8, cut=True)) == 'ResizeShorterSide(scale=8, max_size=None, cut=True)'
