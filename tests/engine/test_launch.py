"""What the tools share, without a run."""

import io
import os
from argparse import ArgumentParser, Namespace
from datetime import timedelta
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope

from mmplugins.engine import launch
from mmplugins.engine.launch import UsageError
from mmplugins.functional.compat import VERSION


@pytest.fixture(autouse=True)
def _forget_scopes():
    yield
    DefaultScope._instance_dict.clear()


def arguments(*argv: object) -> Namespace:
    parser = ArgumentParser()
    parser.add_argument('config')
    launch.add_arguments(parser)
    return parser.parse_args([str(argument) for argument in argv])


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / 'net_r18.py'
    path.write_text("default_scope = 'mmplugins'\nlr = dict(base=1, steps=[dict(end=1), dict(end=2)])\n")
    return path


class TestLoadConfig:
    def test_work_dir(self, config):
        """The command line's, else the config's, else one that is named after the config."""
        load = launch.load_config
        assert load(arguments(config), __file__).work_dir == os.path.join('work_dirs', 'net_r18')
        config.write_text("work_dir = 'of_config'\n")
        assert load(arguments(config), __file__).work_dir == 'of_config'
        assert load(arguments(config, '--cfg-options', 'work_dir=of_option'), __file__).work_dir == 'of_option'
        given = arguments(config, '--cfg-options', 'work_dir=of_option', '--work-dir', 'given')
        assert load(given, __file__).work_dir == 'given'

    def test_options_and_launcher(self, config):
        args = arguments(
            config, '--launcher', 'slurm', '--cfg-options', 'lr.base=0.5', 'lr.steps.1.end=7', 'new=[(1,2),a]'
        )
        cfg = launch.load_config(args, __file__)
        assert cfg.lr == dict(base=0.5, steps=[dict(end=1), dict(end=7)])
        assert cfg.new == [(1, 2), 'a']
        assert cfg.launcher == 'slurm'

    def test_the_default_scope_is_set(self, config):
        launch.load_config(arguments(config), __file__)
        assert DefaultScope.get_current_instance().scope_name == 'mmplugins'

    def test_suggestions(self, tmp_path):
        """From the configs beside the tools, as in a checkout and in an installed package."""
        tool = tmp_path / 'tools' / 'train.py'
        for name in ('pspnet/pspnet_r18-d8_camvid.py', 'aot/aot_r50_davis.py', '_base_/models/pspnet_r18-d8.py'):
            path = tmp_path / 'configs' / name
            path.parent.mkdir(parents=True)
            path.touch()
        with pytest.raises(UsageError, match=r'no file; did you mean \S*configs/pspnet/pspnet_r18-d8_camvid\.py\?$'):
            launch.load_config(arguments('configs/pspnet_r18_camvid.py'), str(tool))
        with pytest.raises(UsageError, match=r'config zzz is no file; configs lie in \S*configs$'):
            launch.load_config(arguments('zzz'), str(tool))

    def test_options_without_an_equals_sign(self, config, capsys):
        with pytest.raises(SystemExit):
            arguments(config, '--cfg-options', 'lr.base', '1')
        assert "takes key=value pairs, got 'lr.base 1'; write for example" in capsys.readouterr().err


class TestCheckData:
    def test_wrapped_data_sets(self, tmp_path):
        """Data sets inside wrappers are found, and named as --cfg-options takes them."""
        sets = [dict(data_root=str(tmp_path)), dict(dataset=dict(data_root='gone'))]
        cfg = Config(dict(train_dataloader=dict(dataset=dict(type='Concat', datasets=sets))))
        key = 'train_dataloader.dataset.datasets.1.dataset.data_root'
        with pytest.raises(UsageError, match=f"^{key} is 'gone', and there is no such folder"):
            launch.check_data(cfg, 'train_dataloader')
        cfg.merge_from_dict({key: str(tmp_path)})
        launch.check_data(cfg, 'train_dataloader')

    @pytest.mark.parametrize(
        'dataset',
        [
            {},
            dict(data_root=None),
            dict(data_root=''),
            dict(data_root='s3://bucket/set'),
            dict(data_root='gone', backend_args=dict(backend='petrel')),
        ],
    )
    def test_what_is_not_on_this_machine_is_not_checked(self, dataset):
        launch.check_data(Config(dict(test_dataloader=dict(dataset=dataset))), 'test_dataloader', 'val_dataloader')


def test_check_checkpoint(tmp_path):
    (tmp_path / 'a.pth').touch()
    launch.check_checkpoint(str(tmp_path / 'a.pth'), 'load_from')
    launch.check_checkpoint('https://host/a.pth', 'load_from')
    with pytest.raises(UsageError, match=r'^load_from: there is no checkpoint \S+ \(in \S+\)$'):
        launch.check_checkpoint(str(tmp_path), 'load_from')


class TestUseCpu:
    @pytest.fixture
    def started(self, monkeypatch) -> list:
        calls = []
        monkeypatch.setattr(
            launch.distributed, 'init_process_group', lambda backend, timeout: calls.append((backend, timeout))
        )
        return calls

    def test_one_process(self, started):
        cfg = Config(dict(launcher='none', model=dict(type='Net', norm_cfg=dict(type='BN'))))
        before = cfg.to_dict()
        launch.use_cpu(cfg)
        assert cfg.to_dict() == before
        assert started == []

    def test_sync_bn(self, caplog):
        heads = [dict(norm_cfg=dict(type='mmcv.MMSyncBN', eps=1e-3)), dict(norm_cfg=dict(type='GN', num_groups=2))]
        model = dict(norm_cfg=dict(type='SyncBN', requires_grad=True), heads=heads)
        cfg = Config(dict(launcher='none', model=model, sync_bn='torch'))
        cfg.model.backbone = dict(norm_cfg=dict(type=torch.nn.SyncBatchNorm))
        launch.use_cpu(cfg)
        assert cfg.model.to_dict() == dict(
            norm_cfg=dict(type='BN', requires_grad=True),
            heads=[dict(norm_cfg=dict(type='BN', eps=1e-3)), dict(norm_cfg=dict(type='GN', num_groups=2))],
            backbone=dict(norm_cfg=dict(type='BN')),
        )
        assert cfg.sync_bn is None

    def test_wrapper(self, started):
        env = dict(dist_cfg=dict(backend='nccl', timeout=60))
        cfg = Config(dict(launcher='pytorch', model=dict(), find_unused_parameters=True, env_cfg=env))
        launch.use_cpu(cfg)
        assert started == [('gloo', timedelta(seconds=60))]
        assert cfg.model_wrapper_cfg == dict(
            type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False, find_unused_parameters=True
        )

    @pytest.mark.parametrize(
        ('wrapper', 'devices'), [('MMSeparateDistributedDataParallel', True), ('MMFullyShardedDataParallel', False)]
    )
    def test_the_config_s_own_wrapper(self, started, wrapper, devices):
        cfg = Config(dict(launcher='pytorch', model=dict(), model_wrapper_cfg=dict(type=wrapper, own=1)))
        launch.use_cpu(cfg)
        assert cfg.model_wrapper_cfg == dict(type=wrapper, own=1, **(dict(device_ids=None) if devices else {}))
        assert started == [('gloo', None)]

    @pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
    def test_launchers_that_need_cuda(self, launcher):
        with pytest.raises(UsageError, match=f'^--launcher {launcher} needs CUDA, .*dist_train.sh CONFIG N'):
            launch.use_cpu(Config(dict(launcher=launcher, model=dict())))


def test_type_name():
    assert launch.type_name(dict(type='mmseg.IoUMetric')) == 'IoUMetric'
    assert launch.type_name(dict(type=torch.nn.SyncBatchNorm)) == 'SyncBatchNorm'
    assert launch.type_name({}) == ''


class TestAllowCheckpoints:
    """What mmengine saves is loaded with ``weights_only``, and no more than that."""

    @pytest.fixture(autouse=True)
    def _allowed(self):
        if VERSION < (2, 6):
            pytest.skip('PyTorch reads everything before 2.6')
        launch.allow_checkpoints()

    def load(self, content: object) -> object:
        file = io.BytesIO()
        torch.save(content, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    def test_a_log(self):
        history = HistoryBuffer([0.5, 0.25], [1, 1])
        loaded = self.load(dict(log_scalars=dict(loss=history)))['log_scalars']['loss']
        assert loaded.mean() == 0.375
        assert loaded.statistics('min') == 0.25

    @pytest.mark.parametrize('kind', ['float16', 'float32', 'float64', 'int32', 'int64', 'uint8', 'bool'])
    def test_numbers_and_arrays(self, kind):
        array = np.arange(3).astype(kind)
        loaded = self.load(dict(array=array, number=array[1]))
        assert loaded['array'].tolist() == array.tolist()
        assert loaded['number'] == array[1]
        assert loaded['number'].dtype == kind

    def test_code_is_refused(self):
        class Evil:
            def __reduce__(self):
                return getattr, (np.ndarray, 'tobytes')

        class Worse:
            def __reduce__(self):
                return os.system, ('exit',)

        for content in (Evil(), Worse()):
            with pytest.raises(UnpicklingError):
                self.load(content)

    def test_only_statistics_are_got_from_a_log(self):
        with pytest.raises(UnpicklingError, match="asks for 'getcwd' of"):
            launch._statistic(os, 'getcwd')
