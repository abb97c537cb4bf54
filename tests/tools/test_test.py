"""tools/test.py and dist_test.sh on a tiny network on the CPU."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image

from tests.locations import ROOT
from tests.tools.tiny_run import free_port, make_data, run, run_here, write_config
from tools import test as tool
from tools import train


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Data set, config and checkpoint of a run that was long enough for all three classes to be predicted."""
    pytest.importorskip('mmseg', reason='the tiny network is of mmseg')
    folder = tmp_path_factory.mktemp('trained')
    data = make_data(folder / 'set')
    config = write_config(folder / 'trained.py', data, iterations=60, norm='SyncBN')
    options = [
        '--cfg-options',
        'train_cfg.val_interval=100',
        'param_scheduler.0.end=60',
        'optim_wrapper.optimizer.lr=0.2',
    ]
    run_here(train.main, config, '--work-dir', folder / 'work', *options)
    return data, config, folder / 'work' / 'iter_60.pth'


def test_metrics_and_label_pictures(trained, tmp_path):
    """``--out FOLDER``: the accuracy of the PNG files against the data set's own labels is the one reported."""
    data, config, checkpoint = trained
    metrics = run_here(tool.main, config, checkpoint, '--work-dir', tmp_path / 'work', '--out', tmp_path / 'png')
    files = sorted((tmp_path / 'png').iterdir())
    assert [path.name for path in files] == [f'{index}.png' for index in range(6)]
    predicted = np.stack([np.array(Image.open(path)) for path in files])
    truth = np.stack([np.array(Image.open(data / 'annotations' / path.name)) for path in files])
    assert set(np.unique(predicted)) == {0, 1, 2}
    assert metrics['aAcc'] == pytest.approx(100 * (predicted == truth).mean(), abs=0.01)
    assert metrics['aAcc'] > 80


def test_all_outputs(trained, tmp_path):
    """``--out FILE.pkl``, with a list of metrics in the config."""
    _, config, checkpoint = trained
    listed = tmp_path / 'listed.py'
    listed.write_text(config.read_text() + "\ntest_evaluator = [val_evaluator, dict(val_evaluator, prefix='again')]\n")
    metrics = run_here(tool.main, listed, checkpoint, '--work-dir', tmp_path / 'work', '--out', tmp_path / 'all.pkl')
    assert metrics['again/mIoU'] == metrics['mIoU']
    outputs = pickle.loads((tmp_path / 'all.pkl').read_bytes())
    assert len(outputs) == 6
    assert outputs[0]['seg_logits']['data'].shape == (3, 32, 48)
    assert torch.equal(outputs[0]['seg_logits']['data'].argmax(0), outputs[0]['pred_sem_seg']['data'][0])


def test_pictures(trained, tmp_path, monkeypatch):
    """``--show-dir`` draws all images without a display or training data, also if the visualizer saves nothing."""
    monkeypatch.delenv('DISPLAY', raising=False)
    data, config, checkpoint = trained
    silent = tmp_path / 'silent.py'
    silent.write_text(
        config.read_text() + "\nvisualizer['vis_backends'] = []\ntrain_dataloader['dataset']['data_root'] = 'gone'\n"
    )
    run_here(tool.main, silent, checkpoint, '--work-dir', tmp_path / 'work', '--show-dir', tmp_path / 'show')
    pictures = sorted((tmp_path / 'show').rglob('*.png'))
    assert len(pictures) == 6
    drawn = np.array(Image.open(pictures[0]))
    # mmseg puts the truth and the prediction side by side
    assert drawn.shape == (32, 96, 3)
    original = np.array(Image.open(data / 'images' / '0.png').convert('RGB'))
    assert not np.array_equal(drawn[:, 48:], original)


def test_work_dir_and_nothing_else(trained, tmp_path, monkeypatch):
    """Without ``--work-dir`` the logs go to work_dirs/<config>; nothing is drawn."""
    _, config, checkpoint = trained
    monkeypatch.chdir(tmp_path)
    run_here(tool.main, config, checkpoint)
    assert list((tmp_path / 'work_dirs' / 'trained').glob('*/*.json'))
    assert not list(tmp_path.rglob('*.png'))


def test_mixed_precision_on_the_cpu(trained, tmp_path):
    """bfloat16 changes the logits a little, not the picture."""
    _, config, checkpoint = trained
    for name, options in (('full', []), ('half', ['--amp'])):
        run_here(tool.main, config, checkpoint, '--work-dir', tmp_path, '--out', tmp_path / f'{name}.pkl', *options)
    full, half = (
        pickle.loads((tmp_path / f'{name}.pkl').read_bytes())[0]['seg_logits']['data'].float()
        for name in ('full', 'half')
    )
    assert not torch.equal(full, half)
    torch.testing.assert_close(full, half, rtol=0.05, atol=0.1)


def with_augmentation(config, path, tta_model, more=''):
    """Writes a config with an image and its mirror image as test-time augmentation."""
    path.write_text(
        config.read_text()
        + f"\ntta_model = dict(type='{tta_model}')\n"
        + "tta_pipeline = [dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=[\n"
        + "    [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)],\n"
        + "    [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]])]\n"
        + more
    )
    return path


def test_augmentation(trained, tmp_path):
    """``--tta``: what is saved is the mean over an image and its mirror image."""
    _, config, checkpoint = trained
    augmented = with_augmentation(config, tmp_path / 'augmented.py', 'mmplugins.SegTTAModel')
    mirrored = tmp_path / 'mirrored.py'
    mirrored.write_text(
        config.read_text()
        + "\ntest_dataloader['dataset']['pipeline'] = [test_pipeline[0], dict(type='RandomFlip', prob=1.), "
        + '*test_pipeline[1:]]\n'
    )
    run_here(tool.main, config, checkpoint, '--work-dir', tmp_path, '--out', tmp_path / 'plain.pkl')
    run_here(tool.main, mirrored, checkpoint, '--work-dir', tmp_path, '--out', tmp_path / 'mirrored.pkl')
    run_here(tool.main, augmented, checkpoint, '--work-dir', tmp_path, '--tta', '--out', tmp_path / 'both.pkl')
    plain, mirror, both = (
        [one['seg_logits']['data'].softmax(0) for one in pickle.loads((tmp_path / f'{name}.pkl').read_bytes())]
        for name in ('plain', 'mirrored', 'both')
    )
    assert len(both) == 6
    assert not torch.allclose(plain[0], mirror[0], atol=1e-3)
    for first, second, merged in zip(plain, mirror, both, strict=True):
        torch.testing.assert_close(merged, (first + second) / 2)
    with pytest.raises(SystemExit, match=r'test\.py: error: --tta needs tta_model and tta_pipeline in the config'):
        run_here(tool.main, config, checkpoint, '--work-dir', tmp_path, '--tta')


def test_augmentation_that_would_be_read_wrongly(trained, tmp_path):
    """mmseg's own TTA model: refused with one channel, and where SaliencyMetric reads seg_logits."""
    _, config, checkpoint = trained
    one = "model['decode_head'].update(num_classes=2, out_channels=1, loss_decode=dict(type='mmplugins.BCEIoULoss'))\n"
    metric = "test_evaluator = dict(type='mmplugins.SaliencyMetric')\n"
    for more, message in ((one, 'sigmoid of a head of one channel a second time'), (metric, 'last .* seg_logits, whi')):
        augmented = with_augmentation(config, tmp_path / 'augmented.py', 'SegTTAModel', more)
        with pytest.raises(SystemExit, match=rf"--tta: mmseg's SegTTAModel .*{message}.*'mmplugins\.SegTTAModel'"):
            run_here(tool.main, augmented, checkpoint, '--work-dir', tmp_path, '--tta')
    augmented = with_augmentation(config, tmp_path / 'augmented.py', 'SegTTAModel')
    assert run_here(tool.main, augmented, checkpoint, '--work-dir', tmp_path, '--tta')['aAcc'] > 80


@pytest.mark.slow
def test_two_processes_equal_one(trained, tmp_path):
    """Each image is predicted once, by either process, and the metrics are the same."""
    _, config, checkpoint = trained
    expected = run_here(tool.main, config, checkpoint, '--work-dir', tmp_path / 'one')
    arguments = ['--work-dir', tmp_path / 'two', '--out', tmp_path / 'png']
    run('tools/dist_test.sh', config, checkpoint, 2, *arguments, PORT=free_port())
    (report,) = (tmp_path / 'two').glob('*/*.json')
    actual = json.loads(report.read_text())
    assert {key: actual[key] for key in ('aAcc', 'mIoU', 'mAcc')} == {
        key: pytest.approx(float(expected[key])) for key in ('aAcc', 'mIoU', 'mAcc')
    }
    assert len(list((tmp_path / 'png').iterdir())) == 6


# what is put into the config


@pytest.fixture
def _mmengine_scope():
    DefaultScope.get_instance('test_test', scope_name='mmengine')
    yield
    DefaultScope._instance_dict.clear()


@pytest.mark.usefixtures('_mmengine_scope')
class TestConfig:
    def test_mmdet_dumps_encoded_masks(self):
        cfg = Config(dict(default_scope='mmdet', test_evaluator=dict(type='CocoMetric')))
        tool.save_predictions(cfg, 'x.pkl')
        assert [metric.type for metric in cfg.test_evaluator] == ['CocoMetric', 'DumpDetResults']
        assert cfg.test_evaluator[1].out_file_path == 'x.pkl'

    def test_mmdet_hook_writes_itself(self, tmp_path, monkeypatch):
        """A hook with mmdet's ``test_out_dir`` gets the folder, from where the command was given."""

        class Drawing:
            def __init__(self, draw=False, test_out_dir=None):
                pass

        monkeypatch.chdir(tmp_path)
        cfg = Config(dict(default_hooks=dict(visualization=dict(type=Drawing)), visualizer=dict(type='X')))
        tool.draw_predictions(cfg, 'show')
        assert cfg.default_hooks.visualization.test_out_dir == str(tmp_path / 'show')
        assert cfg.default_hooks.visualization.draw is True
        assert 'save_dir' not in cfg.visualizer

    def test_every_picture_is_drawn(self):
        """mmseg's hook until 1.2.2 obeys its interval in tests too."""

        class Drawing:
            def __init__(self, draw=False, interval=50):
                pass

        cfg = Config(dict(default_hooks=dict(visualization=dict(type=Drawing)), visualizer=dict(type='X'), train_cfg=1))
        tool.draw_predictions(cfg, 'show')
        assert cfg.default_hooks.visualization == dict(type=Drawing, draw=True, interval=1)
        assert cfg.train_cfg is None
        assert cfg.visualizer.save_dir == 'show'

    def test_metrics_that_write_no_files(self):
        cfg = Config(dict(test_evaluator=[dict(type='DumpResults', out_file_path='x.pkl')]))
        with pytest.raises(tool.UsageError, match=r'--out png: test_evaluator has DumpResults, which cannot .*\.pkl'):
            tool.save_predictions(cfg, 'png')

    def test_files_are_kept(self):
        class Keeping:
            def __init__(self, output_dir, keep_results=False):
                pass

        cfg = Config(dict(test_evaluator=dict(type=Keeping)))
        tool.save_predictions(cfg, 'png')
        assert (cfg.test_evaluator.output_dir, cfg.test_evaluator.keep_results) == ('png', True)

    @pytest.mark.parametrize('missing', ['default_hooks', 'visualizer'])
    def test_nothing_to_draw_with(self, missing):
        cfg = Config(dict(default_hooks=dict(visualization=dict(type='X')), visualizer=dict(type='X')))
        cfg.pop(missing)
        with pytest.raises(tool.UsageError, match=r'--show-dir needs default_hooks\.visualization and visualizer'):
            tool.draw_predictions(cfg, 'show')

    def test_augmentation_of_a_wrapped_data_set(self):
        inner = dict(type='Inner', pipeline=['old'])
        cfg = Config(
            dict(
                model=dict(type='Net'),
                tta_model=dict(type='TTA', tta_cfg=dict(nms=1)),
                tta_pipeline=['new'],
                test_dataloader=dict(dataset=dict(type='Repeat', dataset=inner)),
            )
        )
        tool.use_tta(cfg)
        assert cfg.test_dataloader.dataset.dataset.pipeline == ['new']
        assert cfg.model == dict(type='TTA', tta_cfg=dict(nms=1), module=dict(type='Net'))


@pytest.mark.slow
def test_a_model_keeps_its_own_preprocessor_when_it_is_augmented(tmp_path):
    """mmengine puts the one at the top of the config in its place: ImageNet's means, where the model has others."""
    pytest.importorskip('mmseg', reason='the config is of mmseg')
    cfg = Config.fromfile(ROOT / 'configs/pfnet/pfnet_efflite0_1xb8-20e_sod-224x224.py')
    assert cfg.data_preprocessor.mean == [123.675, 116.28, 103.53]
    cfg.model.backbone.init_cfg = None
    tool.use_tta(cfg)
    runner = Runner(cfg.model, str(tmp_path), data_preprocessor=cfg.data_preprocessor, default_scope='mmseg')
    assert runner.model.module.data_preprocessor.mean.flatten().tolist() == [127.0, 127.0, 127.0]


# errors


def test_no_checkpoint(trained, tmp_path):
    _, config, _ = trained
    with pytest.raises(SystemExit, match=r'test\.py: error: CHECKPOINT: there is no checkpoint gone\.pth \(in '):
        run_here(tool.main, config, 'gone.pth', '--work-dir', tmp_path / 'work')
    assert not (tmp_path / 'work').exists()


def test_a_checkpoint_of_another_model(trained, tmp_path):
    """No metrics of random weights; what fits in part is tested, and the log lists the rest."""
    _, config, checkpoint = trained
    own = torch.load(checkpoint, weights_only=False)['state_dict']
    torch.save({f'net.{name}': value for name, value in own.items()}, tmp_path / 'other.pth')
    with pytest.raises(
        SystemExit, match=r'test\.py: error: CHECKPOINT: \S+other\.pth is not a checkpoint of this model'
    ):
        run_here(tool.main, config, tmp_path / 'other.pth', '--work-dir', tmp_path / 'other')
    torch.save(
        {name: value for name, value in own.items() if name != 'decode_head.conv_seg.bias'}, tmp_path / 'part.pth'
    )
    run_here(tool.main, config, tmp_path / 'part.pth', '--work-dir', tmp_path / 'part')
    (log,) = (tmp_path / 'part').rglob('*.log')
    assert 'the others stay as initialised. 1 not in it: decode_head.conv_seg.bias' in log.read_text()


def test_paths_with_blanks_and_commas(trained, tmp_path):
    """mmengine's parser makes a list of two other folders of it."""
    data, config, checkpoint = trained
    folder = tmp_path / 'my set, new (1)'
    shutil.copytree(data, folder / 'data')
    own = [shutil.copy(path, folder) for path in (config, checkpoint)]
    metrics = run_here(
        tool.main, *own, '--work-dir', folder, '--cfg-options', f'test_dataloader.dataset.data_root={folder}/data'
    )
    assert metrics['aAcc'] > 80


def test_no_data(trained, tmp_path):
    _, config, checkpoint = trained
    options = ['--cfg-options', 'test_dataloader.dataset.data_root=gone']
    with pytest.raises(SystemExit, match=r"test_dataloader\.dataset\.data_root is 'gone', and there is no such folder"):
        run_here(tool.main, config, checkpoint, '--work-dir', tmp_path, *options)
