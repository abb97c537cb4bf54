"""ValLossHook: values, the rules of its loader, errors; the training is the same with and without it."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope

from mmplugins.engine.hooks import ValLossHook
from mmplugins.engine.hooks.val_loss_hook import _batches, _check_rule
from mmplugins.engine.side_effects import evaluated, random_numbers
from mmplugins.engine.validation_data import DataError, validation_loader
from mmplugins.hosts import problem_with
from tests.engine.tiny_trainings import KINDS, make_data, train, training
from tests.locations import ROOT
from tests.tools import tiny_run
from tools import train as train_tool

needs_mmseg = pytest.mark.skipif(problem_with('mmseg') is not None, reason=f'mmseg: {problem_with("mmseg")}')
needs_mmdet = pytest.mark.skipif(problem_with('mmdet') is not None, reason=f'mmdet: {problem_with("mmdet")}')
NEEDS = {'pspnet': needs_mmseg, 'detr': needs_mmdet, 'mask2former': needs_mmdet, 'aot': needs_mmseg}
HOOK = dict(type='mmplugins.ValLossHook')
PICTURES = dict(type='mmplugins.LossPictureHook', interval=2)
DRAWN = {
    'pspnet': {'look_pixels'},
    'detr': {'look_matching'},
    'mask2former': {'look_matching', 'look_points'},
    'aot': {'look_clip'},
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Makes each kind of data once."""
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = make_data(tmp_path_factory.mktemp(kind) / 'data', kind)
        return made[kind]

    return of


@pytest.mark.slow
@pytest.mark.parametrize('name', [pytest.param(name, marks=NEEDS[name]) for name in KINDS])
def test_training_is_the_same_with_and_without(name, data, tmp_path):
    """With the pictures of ``LossPictureHook`` too: at iterations 1 and 2, before a step that could show a trace."""
    found = {}
    for hooks in ((), (HOOK, PICTURES)):
        runner, trace = train(training(name, data(KINDS[name]), tmp_path / str(len(hooks)), 3, hooks))
        found[len(hooks)] = runner.model.state_dict(), trace
    (weights, without), (same, trace) = found[0], found[2]
    assert trace.losses == without.losses
    assert len(trace.losses) == 3
    assert weights.keys() == same.keys()
    assert all(torch.equal(weights[key], same[key]) for key in weights)
    assert len(trace.metrics) == 2
    expected = {f'val/{key}' for key in trace.losses[0] if 'loss' in key}
    assert {'val/loss'} < expected
    for metrics, before in zip(trace.metrics, without.metrics, strict=True):
        assert {key for key in metrics if key.startswith('val/')} == expected
        assert {key: value for key, value in metrics.items() if key not in expected} == before
        assert all(np.isfinite(value) for key, value in metrics.items() if key in expected)
        parts = [value for key, value in metrics.items() if key in expected and key != 'val/loss']
        assert metrics['val/loss'] == pytest.approx(sum(parts), rel=1e-4)
    assert trace.metrics[0]['val/loss'] != trace.metrics[1]['val/loss']
    pictures = {path.stem for path in (tmp_path / '2').glob('*/vis_data/vis_image/look_*.png')}
    assert pictures == {f'{kind}_{step}' for kind in DRAWN[name] for step in (1, 2)}
    assert not list((tmp_path / '0').glob('*/vis_data/vis_image/*'))
    log = next((tmp_path / '2').glob('*/vis_data/scalars.json')).read_text()
    assert log.count('match_stability') == (2 if 'look_matching' in DRAWN[name] else 0)
    assert 'cannot draw' not in next((tmp_path / '2').glob('*/*.log')).read_text()


@needs_mmseg
def test_values_are_means_over_the_validation_images(data, tmp_path):
    """After the last validation the model is as the hook saw it: each image alone, at its own size, in evaluation."""
    cfg = training('pspnet', data('semantic'), tmp_path, 2, [HOOK])
    runner, trace = train(cfg)
    model = runner.model.eval()
    totals = []
    with torch.no_grad():
        for item in range(2):
            sample = runner.val_dataloader.dataset[item]
            batch = {name: [value] for name, value in sample.items()}
            batch = model.data_preprocessor(batch, True)
            totals.append(float(sum(v for k, v in model(**batch, mode='loss').items() if 'loss' in k)))
    assert trace.metrics[-1]['val/loss'] == pytest.approx(np.mean(totals), rel=1e-6)
    assert not any(key.endswith('acc_seg') for key in trace.metrics[-1])
    hub = runner.message_hub
    assert hub.get_scalar('val/val/loss').current() == trace.metrics[-1]['val/loss']  # the log calls it val/loss
    # OHEM's share is logged in training alone: once an iteration
    assert len(hub.get_scalar('train/ohem_kept').data[0]) == 2


@needs_mmseg
def test_values_are_the_same_at_each_call_and_with_workers(data, tmp_path):
    """The clips of AOT are drawn at random, with the same numbers each time; a worker has numbers of its own."""

    class Again(Hook):
        priority = 'LOWEST'
        found = []

        def after_val_epoch(self, runner, metrics=None):
            (hook,) = (hook for hook in runner.hooks if isinstance(hook, ValLossHook))
            self.found.append(hook.losses(runner))
            self.found.append({key: value for key, value in metrics.items() if key in self.found[0]})
            loader = validation_loader(runner.cfg) | dict(num_workers=1, persistent_workers=True)
            other = ValLossHook(dataloader=loader)
            self.found += [other.losses(runner), other.losses(runner)]

    train(training('aot', data('video'), tmp_path, 2, [HOOK]), Again())
    again, first, worker, second = Again.found
    assert again == first
    assert worker == second
    assert worker.keys() == first.keys()


@needs_mmseg
def test_the_log_the_best_checkpoint_and_early_stopping_read_the_loss(data, tmp_path):
    cfg = training('pspnet', data('semantic'), tmp_path, 8, [HOOK])
    cfg.default_hooks.checkpoint.update(save_best='val/loss')
    cfg.custom_hooks.append(dict(type='EarlyStoppingHook', monitor='val/loss', patience=1, min_delta=1e9))
    runner, trace = train(cfg)
    assert runner.iter == 4  # a gain of 1e9 is never reached: the second validation stops it
    best = min(range(2), key=lambda index: trace.metrics[index]['val/loss'])
    assert [path.name for path in tmp_path.glob('best*')] == [f'best_val_loss_iter_{2 * (best + 1)}.pth']
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    logged = [line for line in log.read_text().splitlines() if '"val/loss"' in line]
    assert len(logged) == 2
    assert '"val/decode.loss_ohem"' in logged[0]


@pytest.mark.slow
@needs_mmseg
def test_two_processes_average_over_all_images_once(tmp_path):
    """Five images for two ranks: mmengine's sampler repeats one, which does not count."""
    folder = tiny_run.make_data(tmp_path / 'data', 5)
    logged = []
    for name, batch in (('one', 4), ('two', 2)):
        config = tiny_run.write_config(
            tmp_path / f'{name}.py',
            folder,
            batch=batch,
            iterations=1,
            norm_eval=True,
            head_norm=None,
            hooks=[HOOK, PICTURES],
            loss=dict(type='mmplugins.OhemCrossEntropyLoss', thresh=1.0),  # all pixels, so that ranks do not matter
        )
        work_dir = tmp_path / name
        if name == 'one':
            tiny_run.run_here(train_tool.main, config, '--work-dir', work_dir)
        else:
            tiny_run.run('tools/dist_train.sh', config, 2, '--work-dir', work_dir, PORT=tiny_run.free_port())
        (log,) = work_dir.glob('*/vis_data/scalars.json')
        assert [path.name for path in work_dir.glob('*/vis_data/vis_image/look*')] == ['look_pixels_1.png']
        logged += [line['val/loss'] for line in map(json.loads, log.read_text().splitlines()) if 'val/loss' in line]
    assert len(logged) == 2
    assert logged[1] == pytest.approx(logged[0], rel=1e-6)


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return index


@pytest.mark.parametrize(('rank', 'expected'), [(0, [(2, [0, 2]), (1, [4])]), (1, [(2, [1, 3]), (0, [0])])])
def test_repeated_images_do_not_count(rank, expected, monkeypatch):
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, 2))
    sampler = DefaultSampler(Images(), shuffle=False)
    loader = torch.utils.data.DataLoader(
        Images(), batch_size=2, sampler=sampler, collate_fn=lambda items: dict(inputs=items)
    )
    found = [(count, batch['inputs']) for count, batch in _batches(loader, SimpleNamespace(rank=rank, world_size=2))]
    assert found == expected


def test_states_come_back():
    """Random numbers, buffers, counters, modes and the log."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.seen, self.history, self.batch_augments = 0, [1.5], ['mix']
            self.norm = torch.nn.BatchNorm1d(2)
            self.register_buffer('counts', torch.zeros(2))

        def forward(self, x):
            self.seen += 1
            self.history.append(2.0)
            self.counts += 1
            assert not self.norm.training
            assert self.batch_augments is None
            MessageHub.get_current_instance().update_scalar('train/other', 1)
            return torch.nn.functional.dropout(self.norm(x), training=self.training)

    def draw():
        return random.random(), np.random.rand(), float(torch.rand(()))  # noqa: NPY002

    model, hub = Model(), MessageHub.get_current_instance()
    hub.update_scalar('train/loss', 3.0)
    model.norm.eval()  # a frozen norm in a model that trains
    random.seed(4), np.random.seed(4), torch.manual_seed(4)  # noqa: NPY002
    expected = draw()
    random.seed(4), np.random.seed(4), torch.manual_seed(4)  # noqa: NPY002
    drawn = []
    for _ in range(2):
        with random_numbers(7), evaluated(model):
            drawn.append(draw())
            assert not model(torch.rand(3, 2)).requires_grad
    assert drawn[0] == drawn[1]
    assert draw() == expected
    assert (model.seen, model.history, model.batch_augments) == (0, [1.5], ['mix'])
    assert (model.training, model.norm.training) == (True, False)
    assert model.counts.tolist() == [0, 0]
    assert 'train/other' not in hub.log_scalars
    assert hub.get_scalar('train/loss').current() == 3.0


# its loader


def loaders(training_pipeline, validation_pipeline, **dataset):
    val = dict(type='A', data_root='val', test_mode=True, pipeline=validation_pipeline, **dataset)
    return dict(
        train_dataloader=dict(batch_size=4, dataset=dict(type='A', data_root='train', pipeline=training_pipeline)),
        val_dataloader=dict(batch_size=2, sampler=dict(type='VideoSampler'), dataset=val),
    )


def names(pipeline):
    return [transform['type'] for transform in pipeline]


@needs_mmseg
def test_pipeline_of_a_segmentor():
    """Images are resized as in the validation, annotations with them."""
    before = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    crop = [dict(type='RandomResize', scale=(8, 4)), dict(type='RandomCrop'), dict(type='RandomFlip', prob=0.5)]
    cfg = loaders(
        [*before, *crop, dict(type='PhotoMetricDistortion'), dict(type='PackSegInputs')],
        [before[0], dict(type='Resize', scale=(8, 4)), before[1], dict(type='PackSegInputs', meta_keys=())],
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        loader = validation_loader(cfg)
    pipeline = loader['dataset']['pipeline']
    assert names(pipeline) == ['LoadImageFromFile', 'LoadAnnotations', 'Resize', 'PackSegInputs']
    assert pipeline[2]['scale'] == (8, 4)
    assert 'meta_keys' not in pipeline[3]
    assert loader['batch_size'] == 2
    assert loader['sampler'] == dict(type='DefaultSampler', shuffle=False)
    assert (loader['dataset']['data_root'], loader['dataset']['test_mode']) == ('val', False)
    assert cfg['val_dataloader']['dataset']['test_mode']


@needs_mmdet
def test_pipeline_of_a_detector():
    """A choice among resizings is random; images without objects stay; a mosaic's wrapper keeps what it wraps."""
    resize, load = dict(type='RandomChoiceResize', scales=[1]), dict(type='LoadAnnotations', with_mask=True)
    inner = dict(type='A', pipeline=[dict(type='LoadImageFromFile'), load])
    outer = [
        dict(type='Mosaic'),
        dict(type='YOLOXHSVRandomAug'),
        dict(type='RandomChoice', transforms=[[resize], [resize, dict(type='RandomCrop')]]),
        dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1)),
        dict(type='PackDetInputs'),
    ]
    cfg = loaders([], [dict(type='Resize', scale=(9, 9), keep_ratio=True)], filter_cfg=dict(min_size=3))
    cfg['train_dataloader']['dataset'] = dict(type='MultiImageMixDataset', dataset=inner, pipeline=outer)
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = validation_loader(cfg)['dataset']
    assert names(dataset['pipeline']) == [
        *('LoadImageFromFile', 'LoadAnnotations', 'Resize', 'FilterAnnotations', 'PackDetInputs')
    ]
    assert dataset['pipeline'][1]['with_mask']
    assert dataset['pipeline'][3]['keep_empty'] is False
    assert dataset['filter_cfg'] is None


@needs_mmseg
def test_pipeline_of_clips_and_of_joined_data_sets():
    cfg = Config.fromfile(ROOT / 'configs/aot/aot_t_scratch_1xb2-1500_sample-video-97x129.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        pipeline = validation_loader(cfg)['dataset']['pipeline']
    assert names(pipeline) == [f'mmplugins.{name}' for name in ('SampleClip', 'LoadClip', 'RandomCropClip', 'PackClip')]
    jitter = dict(type='mmplugins.ColorJitter')
    cfg = loaders([], [])
    cfg['val_dataloader']['dataset'] = dict(
        type='ConcatDataset', datasets=[dict(type='A', pipeline=[]), dict(type='B', pipeline=[])]
    )
    joined = [dict(type='A', pipeline=[dict(type='Load'), jitter]), dict(type='B', pipeline=[dict(type='Load')])]
    cfg['train_dataloader']['dataset'] = dict(type='ConcatDataset', datasets=joined)
    with pytest.raises(DataError, match=r'training data sets have different pipelines.*pipeline=\[\.\.\.\]'):
        validation_loader(cfg)
    for one, root in zip(cfg['val_dataloader']['dataset']['datasets'], ('b', 'c'), strict=True):
        one['data_root'] = root
    joined[0]['data_root'], joined[1]['data_root'] = 'a', 'b'  # the one of the validation's root is taken
    joined[1]['pipeline'] = [dict(type='LoadB')]
    assert [names(one['pipeline']) for one in validation_loader(cfg)['dataset']['datasets']] == [['LoadB'], ['LoadB']]
    joined[1]['pipeline'] = [dict(type='Load')]
    found = validation_loader(cfg, [dict(type='Mine')])['dataset']['datasets']
    assert [names(one['pipeline']) for one in found] == [['Mine'], ['Mine']]
    joined[1]['pipeline'].append(dict(jitter))
    assert [names(one['pipeline']) for one in validation_loader(cfg)['dataset']['datasets']] == [['Load'], ['Load']]


def test_loaders_that_cannot_be_derived():
    with pytest.raises(DataError, match=r'the config has no train_dataloader and no val_dataloader as a dict'):
        validation_loader({})
    cfg = loaders([], [])
    with pytest.raises(DataError, match=r'the training data set A has no pipeline in its config'):
        validation_loader(cfg)


# errors


@needs_mmseg
def test_errors_of_settings(data, tmp_path):
    with pytest.raises(ValueError, match='give dataloader, whose data set has a pipeline, or pipeline, and not both'):
        ValLossHook(dataloader={}, pipeline=[])
    cfg = training('pspnet', data('semantic'), tmp_path, 2, [HOOK])
    cfg.update(val_cfg=None, val_dataloader=None, val_evaluator=None)
    with pytest.raises(ValueError, match='this run has none: set val_cfg, val_dataloader and val_evaluator'):
        train(cfg)


def test_the_greatest_loss_is_not_the_best():
    """mmengine finds 'top' in the name and takes the greatest value."""
    for hook in (
        CheckpointHook(save_best=['mIoU', 'val/decode.loss_topk']),
        EarlyStoppingHook(monitor='val/decode.loss_topk'),
    ):
        with pytest.raises(ValueError, match=r"Hook takes the greatest (save_best|monitor)='val/decode.loss_topk' for"):
            _check_rule(hook)
    _check_rule(CheckpointHook(save_best='val/decode.loss_topk', rule='less'))
    _check_rule(CheckpointHook(save_best='val/loss'))
    _check_rule(CheckpointHook())


@needs_mmseg
def test_errors_of_data_and_model(data, tmp_path, monkeypatch):
    load = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
    with pytest.raises(RuntimeError, match=r'EncoderDecoder computed no losses.*gt_sem_seg.*pipeline=\[\.\.\.\]'):
        train(training('pspnet', data('semantic'), tmp_path, 2, [dict(HOOK, pipeline=load)]))
    load = [dict(type='LoadImageFromFile', to_float32='x', imdecode_backend='none')]
    with pytest.raises(RuntimeError, match=r'could not load the validation split \(.*dataloader=dict'):
        train(training('pspnet', data('semantic'), tmp_path, 2, [dict(HOOK, pipeline=load)]))
