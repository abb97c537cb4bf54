"""Inference with every config that predicts images, from a small one to a picture; weights are random."""

import copy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from mmplugins.engine.launch import UsageError
from mmplugins.hosts import problem_with
from tests.locations import ROOT

CONFIGS = [path for path in sorted((ROOT / 'configs').rglob('*.py')) if '_base_' not in path.parts]


def kind(cfg: Config) -> str:
    """What tells configs apart in inference: the model without its losses, the pipeline, the classes."""
    dataset = cfg.test_dataloader.dataset
    model = copy.deepcopy(cfg.model.to_dict())
    for node in (model, *(value for value in model.values() if isinstance(value, dict))):
        for name in [name for name in node if 'loss' in name or name in ('train_cfg', 'map_weights', 'init_cfg')]:
            del node[name]
    return repr((model, dataset.get('pipeline'), dataset.get('metainfo'), dataset.type))


LOADED = {path: Config.fromfile(path) for path in CONFIGS}
IMAGES = {path: cfg for path, cfg in LOADED.items() if cfg.model.type != 'mmplugins.AOT'}
DIFFERENT = {kind(cfg): path for path, cfg in reversed(IMAGES.items())}.values()


@pytest.fixture(scope='module')
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp('image') / 'street.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(path)
    return str(path)


def small(path):
    """The config at a small test size, and its scope; a skip where its toolbox is missing."""
    cfg = copy.deepcopy(LOADED[path])
    if problem := problem_with(cfg.default_scope):
        pytest.skip(f'{cfg.default_scope} is needed: {problem}')
    datasets = cfg.test_dataloader.dataset.get('datasets') or [cfg.test_dataloader.dataset]
    for step in (step for dataset in datasets for step in dataset.pipeline):
        if 'scale' in step:
            step.scale = 48 if isinstance(step.scale, int) else (64, 48)  # the shorter side alone, or both
    if cfg.model.test_cfg.get('mode') == 'slide':
        cfg.model.test_cfg.update(crop_size=(48, 48), stride=(32, 32))
    return cfg


def test_there_are_configs():
    assert 15 <= len(DIFFERENT) < len(IMAGES) < len(CONFIGS)


@pytest.mark.slow
@pytest.mark.parametrize('path', [pytest.param(path, id=path.stem) for path in sorted(DIFFERENT)])
def test_an_image(path, image, tmp_path):
    cfg = small(path)
    torch.manual_seed(0)
    if cfg.default_scope == 'mmdet':
        from mmplugins.apis import DetInferencer

        one = DetInferencer(cfg, device='cpu', show_progress=False)
        result = one(image, out_dir=str(tmp_path), no_save_pred=False, return_vis=True)
        (prediction,), (picture,) = result['predictions'], result['visualization']
        assert len(prediction.get('labels', ())) == len(prediction.get('scores', ()))
        assert {'labels', 'panoptic_seg_path'} & set(prediction)
        assert (tmp_path / 'preds' / 'street.json').is_file()
        if cfg.model.test_cfg.get('panoptic_on'):
            assert np.asarray(Image.open(prediction['panoptic_seg_path'])).shape == (48, 64, 3)
    else:
        from mmplugins.apis import SegInferencer

        one = SegInferencer(cfg, device='cpu', show_progress=False)
        result = one(image, out_dir=str(tmp_path), return_vis=True)
        prediction, picture = result['predictions'], result['visualization']
        assert prediction.shape == (48, 64)
        assert prediction.max() < len(one.model.dataset_meta['classes'])
    assert picture.shape == (48, 64, 3)
    assert (tmp_path / 'vis' / 'street.png').is_file()
    dataset = cfg.test_dataloader.dataset
    meta = dataset.get('metainfo')
    if meta:
        assert list(one.model.dataset_meta['classes']) == list(meta.classes)


SAMPLE = ROOT / 'configs/pspnet/pspnet_r18-d8_w32-ohem_1xb8-400_sample-96x128.py'


@pytest.fixture
def weights(tmp_path):
    """Of the smallest segmentor, without classes in it."""
    if problem := problem_with('mmseg'):
        pytest.skip(f'mmseg is needed: {problem}')
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.manual_seed(1)
        model = revert_sync_batchnorm(MODELS.build(LOADED[SAMPLE].model))
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'weights.pth')
    return model, str(tmp_path / 'weights.pth')


def test_weights_arrive_and_classes_are_those_of_the_config(weights, image):
    """mmseg itself would name them as Cityscapes does."""
    from mmplugins.apis import SegInferencer

    model, path = weights
    one = SegInferencer(str(SAMPLE), path, device='cpu', show_progress=False)
    assert one.model.dataset_meta['classes'] == LOADED[SAMPLE].val_dataloader.dataset.metainfo.classes
    state = one.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_classes_of_the_checkpoint_come_first(weights, image):
    from mmplugins.apis import SegInferencer

    _, path = weights
    meta = dict(classes=tuple('abcdefgh'), palette=[[i, i, i] for i in range(8)])
    torch.save({**torch.load(path), 'meta': dict(dataset_meta=meta)}, path)
    one = SegInferencer(str(SAMPLE), path, device='cpu', show_progress=False)
    assert one.model.dataset_meta == meta


def test_weights_of_another_model(weights, image):
    from mmplugins.apis import SegInferencer

    _, path = weights
    torch.save({'state_dict': {'other.weight': torch.zeros(1)}}, path)
    with pytest.raises(UsageError, match=r'weights\.pth is not a checkpoint of this model'):
        SegInferencer(str(SAMPLE), path, device='cpu')


def test_joined_test_sets(image):
    """mmseg's own fails on them: they have no pipeline."""
    if problem := problem_with('mmseg'):
        pytest.skip(f'mmseg is needed: {problem}')
    from mmplugins.apis import SegInferencer

    cfg = copy.deepcopy(LOADED[SAMPLE])
    dataset = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[dict(type='RepeatDataset', times=2, dataset=dataset), dataset]
    )
    before = copy.deepcopy(cfg.to_dict())
    one = SegInferencer(cfg, device='cpu', show_progress=False)
    assert one(image)['predictions'].shape == (48, 64)
    assert cfg.to_dict() == before


def test_a_model_of_videos():
    if problem := problem_with('mmseg'):
        pytest.skip(f'mmseg is needed: {problem}')
    from mmplugins.apis import SegInferencer

    with pytest.raises(ValueError, match=r'AOT tracks the objects of a first mask.*mmplugins\.demo CONFIG'):
        SegInferencer(str(ROOT / 'configs/aot/aot_t_scratch_1xb2-1500_sample-video-97x129.py'))


def test_what_there_is():
    import mmplugins.apis

    with pytest.raises(AttributeError, match='has no attribute'):
        mmplugins.apis.Other  # noqa: B018
