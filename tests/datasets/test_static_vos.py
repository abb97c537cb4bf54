import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from PIL import Image

from mmplugins.hosts import problem_with
from mmplugins.registry import DATASETS
from tests.datasets.videos import image_of, save_frame, save_mask, square
from tests.locations import ROOT, data_root

pytestmark = pytest.mark.skipif(bool(problem_with('mmseg')), reason=str(problem_with('mmseg')))


def static(root, **settings):
    return dict(type='mmplugins.StaticVOSDataset', data_root=str(root), **settings)


def pipeline(size, **settings):
    clip = [
        dict(type='mmplugins.LoadClip'),
        dict(type='mmplugins.LoadClipMasks'),
        dict(type='mmplugins.SyntheticClip', size=size, length=4, interpolation='nearest', min_pixels=5),
    ]
    merge = dict(type='mmplugins.MergeClips', pre_transform=clip, min_pixels=5, **settings)
    return [*clip, merge, dict(type='mmplugins.PackClip')]


def test_smooth_edges_are_told_at_start_where_masks_are_object_numbers(tmp_path):
    mask = np.zeros((24, 32), np.uint8)
    mask[4:20, 4:20] = 255
    mask[3, 4:20], mask[20, 4:20] = 60, 190
    save_frame(tmp_path / 'Imgs/a.png', image_of(mask > 0))
    (tmp_path / 'GT').mkdir()
    Image.fromarray(mask).save(tmp_path / 'GT/a.png')
    with pytest.raises(ValueError, match=r'a\.png is grey with smooth edges.*mask_threshold=127 in a StaticVOSDataset'):
        DATASETS.build(static(tmp_path, mask_threshold=None))
    assert len(DATASETS.build(static(tmp_path))) == 1


def test_palette_masks_keep_objects_apart(tmp_path):
    mask = np.maximum(square(2, 4, 4), square(5, 12, 20))
    for name in ('a', 'b'):
        save_frame(tmp_path / f'Imgs/{name}.png', image_of(mask))
        save_mask(tmp_path / f'GT/{name}.png', mask)
    dataset = DATASETS.build(static(tmp_path, mask_threshold=None, pipeline=pipeline((33, 49), prob=0.0)))
    assert len(dataset) == 2
    assert dataset.get_data_info(0)['img_path'] == [str(tmp_path / 'Imgs/a.png')]
    item = dataset[0]
    assert item['inputs'].shape == (4, 3, 33, 49)
    assert item['data_samples'].num_objects == 2
    first = item['data_samples'].gt_sem_seg.data[0]
    assert torch.equal(item['inputs'][0, 0], torch.tensor([0, 40, 100])[first].byte())  # 2 and 5 became 1 and 2
    merged = DATASETS.build(static(tmp_path, mask_threshold=None, pipeline=pipeline((33, 49), prob=1.0)))
    assert max(merged[0]['data_samples'].num_objects for _ in range(5)) in (3, 4)


def test_binary_masks_are_one_object_and_thin_rims_are_none(tmp_path):
    mask = np.where(square(1, 4, 4, side=12) > 0, 255, square(90, 2, 2, side=16)).astype(np.uint8)
    save_frame(tmp_path / 'Imgs/a.png', image_of(mask // 255))
    save_frame(tmp_path / 'GT/a.png', mask)  # grey
    item = DATASETS.build(static(tmp_path, pipeline=pipeline((33, 49), prob=1.0)))[0]  # one image: nothing to merge
    assert item['data_samples'].num_objects == 1
    assert torch.equal(item['data_samples'].gt_sem_seg.data[0] == 1, item['inputs'][0, 0] == 20)


def test_masks_of_0_and_1_are_told(tmp_path):
    save_frame(tmp_path / 'Imgs/a.png', image_of(square(1, 4, 4)))
    save_frame(tmp_path / 'GT/a.png', square(1, 4, 4))
    with pytest.raises(ValueError, match='no mask has a foreground'):
        DATASETS.build(static(tmp_path))


def test_sod_through_the_pipeline_of_the_config():
    init_default_scope('mmseg')
    root = data_root('sod')
    config = Config.fromfile(ROOT / 'configs/_base_/datasets/static-vos_465x465.py')
    for part in config.train_dataloader.dataset.datasets:
        assert part.pipeline == config.train_dataloader.dataset.datasets[0].pipeline
    prefix = dict(img_path='train/Imgs', seg_map_path='train/GT')
    dataset = DATASETS.build(static(root, data_prefix=prefix, check_files=False, pipeline=part.pipeline))
    assert len(dataset) == 200
    set_random_seed(0)
    item = dataset[0]
    assert item['inputs'].shape == (5, 3, 465, 465)
    assert item['data_samples'].num_objects == 2
    shares = [(item['data_samples'].gt_sem_seg.data == number).float().mean((1, 2)) for number in (1, 2)]
    assert all((share > 0.001).all() for share in shares)
    assert all(len(set(share.tolist())) == 5 for share in shares)  # every frame is another
