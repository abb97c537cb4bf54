"""A small config of each family trains a few steps in bfloat16 on the CPU."""

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from tests.test_configs import (
    ROOT,
    SIZE,
    Video,
    leaves,
    load,
    packed_clip,
    packed_detection_sample,
    packed_mask_sample,
    packed_sample,
)

STEPS = 3
FAMILIES = {
    'pspnet/pspnet_r18-d8_w32-ohem_1xb8-400_sample-96x128.py': 'segmentor',
    'fpn-head/fpn-head_mobilenetv2_1xb8-1k_camvid-180x240.py': 'segmentor',
    'pfnet/pfnet_r18_1xb8-10e_sample-camouflage-96x128.py': 'segmentor',
    'mask2former/mask2former_r18_w32-d128_1xb4-1500_camvid-180x240.py': 'segmentor',
    'mask2former/mask2former_r18_w32-d128_1xb8-1k_sample-panoptic-96x128.py': 'masks',
    'detr/detr_r18_w32-d128_1xb8-150e_bccd-192x256.py': 'detector',
    'aot/aot_t_scratch_1xb2-1500_sample-video-97x129.py': 'video',
}


def samples_of(cfg, kind: str, folder, seeds=(0, 1)) -> list[dict]:
    """Small samples through the config's training pipeline; ``kind`` is one of those of FAMILIES."""
    if kind == 'video':
        datasets, video = leaves(cfg.train_dataloader.dataset), Video(folder)
        return [packed_clip(datasets[i % len(datasets)], video) for i in seeds]
    pack = {
        'segmentor': lambda seed: packed_sample(cfg, folder, seed),
        'masks': lambda seed: packed_mask_sample(cfg, folder, seed),
        'detector': lambda seed: packed_detection_sample(cfg, folder, seed, 3),
    }
    return [pack[kind](seed) for seed in seeds]


def keep_small(cfg, kind: str) -> None:
    """Changes the config in place so that the samples are not padded to the size that it trains at."""
    if kind == 'segmentor':
        cfg.model.data_preprocessor.size = (SIZE, SIZE)
    elif kind == 'masks':
        cfg.model.data_preprocessor.update(batch_augments=None, pad_size_divisor=1)


@pytest.mark.parametrize('name', FAMILIES)
def test_a_few_steps_in_bfloat16(name, tmp_path):
    cfg, kind = load(ROOT / 'configs' / name), FAMILIES[name]
    samples = samples_of(cfg, kind, tmp_path)
    keep_small(cfg, kind)
    if kind != 'segmentor':
        cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
    wrapper = build_optim_wrapper(model, {**cfg.optim_wrapper, 'type': 'mmplugins.AmpOptimWrapper'})
    seen = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda *call: seen.append(call[2].dtype))
            break
    for step in range(STEPS):
        MessageHub.get_current_instance().update_info('iter', step)  # some losses depend on it
        log = model.train_step(pseudo_collate(samples), wrapper)
        for key, value in log.items():
            assert value.isfinite(), f'{key} in step {step}'
            assert value.dtype != torch.bfloat16, f'{key} is computed in bfloat16'
    assert seen == [torch.bfloat16] * STEPS
    assert all(parameter.isfinite().all() for parameter in model.parameters())
