import numpy as np
import pytest
from PIL import Image

from mmplugins.registry import TRANSFORMS

GREY = np.array([[0, 1, 100, 126], [127, 128, 200, 255]], dtype=np.uint8)


def load(path, results=None, **settings):
    transform = TRANSFORMS.build(dict(type='mmplugins.LoadBinaryMask', **settings))
    return transform(dict(seg_map_path=str(path), seg_fields=[]) if results is None else results)


@pytest.fixture
def path(tmp_path):
    Image.fromarray(GREY).save(tmp_path / 'mask.png')
    return tmp_path / 'mask.png'


def test_threshold_is_127(path):
    results = load(path)
    assert results['gt_seg_map'].dtype == np.uint8
    assert results['gt_seg_map'].tolist() == [[0, 0, 0, 0], [0, 1, 1, 1]]
    assert results['seg_fields'] == ['gt_seg_map']


def test_threshold_of_the_data_set_and_of_the_transform(path):
    results = dict(seg_map_path=str(path), mask_threshold=0)
    assert load(path, dict(results))['gt_seg_map'].tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]
    assert load(path, dict(results), threshold=126)['gt_seg_map'].tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]
    assert load(path, dict(results))['seg_fields'] == ['gt_seg_map']


@pytest.mark.parametrize('mode', ['1', 'L', 'RGB', 'RGBA', 'LA', 'P', 'I;16'])
def test_every_mode_gives_the_same_mask(tmp_path, mode):
    left = np.zeros((4, 6), dtype=bool)
    left[:, :2] = True
    if mode == 'I;16':
        image = Image.fromarray(left.astype(np.uint16) * 65535)
    else:
        image = Image.fromarray(left.astype(np.uint8) * 255).convert(mode)
    assert image.mode == mode
    image.save(tmp_path / 'mask.png')
    np.testing.assert_array_equal(load(tmp_path / 'mask.png')['gt_seg_map'], left)


def test_jpeg_noise_disappears(tmp_path):
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[5:21, 13:30] = 255  # across the blocks of 8
    Image.fromarray(mask).save(tmp_path / 'mask.jpg', quality=60)
    assert len(np.unique(np.asarray(Image.open(tmp_path / 'mask.jpg')))) > 2
    np.testing.assert_array_equal(load(tmp_path / 'mask.jpg')['gt_seg_map'], mask // 255)


def test_without_a_mask_nothing_happens():
    assert load(None, dict(img_path='a.jpg')) == dict(img_path='a.jpg')


def test_grey_values_stay(path):
    results = load(path, grey=True)
    assert results['gt_seg_map'].dtype == np.uint8
    np.testing.assert_array_equal(results['gt_seg_map'], GREY)
    assert load(path, dict(seg_map_path=str(path), mask_threshold=99), grey=True)['gt_seg_map'].max() == 255


def test_grey_and_a_threshold_exclude_each_other():
    with pytest.raises(ValueError, match='grey=True keeps the grey values, threshold=0 would not'):
        TRANSFORMS.build(dict(type='mmplugins.LoadBinaryMask', grey=True, threshold=0))


@pytest.mark.parametrize('grey', [False, True])
def test_a_mask_of_0_and_1_is_told(tmp_path, grey):
    """As of a data set that does not look at its files: it would be all background."""
    path = tmp_path / 'mask.png'
    Image.fromarray(np.array([[0, 1, 1]], dtype=np.uint8)).save(path)
    with pytest.raises(
        ValueError, match=r'mask.png: all background, its values are 0 and 1, the threshold is 127; save'
    ):
        load(path, grey=grey)
    assert load(path, dict(seg_map_path=str(path), mask_threshold=0))['gt_seg_map'].tolist() == [[0, 1, 1]]
    Image.fromarray(np.array([[0, 0, 0]], dtype=np.uint8)).save(path)
    assert load(path)['gt_seg_map'].tolist() == [[0, 0, 0]]
    Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).save(path)  # noise of an empty mask
    assert load(path)['gt_seg_map'].tolist() == [[0, 0, 0]]


def test_a_cut_out_picture_is_no_mask(tmp_path):
    """Noise whose outline is in the alpha channel: its colours above the threshold are no foreground."""
    colours = np.random.default_rng(0).integers(0, 256, (8, 6, 4), dtype=np.uint8)
    colours[..., 3] = 0
    colours[:, :3, 3] = 255
    Image.fromarray(colours).save(tmp_path / 'mask.png')
    with pytest.raises(ValueError, match=r'alpha channel of the mask .*mask.png and its colours tell different'):
        load(tmp_path / 'mask.png')
