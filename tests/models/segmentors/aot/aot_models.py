"""AOT as the tests build it: from its configs, filled like the golden ones, or tiny."""

import json

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmplugins.testing import fill_state_dict
from tests.locations import ROOT, golden_files
from tools.model_converters.aot import to_ours

CONFIGS = {'aott': 'aot_t', 'aotl': 'aot_l', 'r50_aotl': 'aot_r50-l'}
HEIGHT, WIDTH = 33, 49


def configured_aot(name, **settings):
    """AOT from a shipped config, without pretrained weights."""
    config = Config.fromfile(ROOT / f'configs/_base_/models/{name}.py').model
    config.backbone.init_cfg = None
    config.update(settings)
    return MODELS.build(config)


def state_shapes(name):
    """Names and shapes of a released model."""
    (path,) = golden_files(f'aot_{name}_state_shapes.json')
    return json.loads(path.values[0].read_text())


def filled_aot(name):
    """AOT without drop path, filled from the released names through the converter."""
    model = configured_aot(CONFIGS[name], drop_path=0.0)
    model.load_state_dict(to_ours(fill_state_dict(state_shapes(name))))
    return model


def tiny_backbone():
    """A narrow ResNet-18 up to stride 16."""
    return dict(
        type='mmseg.ResNet',
        depth=18,
        num_stages=3,
        base_channels=8,
        stem_channels=8,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
    )


def tiny_aot(seed=0, **settings):
    """AOT that computes a frame in a few milliseconds; two blocks, three identities."""
    torch.manual_seed(seed)
    defaults = dict(
        type='mmplugins.AOT',
        backbone=tiny_backbone(),
        in_channels=[8, 16, 32, 32],
        channels=32,
        num_blocks=2,
        num_heads=4,
        window=3,
        feedforward_channels=64,
        max_objects=3,
        drop_path=0.0,
    )
    return MODELS.build(defaults | settings)


def clips(batch=2, length=3, height=HEIGHT, width=WIDTH, seed=0):
    """Random clips (B, T, 3, H, W)."""
    return torch.randn(batch, length, 3, height, width, generator=torch.Generator().manual_seed(seed))


def moving_masks(batch=2, length=3, height=HEIGHT, width=WIDTH, objects=2):
    """Masks (B, T, H, W) of upright bars that move to the right."""
    masks = torch.zeros(batch, length, height, width, dtype=torch.uint8)
    for t in range(length):
        for o in range(objects):
            left = 4 + o * width // (objects + 1) + 2 * t
            masks[:, t, height // 4 : -height // 4, left : left + 9] = o + 1
    return masks


def samples(masks, **metainfo):
    """Data samples of masks (B, T, H, W); each entry of the metainfo is a list, one value a sample."""
    return [
        SegDataSample(gt_sem_seg=PixelData(data=mask), metainfo={key: values[i] for key, values in metainfo.items()})
        for i, mask in enumerate(masks)
    ]
