import numpy as np
import pytest
import torch

from mmplugins.hosts import problem_with
from mmplugins.registry import TRANSFORMS
from tests.datasets.videos import image_of, square

pytestmark = pytest.mark.skipif(bool(problem_with('mmseg')), reason=str(problem_with('mmseg')))


def pack(**results):
    results = dict(video_name='v', img_path=['a.jpg'], seg_map_path=['a.png'], ori_shape=(24, 32)) | results
    return TRANSFORMS.build(dict(type='mmplugins.PackClip'))(results)


def test_clip_of_training():
    frames = [np.random.default_rng(i).integers(0, 256, (24, 32, 3), dtype=np.uint8) for i in range(2)]
    masks = [square(1, 4, 4), square(1, 8, 8)]
    packed = pack(img=frames, gt_seg_map=masks, num_objects=1)
    assert packed['inputs'].shape == (2, 3, 24, 32)
    assert packed['inputs'].dtype == torch.uint8
    assert packed['inputs'].is_contiguous()
    assert np.array_equal(packed['inputs'][1].permute(1, 2, 0), frames[1])
    sample = packed['data_samples']
    assert sample.gt_sem_seg.data.dtype == torch.int64
    assert np.array_equal(sample.gt_sem_seg.data, np.stack(masks))
    assert (sample.num_objects, sample.video_name) == (1, 'v')
    assert 'ref_sem_seg' not in sample


def test_frames_of_tests():
    mask = np.maximum(square(2, 0, 0), square(5, 12, 12))
    common = dict(img=[image_of(mask)], gt_seg_map=[mask])
    first = pack(**common, new_objects=[], frame_id=0)['data_samples']
    assert np.array_equal(first.ref_sem_seg.data, mask[None])
    assert np.array_equal(first.gt_sem_seg.data, mask[None])
    assert first.img_path == 'a.jpg'
    later = pack(**common, new_objects=[5], frame_id=3)['data_samples']
    assert np.array_equal(later.ref_sem_seg.data, square(5, 12, 12)[None])
    assert np.array_equal(later.gt_sem_seg.data, mask[None])
    plain = pack(**common, new_objects=[], frame_id=3)['data_samples']
    assert 'ref_sem_seg' not in plain
    bare = pack(img=[image_of(mask)], gt_seg_map=[None], new_objects=[], frame_id=3)['data_samples']
    assert 'gt_sem_seg' not in bare
    assert bare.frame_id == 3


def test_errors():
    empty, mask = square(0, 0, 0), square(1, 0, 0)
    with pytest.raises(ValueError, match=r'put mmplugins\.RandomCropClip before PackClip'):
        pack(img=[image_of(mask)], gt_seg_map=[mask])
    with pytest.raises(ValueError, match=r'video v: the mask a\.png must show an object, its values are \[0\]'):
        pack(img=[image_of(empty)], gt_seg_map=[empty], new_objects=[], frame_id=0)
    with pytest.raises(ValueError, match=r'must show one of the objects \[2\] that it introduces'):
        pack(img=[image_of(mask)], gt_seg_map=[mask], new_objects=[2], frame_id=4)
