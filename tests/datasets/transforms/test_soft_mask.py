import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image

from mmplugins.hosts import problem_with
from mmplugins.registry import TRANSFORMS
from tests.locations import ROOT

GREY = torch.tensor([[[0, 1, 127], [128, 254, 255]]])


def soft(mask):
    packed = BaseDataElement(gt_sem_seg=PixelData(data=mask))
    return TRANSFORMS.build(dict(type='mmplugins.SoftMask'))(dict(data_samples=packed))['data_samples']


def test_values_by_hand():
    mask = soft(GREY).gt_sem_seg.data
    assert mask.dtype == torch.float32
    torch.testing.assert_close(mask, torch.tensor([[[0, 1 / 255, 127 / 255], [128 / 255, 254 / 255, 1]]]))


def test_grey_masks_come_through_the_pipeline(tmp_path):
    """Loaded, mirrored and resized without interpolation, the target holds the file's grey values over 255."""
    if problem := problem_with('mmseg'):
        pytest.skip(f'the pipeline is one of mmseg: {problem}')
    init_default_scope('mmseg')
    grey = np.random.default_rng(0).integers(0, 256, (52, 60), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / 'mask.png')
    Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(tmp_path / 'image.png')
    pipeline = Config.fromfile(ROOT / 'configs/_base_/datasets/cod_416x416.py').train_pipeline
    packed = Compose(pipeline)(
        dict(img_path=str(tmp_path / 'image.png'), seg_map_path=str(tmp_path / 'mask.png'), seg_fields=[])
    )['data_samples']
    target = packed.gt_sem_seg.data
    expected = Image.fromarray(np.ascontiguousarray(grey[:, ::-1]) if packed.flip else grey)
    expected = torch.from_numpy(np.array(expected.resize((416, 416), Image.NEAREST)))[None] / 255
    assert target.dtype == torch.float32
    assert torch.equal(target, expected)


@pytest.mark.parametrize('mask', [GREY.float(), GREY + 1, GREY - 1])
def test_other_values_are_told(mask):
    with pytest.raises(ValueError, match=r'SoftMask takes grey values, integers from 0 to 255'):
        soft(mask)


def test_without_a_packed_mask():
    with pytest.raises(ValueError, match='put it after PackSegInputs'):
        TRANSFORMS.build(dict(type='mmplugins.SoftMask'))(dict(gt_seg_map=GREY.numpy()))
