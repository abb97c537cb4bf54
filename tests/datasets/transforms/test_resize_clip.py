import mmcv
import numpy as np
import pytest

from mmplugins.registry import TRANSFORMS


def build(**settings):
    return TRANSFORMS.build(dict(type='mmplugins.ResizeClip', **settings))


@pytest.mark.parametrize(
    ('settings', 'size', 'expected'),
    [
        ({}, (480, 854), (481, 849)),  # DAVIS
        (dict(align_corners=False), (480, 854), (480, 848)),  # 853 / 16 = 53.4
        ({}, (720, 1280), (577, 1041)),  # YouTube-VOS: 585 x 1040, k 36.5 to the even one and 64.9
        ({}, (1280, 720), (1041, 577)),
        (dict(max_short_edge=160, max_long_edge=None), (480, 854), (161, 289)),  # 160 x 284
        (dict(max_short_edge=480, max_long_edge=800), (720, 1280), (449, 801)),  # 480 x 853.3, then 450 x 800
        (dict(max_long_edge=None), (481, 849), (481, 849)),
        (dict(max_short_edge=900), (100, 200), (97, 193)),  # nothing is enlarged, but by rounding: 6.2, 12.4
        ({}, (25, 41), (33, 33)),  # halves to the even k: 1.5, 2.5
        ({}, (3, 40), (17, 33)),
        (dict(stride=8, align_corners=False), (3, 44), (8, 48)),  # 5.5 to 6
    ],
)
def test_sizes_by_hand(settings, size, expected):
    assert build(**settings).size_for(*size) == expected


def test_frames_are_resized_and_masks_are_not():
    frames = [np.random.default_rng(i).integers(0, 256, (30, 50, 3), dtype=np.uint8) for i in range(2)]
    mask = np.zeros((30, 50), dtype=np.uint8)
    results = build()(dict(img=frames, gt_seg_map=[mask, mask]))
    assert results['img_shape'] == (33, 49)
    for frame, original in zip(results['img'], frames, strict=True):
        assert np.array_equal(frame, mmcv.imresize(original, (49, 33)))
    assert results['gt_seg_map'][0].shape == (30, 50)
