"""``benchmark_step.py``: a step cut into phases is the step that training makes."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmplugins.hosts import problem_with
from tests.tools.tiny_run import make_data, run_here, write_config

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'benchmarks'))
import benchmark_step  # noqa: E402

if problem := problem_with('mmseg'):
    pytest.skip(f'the tiny config needs mmseg: {problem}', allow_module_level=True)


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path / 'tiny.py', make_data(tmp_path / 'data'), batch=3)


def test_a_cut_step_changes_the_weights_as_training_does(config):
    cfg = Config.fromfile(config)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    twin = copy.deepcopy(model).train()
    batch = next(iter(Runner.build_dataloader(copy.deepcopy(cfg.train_dataloader), seed=0)))
    contender = benchmark_step.Contender(model, cfg, benchmark_step.Clock(torch.device('cpu')))
    loss = contender.step(batch)
    log = twin.train_step(copy.deepcopy(batch), build_optim_wrapper(twin, cfg.optim_wrapper))
    assert loss == pytest.approx(log['loss'].item(), rel=1e-6)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_types_are_replaced_by_the_first_rule_that_matches():
    node = dict(
        type='mmplugins.A', parts=[dict(type='mmplugins.B', n=1), dict(type='mmplugins2.B'), dict(type='C', d=dict())]
    )
    rules = [('mmplugins.B', 'D'), ('mmplugins.*', 'mmdet.*')]
    assert benchmark_step.replace_types(node, rules) == 2
    assert node['type'] == 'mmdet.A'
    assert [part['type'] for part in node['parts']] == ['D', 'mmplugins2.B', 'C']


def test_command_line(config, capsys):
    run_here(benchmark_step.main, config, '--steps', 2, '--replace', 'CrossEntropyLoss=mmplugins.OhemCrossEntropyLoss')
    lines = capsys.readouterr().out.strip().splitlines()
    header, *rows, losses = lines[-4:]
    assert header.split() == [*' '.join(benchmark_step.PHASES).split(), 'all', 'criterion']
    assert [row.split()[0] for row in rows] == ['config', 'replaced']
    for row in rows:
        *phases, total, share = row.split()[1:]
        phases = [float(phase) for phase in phases]
        assert all(phase > 0 for phase in phases)
        assert float(total) == pytest.approx(sum(phases), abs=0.1)
        assert float(share.rstrip('%')) == pytest.approx(100 * (phases[2] + phases[3]) / sum(phases[1:]), abs=0.3)
    assert losses.startswith('loss of the first step: config ')


def test_errors(config):
    with pytest.raises(SystemExit, match=r'the model has none of the types to replace: mmdet\.\*'):
        run_here(benchmark_step.main, config, '--replace', 'mmdet.*=mmplugins.*')
    with pytest.raises(SystemExit, match='2'):
        run_here(benchmark_step.main, config, '--replace', 'mmdet')
    with pytest.raises(SystemExit, match='should be OptimWrapper, got AmpOptimWrapper'):
        run_here(benchmark_step.main, config, '--cfg-options', 'optim_wrapper.type=AmpOptimWrapper')
    with pytest.raises(SystemExit, match='there is no such folder'):
        run_here(benchmark_step.main, config, '--cfg-options', 'train_dataloader.dataset.data_root=nowhere')
    with pytest.raises(benchmark_step.UsageError, match='Linear has no head with loss_by_feat'):
        benchmark_step.Contender(
            torch.nn.Linear(1, 1), Config.fromfile(config), benchmark_step.Clock(torch.device('cpu'))
        )
