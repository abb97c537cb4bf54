from pathlib import Path

import cv2
import numpy as np
import pytest

from mmplugins.registry import TRANSFORMS
from tests.datasets.videos import image_of, save_frame, save_mask, square


def load(kind, results):
    return TRANSFORMS.build(dict(type=f'mmplugins.{kind}'))(results)


@pytest.fixture
def clip(tmp_path):
    frames = [np.random.default_rng(i).integers(0, 256, (24, 32, 3), dtype=np.uint8) for i in range(2)]
    for index, frame in enumerate(frames):
        save_frame(tmp_path / f'{index}.png', frame)
        save_mask(tmp_path / f'{index}_mask.png', square(index + 1, 4, 4))
    paths = [str(tmp_path / f'{index}.png') for index in range(2)]
    masks = [str(tmp_path / f'{index}_mask.png') for index in range(2)]
    return dict(video_name='v', img_path=paths, seg_map_path=masks), frames


def test_frames_are_bgr(clip):
    results = load('LoadClip', clip[0])
    assert results['ori_shape'] == results['img_shape'] == (24, 32)
    for frame, expected in zip(results['img'], clip[1], strict=True):
        assert np.array_equal(frame[..., ::-1], expected)


def test_float_frames_keep_the_overshoot_of_a_resize(clip):
    """A white square on black, resized by cubics as the config's clips are, goes beyond 0 and 255."""
    edges = np.zeros((24, 32, 3), dtype=np.uint8)
    edges[6:18, 8:24] = 255
    save_frame(Path(clip[0]['img_path'][0]), edges)
    results = TRANSFORMS.build(dict(type='mmplugins.LoadClip', to_float32=True))(clip[0])
    assert all(frame.dtype == np.float32 for frame in results['img'])
    resized = TRANSFORMS.build(dict(type='mmplugins.ResizeClip', interpolation='bicubic'))(results)['img'][0]
    expected = cv2.resize(edges.astype(np.float32), (33, 17), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(resized, expected)
    assert resized.min() < -5
    assert resized.max() > 260


def test_masks_where_there_are_any(clip):
    results = load('LoadClip', clip[0])
    results['seg_map_path'][0] = None
    results = load('LoadClipMasks', results)
    assert results['gt_seg_map'][0] is None
    assert np.array_equal(results['gt_seg_map'][1], square(2, 4, 4))


def test_frames_of_two_sizes(clip, tmp_path):
    save_frame(tmp_path / '1.png', image_of(square(1, 0, 0, size=(20, 20))))
    with pytest.raises(ValueError, match=r'video v: the frame .*1\.png is \(20, 20\), .*0\.png is \(24, 32\)'):
        load('LoadClip', clip[0])


def test_a_broken_frame(clip, tmp_path):
    (tmp_path / '1.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'video v: .*1\.png is no image that can be read'):
        load('LoadClip', clip[0])


def test_a_mask_of_another_size(clip, tmp_path):
    save_mask(tmp_path / '1_mask.png', square(1, 0, 0, size=(12, 16)))
    message = r'video v: the mask .*1_mask\.png is \(12, 16\), its frame .*1\.png is \(24, 32\) \(height, width\)'
    with pytest.raises(ValueError, match=message):
        load('LoadClipMasks', load('LoadClip', dict(clip[0])))
    with pytest.raises(ValueError, match=message):  # masks that were sampled before
        load('LoadClip', dict(clip[0], gt_seg_map=[square(1, 4, 4), square(1, 0, 0, size=(12, 16))]))
