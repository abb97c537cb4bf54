"""tools/train.py, dist_train.sh and slurm_train.sh: runs of a tiny network on the CPU."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner.loops import _InfiniteDataloaderIterator
from mmengine.testing import RunnerTestCase

from tests.tools.tiny_run import ROOT, free_port, make_data, run, run_here, unexplained_warnings, write_config
from tools import train

RANDOM = dict(flip=0.5, dropout=0.5, hooks=[dict(type='mmplugins.IterSeedHook'), dict(type='RecordHook')])


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    pytest.importorskip('mmseg', reason='the tiny network is of mmseg')
    return make_data(tmp_path_factory.mktemp('data') / 'set')


def losses(folder: Path, rank: int = 0) -> list[dict]:
    return json.loads((folder / f'rank{rank}.json').read_text())


def load(path: Path) -> dict:
    """Loads a checkpoint as a program does that knows neither mmengine nor numpy."""
    return torch.load(path, weights_only=True)


def assert_same(actual: object, expected: object, where: str = 'checkpoint') -> None:
    """Equal to the last bit, tensors included."""
    assert type(actual) is type(expected), where
    if isinstance(expected, torch.Tensor):
        assert actual.dtype == expected.dtype, where
        assert torch.equal(actual, expected), where
    elif isinstance(expected, dict):
        assert list(actual) == list(expected), where
        for key in expected:
            assert_same(actual[key], expected[key], f'{where}.{key}')
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected), where
        for index, pair in enumerate(zip(actual, expected, strict=True)):
            assert_same(*pair, f'{where}.{index}')
    else:
        assert actual == expected, where


# smoke


def test_the_tools_import_no_toolbox():
    code = (
        'import sys, tools.train, tools.test; '
        "sys.exit(str({'mmseg', 'mmdet', 'mmcv'} & set(sys.modules) or '') or None)"
    )
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(ROOT)}, check=True)


@pytest.mark.parametrize(
    'tool', ['train', 'test', 'vos_demo', 'analysis_tools/draw_results', 'analysis_tools/draw_points']
)
@pytest.mark.parametrize('given', [None, 'active'])
def test_waiting_threads_sleep(tool, given):
    """Beside another program; it must be set before torch is imported, and what the user set stays."""
    code = """
import importlib.abc, os, runpy, sys

class Look(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == 'torch':
            print(os.environ.get('OMP_WAIT_POLICY'), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Look())
runpy.run_path(sys.argv[1])
"""
    environment = {name: value for name, value in os.environ.items() if name != 'OMP_WAIT_POLICY'}
    environment.update({'PYTHONPATH': str(ROOT)} | ({} if given is None else {'OMP_WAIT_POLICY': given}))
    command = [sys.executable, '-c', code, str(ROOT / 'tools' / f'{tool}.py')]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f'{given or "passive"}\n'


class TestOfMmengine(RunnerTestCase):
    """A config of mmengine's own scope, without any toolbox: mmengine's toy model."""

    def run_toy(self, **changes) -> Path:
        work_dir = Path(self.temp_dir.name, 'work')
        cfg = Config({**self.iter_based_cfg, **changes})
        cfg.pop('experiment_name')
        cfg.pop('work_dir')
        cfg.dump(Path(self.temp_dir.name, 'toy.py'))
        run_here(train.main, Path(self.temp_dir.name, 'toy.py'), '--work-dir', work_dir)
        return work_dir

    def test_trains(self):
        assert 'linear1.weight' in load(self.run_toy() / 'iter_12.pth')['state_dict']

    def test_runner_type(self):
        assert (self.run_toy(runner_type='Runner') / 'iter_12.pth').is_file()

    def test_unknown_model(self):
        with pytest.raises(KeyError, match='NoModel is not in the'):
            self.run_toy(model=dict(type='NoModel'))
        assert MODELS.get('ToyModel') is not None


# resuming


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, data):
    """Killed in iteration 4, resumed from iteration 2: all of the checkpoint of iteration 6 is the same, bit by bit.

    The images are flipped at random, the head has dropout, and a validation lies between the checkpoint and the kill.
    The run that is not killed loads its images itself, the other one has workers; with mmengine up to 0.10.7 both have.
    """
    config = write_config(tmp_path / 'killed.py', data, iterations=6, **RANDOM)
    workers = tmp_path / 'workers.py'
    loader = '\ntrain_dataloader.update(num_workers=2, persistent_workers=True)\n'
    workers.write_text(config.read_text() + loader)
    dies = tmp_path / 'dies.py'
    dies.write_text(workers.read_text() + "\ncustom_hooks.append(dict(type='KillHook', iteration=4))\n")

    whole = config if hasattr(_InfiniteDataloaderIterator, 'skip_iter') else workers
    run_here(train.main, whole, '--work-dir', tmp_path / 'whole')
    killed = run('tools/train.py', dies, '--work-dir', tmp_path / 'killed', fails=True)
    assert killed.returncode == -9, killed.stdout
    assert (tmp_path / 'killed' / 'iter_2.pth').is_file()
    assert not (tmp_path / 'killed' / 'iter_4.pth').exists()
    assert len(losses(tmp_path / 'killed')) == 4
    run_here(train.main, workers, '--work-dir', tmp_path / 'killed', '--resume')

    # what the resumed process saw is iterations 3 to 6
    assert losses(tmp_path / 'killed') == losses(tmp_path / 'whole')[2:]
    resumed, whole = load(tmp_path / 'killed' / 'iter_6.pth'), load(tmp_path / 'whole' / 'iter_6.pth')
    assert whole['meta']['iter'] == 6
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same(resumed[key], whole[key], key)
    for name in ('train/loss', 'train/lr'):
        assert_same(*(each['message_hub']['log_scalars'][name] for each in (resumed, whole)), name)


def test_without_the_hook_a_resumed_run_draws_other_numbers(tmp_path, data):
    """So the test above does depend on the hook; the order of the images is mmengine's and is kept."""
    config = write_config(tmp_path / 'control.py', data, iterations=4, **{**RANDOM, 'hooks': [dict(type='RecordHook')]})
    run_here(train.main, config, '--work-dir', tmp_path / 'whole')
    resumed = tmp_path / 'resumed'
    run_here(train.main, config, '--work-dir', resumed, '--cfg-options', 'train_cfg.max_iters=2')
    run_here(train.main, config, '--work-dir', resumed, '--resume')
    whole = losses(tmp_path / 'whole')[2:]
    assert [entry['images'] for entry in losses(resumed)] == [entry['images'] for entry in whole]
    assert [entry['loss'] for entry in losses(resumed)] != [entry['loss'] for entry in whole]


def test_checkpoints_of_other_models(tmp_path, data):
    """load_from takes a part, a run that goes on does not, and neither takes nothing."""
    config = write_config(tmp_path / 'one.py', data, iterations=1)
    run_here(train.main, config, '--work-dir', tmp_path / 'one')
    whole = torch.load(tmp_path / 'one' / 'iter_1.pth', weights_only=False)
    own = whole['state_dict']
    torch.save({f'net.{name}': value for name, value in own.items()}, tmp_path / 'other.pth')
    del own['decode_head.conv_seg.bias']
    torch.save(whole, tmp_path / 'part.pth')
    arguments = [config, '--work-dir', tmp_path / 'two']
    for options, message in (
        (
            ['--resume', tmp_path / 'part.pth'],
            r'--resume: \S+part\.pth is of another model.*1 not in it: decode_head\.co',
        ),
        (['--resume', tmp_path / 'other.pth'], r'--resume: \S+other\.pth is not a checkpoint of this model'),
        (
            ['--cfg-options', f'load_from={tmp_path / "other.pth"}'],
            r'load_from: \S+other\.pth is not a checkpoint of th',
        ),
    ):
        with pytest.raises(SystemExit, match=rf'^train\.py: error: {message}'):
            run_here(train.main, *arguments, *options)
    run_here(train.main, *arguments, '--cfg-options', f'load_from={tmp_path / "part.pth"}')
    assert (tmp_path / 'two' / 'iter_1.pth').is_file()


def test_resume_from_a_checkpoint(tmp_path, data):
    config = write_config(tmp_path / 'from_path.py', data, iterations=2, hooks=[dict(type='RecordHook')])
    run_here(train.main, config, '--work-dir', tmp_path / 'first')
    longer = ['--cfg-options', 'train_cfg.max_iters=3', 'train_cfg.val_interval=9']
    run_here(
        train.main, config, '--work-dir', tmp_path / 'second', '--resume', tmp_path / 'first' / 'iter_2.pth', *longer
    )
    assert len(losses(tmp_path / 'second')) == 1
    assert load(tmp_path / 'second' / 'iter_3.pth')['meta']['iter'] == 3
    (log,) = (tmp_path / 'second').rglob('*.log')
    assert '--resume: lr of' not in log.read_text()


def test_resume_with_another_learning_rate(tmp_path, data):
    """It has no effect, as the checkpoint's optimizer comes first; the log says so."""
    config = write_config(tmp_path / 'rate.py', data, iterations=2)
    run_here(train.main, config, '--work-dir', tmp_path / 'run')
    options = ['train_cfg.max_iters=3', 'train_cfg.val_interval=9', 'optim_wrapper.optimizer.lr=0.7']
    run_here(train.main, config, '--work-dir', tmp_path / 'run', '--resume', '--cfg-options', *options)
    assert load(tmp_path / 'run' / 'iter_3.pth')['optimizer']['param_groups'][0]['initial_lr'] == 0.05
    text = ''.join(path.read_text() for path in (tmp_path / 'run').rglob('*.log'))
    assert 'is 0.05 in the checkpoint and 0.7 in the config; a run that is resumed goes on with 0.05' in text


class TestSetResume:
    def cfg(self, tmp_path, **values) -> Config:
        return Config(dict(work_dir=str(tmp_path), **values))

    def test_auto_without_a_checkpoint_keeps_load_from(self, tmp_path, caplog):
        pretrained = tmp_path / 'pretrained.pth'
        pretrained.touch()
        cfg = self.cfg(tmp_path, load_from=str(pretrained))
        train.set_resume(cfg, 'auto')
        assert (cfg.resume, cfg.load_from) == (False, str(pretrained))

    def test_auto_takes_the_latest(self, tmp_path):
        for name in ('iter_2.pth', 'iter_4.pth'):
            torch.save({}, tmp_path / name)
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_4.pth'))
        cfg = self.cfg(tmp_path, load_from='pretrained.pth')
        train.set_resume(cfg, 'auto')
        assert (cfg.resume, cfg.load_from) == (True, str(tmp_path / 'iter_4.pth'))

    def test_auto_in_a_moved_work_dir(self, tmp_path):
        torch.save({}, tmp_path / 'iter_4.pth')
        (tmp_path / 'last_checkpoint').write_text('elsewhere/iter_4.pth')
        cfg = self.cfg(tmp_path)
        train.set_resume(cfg, 'auto')
        assert cfg.load_from == str(tmp_path / 'iter_4.pth')

    def test_auto_with_the_latest_gone_or_broken(self, tmp_path):
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_4.pth'))
        cfg = self.cfg(tmp_path)
        with pytest.raises(train.UsageError, match=r'--resume: there is no checkpoint .*iter_4\.pth that is whole'):
            train.set_resume(cfg, 'auto')
        (tmp_path / 'iter_4.pth').write_bytes(b'PK half a file')
        torch.save({}, tmp_path / 'iter_2.pth')
        train.set_resume(cfg, 'auto')
        assert (cfg.resume, cfg.load_from) == (True, str(tmp_path / 'iter_2.pth'))

    def test_none_keeps_the_config(self, tmp_path):
        cfg = self.cfg(tmp_path, resume=True, load_from='https://host/x.pth')
        train.set_resume(cfg, None)
        assert (cfg.resume, cfg.load_from) == (True, 'https://host/x.pth')

    def test_load_from_missing(self, tmp_path):
        with pytest.raises(train.UsageError, match=r'load_from: there is no checkpoint gone\.pth'):
            train.set_resume(self.cfg(tmp_path, load_from='gone.pth'), None)


@pytest.mark.parametrize('loss', ['CrossEntropyLoss', 'mmplugins.OhemCrossEntropyLoss'])
def test_checkpoints_load_without_unpickling_code(tmp_path, data, loss, caplog):
    """With the hub's log, the schedulers, the optimizer and the best score; and mmengine resumes from it so."""
    config = write_config(tmp_path / 'safe.py', data, loss=dict(type=loss))
    best = ['--cfg-options', 'default_hooks.checkpoint.save_best=mIoU']
    run_here(train.main, config, '--work-dir', tmp_path / 'work', *best)
    checkpoint = load(tmp_path / 'work' / 'iter_2.pth')
    assert checkpoint['message_hub']['runtime_info']['iter'] == 1
    assert 'train/loss' in checkpoint['message_hub']['log_scalars']
    assert {'optimizer', 'param_schedulers'} <= set(checkpoint)
    (best_checkpoint,) = (tmp_path / 'work').glob('best_mIoU_*.pth')
    assert load(best_checkpoint)['message_hub']['runtime_info']['best_score'] >= 0

    longer = ['train_cfg.max_iters=3']
    run_here(train.main, config, '--work-dir', tmp_path / 'work', '--resume', *best, *longer)
    log = ''.join(path.read_text() for path in (tmp_path / 'work').glob('*/*.log'))
    assert 'resumed epoch: 0, iter: 2' in log
    assert 'Could not safely load' not in log


# several processes


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, data):
    """Loss and gradient of two processes with two images each are those of one process with the four.

    So mathematics says with frozen batch norm, pixels that are all valid (6144 a process) and losses that are means
    over them: cross entropy, and OHEM that keeps every pixel. The momentum buffer after the first step is the gradient.
    The config's SyncBN does not run on the CPU and becomes BN.
    """
    settings = dict(
        norm='SyncBN',
        norm_eval=True,
        head_norm=None,
        hooks=[dict(type='RecordHook')],
        loss=[
            dict(type='CrossEntropyLoss', loss_name='loss_ce'),
            dict(type='mmplugins.OhemCrossEntropyLoss', thresh=1.0, loss_name='loss_ohem'),
        ],
    )
    options = ['--cfg-options', 'default_hooks.checkpoint.interval=1']
    one = write_config(tmp_path / 'one.py', data, batch=4, **settings)
    two = write_config(tmp_path / 'two.py', data, batch=2, **settings)
    run_here(train.main, one, '--work-dir', tmp_path / 'one', *options)
    done = run('tools/dist_train.sh', two, 2, '--work-dir', tmp_path / 'two', *options, PORT=free_port())
    assert 'SyncBN of the config became BN' in done.stdout
    assert 'GPU number: 2' in done.stdout
    assert unexplained_warnings(done.stdout) == []

    whole = losses(tmp_path / 'one')
    halves = [losses(tmp_path / 'two', rank) for rank in (0, 1)]
    for expected, first, second in zip(whole, *halves, strict=True):
        assert sorted(first['images'] + second['images']) == sorted(expected['images'])
        assert first['loss'] != second['loss']
        assert (first['loss'] + second['loss']) / 2 == pytest.approx(expected['loss'], rel=1e-6)
    expected, actual = (load(tmp_path / name / 'iter_1.pth')['optimizer']['state'] for name in ('one', 'two'))
    assert len(expected) > 40
    for index, state in expected.items():
        gradient, other = state['momentum_buffer'].double(), actual[index]['momentum_buffer'].double()
        assert torch.linalg.vector_norm(other - gradient) <= 1e-6 * torch.linalg.vector_norm(gradient), index


def test_torchrun_must_start_the_processes(tmp_path, data, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    config = write_config(tmp_path / 'alone.py', data)
    with pytest.raises(SystemExit, match=r'--launcher pytorch needs RANK, .*tools/dist_train\.sh CONFIG N'):
        run_here(train.main, config, '--launcher', 'pytorch', '--work-dir', tmp_path)


@pytest.mark.parametrize(
    ('script', 'arguments', 'expected'),
    [
        ('slurm_train.sh', ['part', 'a job', 'a config.py', '--amp'], ['a config.py', '--launcher', 'slurm', '--amp']),
        (
            'slurm_test.sh',
            ['part', 'a job', 'c.py', 'a.pth', '--tta'],
            ['c.py', 'a.pth', '--launcher', 'slurm', '--tta'],
        ),
    ],
)
def test_slurm_scripts(tmp_path, script, arguments, expected):
    """With a srun that writes down what it gets, an argument a line."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    settings = dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='2', SRUN_ARGS='--time=5 --exclusive')
    done = subprocess.run(
        [ROOT / 'tools' / script, *arguments], env=settings, capture_output=True, text=True, check=True, cwd=ROOT
    )
    tool = script.replace('slurm_', '').replace('.sh', '.py')
    assert done.stdout.splitlines() == [
        '--partition=part',
        '--job-name=a job',
        '--gres=gpu:2',
        '--ntasks=2',
        '--ntasks-per-node=2',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        '--time=5',
        '--exclusive',
        'python',
        '-u',
        str(ROOT / 'tools' / tool),
        *expected,
    ]


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_scripts_say_how_to_use_them(script):
    done = run(f'tools/{script}', 'config.py', fails=True)
    assert done.returncode == 2
    assert done.stdout.startswith(f'usage: tools/{script} ')


# mixed precision


class TestSetPrecision:
    @pytest.fixture
    def _cuda(self, monkeypatch):
        monkeypatch.setattr(train, 'get_device', lambda: 'cuda')

    @pytest.fixture
    def _cpu(self, monkeypatch):
        monkeypatch.setattr(train, 'get_device', lambda: 'cpu')

    def cfg(self, **wrapper) -> Config:
        return Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1), **wrapper)))

    @pytest.mark.usefixtures('_cuda')
    @pytest.mark.parametrize('wrapper', [{}, dict(type='OptimWrapper'), dict(type='mmengine.OptimWrapper')])
    def test_amp(self, wrapper):
        cfg = self.cfg(**wrapper, clip_grad=dict(max_norm=1))
        train.set_precision(cfg, 'default')
        assert cfg.optim_wrapper.to_dict() == dict(
            type='AmpOptimWrapper',
            loss_scale='dynamic',
            optimizer=dict(type='SGD', lr=0.1),
            clip_grad=dict(max_norm=1),
        )

    @pytest.mark.usefixtures('_cuda')
    def test_a_config_with_amp_keeps_its_scale(self):
        cfg = self.cfg(type='AmpOptimWrapper', loss_scale=512.0, dtype='float16')
        train.set_precision(cfg, 'default')
        assert (cfg.optim_wrapper.loss_scale, cfg.optim_wrapper.dtype) == (512.0, 'float16')
        train.set_precision(cfg, 'bfloat16')
        assert (cfg.optim_wrapper.loss_scale, cfg.optim_wrapper.dtype) == (512.0, 'bfloat16')
        assert cfg.optim_wrapper.type == 'AmpOptimWrapper'

    @pytest.mark.usefixtures('_cuda')
    def test_other_wrappers(self):
        with pytest.raises(train.UsageError, match=r'--amp works with optim_wrapper\.type=OptimWrapper .*ApexOptim'):
            train.set_precision(self.cfg(type='ApexOptimWrapper'), 'default')

    @pytest.mark.usefixtures('_cpu')
    def test_on_the_cpu(self):
        for amp, kind in (('default', 'OptimWrapper'), ('bfloat16', 'OptimWrapper'), (None, 'AmpOptimWrapper')):
            cfg = self.cfg(type=kind)
            train.set_precision(cfg, amp)
            assert cfg.optim_wrapper.type == 'mmplugins.AmpOptimWrapper'
            assert cfg.optim_wrapper.get('dtype') == ('bfloat16' if amp == 'bfloat16' else None)
        cfg = self.cfg()
        train.set_precision(cfg, None)
        assert 'type' not in cfg.optim_wrapper

    def test_what_is_no_precision(self, capsys):
        with pytest.raises(SystemExit):
            train.main(['--amp', 'config.py'])
        assert "takes float16, bfloat16 or nothing, got 'config.py'; the config comes before" in capsys.readouterr().err


def test_mixed_precision_and_channels_last_on_the_cpu(tmp_path, data):
    """Under autocast, with the gradients of a training in float32, up to bfloat16's rounding."""
    losses = {}
    for name, options in {'plain': [], 'mixed': ['--amp'], 'both': ['--amp', 'bfloat16', '--channels-last']}.items():
        config = write_config(tmp_path / f'{name}.py', data, hooks=[dict(type='RecordHook')])
        run_here(train.main, config, '--work-dir', tmp_path / name, *options)
        losses[name] = [step['loss'] for step in json.loads((tmp_path / name / 'rank0.json').read_text())]
    assert losses['mixed'] == pytest.approx(losses['plain'], rel=0.02)
    assert losses['mixed'] != losses['plain']
    assert losses['both'] == pytest.approx(losses['mixed'], rel=0.02)


# errors


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--resume', 'gone.pth'], r'train\.py: error: --resume: there is no checkpoint gone\.pth \(in '),
        (
            ['--cfg-options', 'train_dataloader.dataset.data_root=gone'],
            r"train_dataloader\.dataset\.data_root is 'gone', and there is no such folder .*"
            r'--cfg-options train_dataloader\.dataset\.data_root=FOLDER',
        ),
        (['--cfg-options', 'val_dataloader.dataset.data_root=gone'], r"val_dataloader\.dataset\.data_root is 'gone'"),
    ],
)
def test_errors_before_anything_is_trained(tmp_path, data, arguments, message):
    config = write_config(tmp_path / 'wrong.py', data)
    with pytest.raises(SystemExit, match=message):
        run_here(train.main, config, '--work-dir', tmp_path / 'work', *arguments)
    assert not (tmp_path / 'work').exists()


@pytest.mark.slow
def test_a_file_that_breaks_in_the_middle_of_a_run(tmp_path):
    """Two workers; the file is named, and the run goes on from its last checkpoint when it is mended."""
    files = make_data(tmp_path / 'set')
    image = files / 'images' / '1.png'
    content = image.read_bytes()
    config = write_config(tmp_path / 'breaks.py', files, iterations=12, hooks=[dict(type='mmplugins.IterSeedHook')])
    text = config.read_text().replace('val_interval=2', 'val_interval=99')
    config.write_text(text + '\ntrain_dataloader.update(num_workers=2, persistent_workers=True)\n')
    breaks = tmp_path / 'config.py'
    breaks.write_text(config.read_text() + f"\ncustom_hooks.append(dict(type='BreakFileHook', path={str(image)!r}))\n")
    with pytest.raises(SystemExit) as caught:
        run_here(train.main, breaks, '--work-dir', tmp_path / 'run')
    message = rf'train\.py: error: LoadImageFromFile: {image} has 0 bytes\. .* --resume goes on from the last chec\S+'
    assert re.fullmatch(message, str(caught.value))
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert 'Caught SampleError in DataLoader worker process' in log.read_text()
    assert not (tmp_path / 'run' / 'iter_12.pth').exists()
    image.write_bytes(content)
    run_here(train.main, config, '--work-dir', tmp_path / 'run', '--resume', 'auto')
    run_here(train.main, config, '--work-dir', tmp_path / 'whole')
    resumed, whole = (load(tmp_path / name / 'iter_12.pth')['state_dict'] for name in ('run', 'whole'))
    assert_same(resumed, whole)


def test_config_options_without_an_equals_sign(capsys):
    with pytest.raises(SystemExit):
        train.main(['config.py', '--cfg-options', 'a=1', 'train_cfg.max_iters', '5'])
    assert "--cfg-options takes key=value pairs, got 'train_cfg.max_iters 5'" in capsys.readouterr().err


# --check


def test_a_check_comes_first_and_changes_nothing(data, tmp_path, capsys):
    """The losses are those of a run without it."""
    config = write_config(tmp_path / 'tiny.py', data, **RANDOM)
    run_here(train.main, config, '--work-dir', tmp_path / 'plain')
    capsys.readouterr()
    run_here(train.main, config, '--work-dir', tmp_path / 'checked', '--check')
    assert '\n0 errors, 0 warnings\n' in capsys.readouterr().out
    assert losses(tmp_path / 'checked') == losses(tmp_path / 'plain')


def test_a_check_that_fails_stops_the_run(data, tmp_path, capsys):
    config = write_config(tmp_path / 'tiny.py', data)
    with pytest.raises(SystemExit, match='--check: 1 error, 0 warnings, see above; nothing was trained'):
        run_here(
            train.main, config, '--work-dir', tmp_path / 'out', '--check', '--cfg-options', 'load_from=nowhere.pth'
        )
    assert 'error    weights     load_from: there is no file nowhere.pth' in capsys.readouterr().out
    assert not (tmp_path / 'out').exists()


def test_only_the_first_process_checks(monkeypatch):
    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(name, raising=False)
    assert train.is_first_process()
    monkeypatch.setenv('SLURM_PROCID', '0')
    assert train.is_first_process()
    monkeypatch.setenv('RANK', '1')
    assert not train.is_first_process()
