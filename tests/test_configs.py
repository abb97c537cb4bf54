"""Every config is complete: it loads, all that it names is built, and one small step runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import MessageHub
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DATA_SAMPLERS, EVALUATOR, HOOKS, MODELS, TRANSFORMS, VISUALIZERS, init_default_scope
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.structures import PixelData
from PIL import Image

from mmplugins.engine.launch import UsageError, check_data
from mmplugins.hosts import problem_with

ROOT = Path(__file__).parents[1]
CONFIGS = [
    pytest.param(path, id=path.relative_to(ROOT / 'configs').as_posix())
    for path in sorted((ROOT / 'configs').rglob('*.py'))
    if '_base_' not in path.parts
]
SIZE = 65  # pixels a side of what enters the network


def load(path: Path) -> Config:
    cfg = Config.fromfile(path)
    if problem := problem_with(cfg.default_scope):
        pytest.skip(f'{cfg.default_scope} is needed: {problem}')
    init_default_scope(cfg.default_scope)
    return cfg


def test_there_are_configs():
    assert len(CONFIGS) >= 10


@pytest.mark.parametrize('path', CONFIGS)
def test_names_and_custom_imports(path):
    cfg = Config.fromfile(path)
    assert cfg.custom_imports == dict(imports=['mmplugins'], allow_failed_imports=False)
    # <model>_<backbone>[_<what>]_<n>xb<m>-<schedule>_<dataset>-<size>
    parts = path.stem.split('_')
    assert len(parts) >= 4
    assert parts[0] == path.parent.name
    gpus, batch = parts[-2].split('-')[0].split('xb')
    assert int(gpus) >= 1
    assert cfg.train_dataloader.batch_size == int(batch)


@pytest.mark.parametrize('path', CONFIGS)
def test_everything_named_is_built(path, tmp_path):
    cfg = load(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert DATA_SAMPLERS.get(loader.sampler.type) is not None
        for config in loader.dataset.get('datasets', [loader.dataset]):  # those of a ConcatDataset
            dataset = ROOT_DATASETS.build({**config, 'lazy_init': True})
            assert len(dataset.metainfo['classes']) == cfg.model.decode_head.num_classes
            assert len(dataset.metainfo['palette']) == cfg.model.decode_head.num_classes
    EVALUATOR.build(dict(type='Evaluator', metrics=[cfg.val_evaluator]))
    EVALUATOR.build(dict(type='Evaluator', metrics=[cfg.test_evaluator]))
    VISUALIZERS.build({**cfg.visualizer, 'name': path.stem, 'save_dir': str(tmp_path)})  # hooks take the current one
    for hook in [*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])]:
        HOOKS.build(hook)
    end = max(scheduler.end for scheduler in cfg.param_scheduler)
    assert end == cfg.train_cfg.get('max_iters', cfg.train_cfg.get('max_epochs'))


@pytest.mark.parametrize('path', CONFIGS)
def test_missing_data_is_named(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load(path)
    with pytest.raises(UsageError, match='there is no such folder'):
        check_data(cfg, 'train_dataloader')


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS)
def test_one_step(path, tmp_path):
    cfg = load(path)
    samples = [packed_sample(cfg, tmp_path, seed) for seed in range(2)]  # two: BN over a 1x1 map needs them
    cfg.model.data_preprocessor.size = (SIZE, SIZE)  # else it pads to the crop
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
    MessageHub.get_current_instance().update_info('iter', 0)  # as a runner does; losses may depend on it

    data = model.data_preprocessor(pseudo_collate(samples), training=True)
    assert data['inputs'].shape == (2, 3, SIZE, SIZE)
    losses = model.loss(**data)
    total, log = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert total > 0
    assert len([name for name in log if 'loss' in name]) >= 3  # total, main, auxiliary
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)

    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(pseudo_collate(samples), training=False)
        predictions = model.predict(**data)
    assert predictions[0].pred_sem_seg.data.shape[1:] == (SIZE, SIZE)


def packed_sample(cfg: Config, folder: Path, seed: int) -> dict:
    """A random image and label through the config's training pipeline, cut to a small size."""
    rng = np.random.default_rng(seed)
    image, label = folder / f'{seed}.png', folder / f'{seed}_label.png'
    Image.fromarray(rng.integers(0, 255, (200, 300, 3), dtype=np.uint8)).save(image)
    Image.fromarray(rng.integers(0, cfg.model.decode_head.num_classes, (200, 300), dtype=np.uint8)).save(label)
    pipeline = Compose([TRANSFORMS.build(step) for step in cfg.train_dataloader.dataset.pipeline])
    info = dict(img_path=str(image), seg_map_path=str(label), seg_fields=[], label_map=None, reduce_zero_label=False)
    sample = pipeline(info)
    sample['inputs'] = sample['inputs'][:, :SIZE, :SIZE]
    semantic = sample['data_samples'].gt_sem_seg.data[:, :SIZE, :SIZE]
    sample['data_samples'].set_data(dict(gt_sem_seg=PixelData(data=semantic)))
    shape = dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE))
    sample['data_samples'].set_metainfo(shape)
    return sample
