import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from mmplugins.hosts import HOSTS, Host
from mmplugins.testing import assert_relative, load_golden
from tests.locations import ROOT, golden_files

TOOL = ROOT / 'benchmarks' / 'benchmark.py'
sys.path.insert(0, str(TOOL.parent))

import benchmark  # noqa: E402
from benchmark_cases import CASES, SIZES, Case, case, load_cases  # noqa: E402
from benchmark_cases._measure import (  # noqa: E402
    common_factor,
    measure,
    ratio,
    relative_difference,
    spread,
    tensors_in,
    time_rounds,
)
from benchmark_cases._memory import MARK, peak_extra_memory  # noqa: E402
from benchmark_cases._report import print_report, without_gradients  # noqa: E402
from benchmark_cases._scenes import street_scene  # noqa: E402
from benchmark_cases.hard_pixels import released_ohem, released_topk  # noqa: E402
from benchmark_cases.regions import released_soft_jaccard  # noqa: E402

CPU = torch.device('cpu')
MIB = 2**20


def make_case(**build) -> Case:
    """A case on one tensor (3,) whose contenders are given as functions of it."""
    inputs = lambda device: {'x': torch.tensor([1.0, 2.0, 3.0], device=device, requires_grad=True)}  # noqa: E731
    new = Case('toy', 'squares', {size: {} for size in SIZES}, inputs)
    for name, run in build.items():
        new.contender(name)(lambda x, run=run: lambda: run(x))
    return new


def entry_of(report: dict, name: str) -> dict:
    return next(entry for entry in report['contenders'] if entry['name'] == name)


# The tool


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('benchmark')
    command = [sys.executable, str(TOOL), '--size', 'small', '--rounds', '2', '--device', 'cpu', '--threads', '1']
    command += ['--only', 'soft_jaccard', 'ohem', '--json', str(folder / 'a' / 'out.json')]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True, check=False
    )
    return folder, done


@pytest.mark.slow
def test_run_prints_a_table_and_progress(run):
    _, done = run
    assert done.returncode == 0, done.stderr
    for text in ('[1/2] soft_jaccard on cpu ...', '[2/2] ohem on cpu ...', 'median ms', 'peak MiB', 'both'):
        assert text in done.stdout
    assert 'DISAGREES' not in done.stdout
    assert 'USDT' not in done.stderr


@pytest.mark.slow
def test_run_writes_json(run):
    folder, _ = run
    content = json.loads((folder / 'a' / 'out.json').read_text())
    machine = content['environment']
    assert machine['torch'] == torch.__version__
    assert machine['threads'] == 1
    assert machine['cpu']
    assert machine['devices'] == {'cpu': machine['cpu']}
    assert machine['date'].startswith('20')
    assert content['settings'] == {'size': 'small', 'rounds': 2, 'device': 'cpu', 'only': ['soft_jaccard', 'ohem']}
    assert [report['case'] for report in content['results']] == ['soft_jaccard', 'ohem']
    for report in content['results']:
        assert report['rounds'] == 2
        assert report['arguments']['shape'] == [2, 19, 129, 129]
        assert {'ours', 'released'} <= {entry['name'] for entry in report['contenders']}
        for entry in report['contenders']:
            if entry['skipped']:
                assert entry['name'] == 'mmseg'
                continue
            assert {len(samples) for samples in entry['samples'].values()} == {2}
            assert list(entry['seconds']) == ['forward', 'backward', 'forward+backward']
            assert list(entry['memory_bytes']) == ['forward', 'forward+backward']
            # The gradient alone has the size of the logits.
            assert report['gradient_bytes'] == 4 * 2 * 19 * 129 * 129
            assert entry['memory_bytes']['forward+backward'] > report['gradient_bytes']
            if entry['name'] != 'ours':
                assert entry['difference']['agrees']


def test_memory_beyond_the_gradients(capsys):
    """Of 400 bytes of gradients: 900 - 400 = 500 for ours; the other's peak of 1200 is in the forward pass."""
    peaks = {'ours': (100, 900), 'other': (1200, 1300)}
    entries = [
        {'name': name, 'skipped': None, 'memory_bytes': {'forward': first, 'forward+backward': both}}
        for name, (first, both) in peaks.items()
    ]
    report = dict(case='toy', device='cpu', size='small', arguments={}, rounds=1, skipped=None, contenders=entries)
    assert without_gradients({**report, 'gradient_bytes': 400}) == {'ours': 500, 'other': 1200}
    print_report(Console(width=200), {**report, 'gradient_bytes': 400})
    assert 'that all return (0.00): ours 0.00 (1.00 x ours), other 0.00 (2.40 x ours)' in capsys.readouterr().out
    entries[0]['memory_bytes'] = entries[1]['memory_bytes'] = {'forward': 100}
    assert without_gradients({**report, 'gradient_bytes': 0}) == {}


@pytest.mark.slow
def test_run_draws(run):
    folder, _ = run
    picture = (folder / 'a' / 'out.png').read_bytes()
    assert picture.startswith(b'\x89PNG')
    assert len(picture) > 5000


def test_unknown_name_lists_the_names(capsys):
    with pytest.raises(SystemExit) as raised:
        benchmark.main(['--only', 'ohem', 'ohm'])
    assert raised.value.code == 2
    assert 'no case named ohm; there are ohem, ohem_stride8, topk, soft_jaccard' in ' '.join(
        capsys.readouterr().err.split()
    )


def test_rounds_must_be_positive(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(['--rounds', '0'])
    assert 'expected a positive integer, got 0' in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_cuda_that_is_not_there(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(['--device', 'cuda'])
    assert 'torch finds no CUDA device' in capsys.readouterr().err


def test_list(capsys):
    assert benchmark.main(['--list']) == 0
    listed = capsys.readouterr().out
    assert 'ohem: cross entropy over hard pixels' in listed
    assert 'contenders: ours, mmseg, released' in listed


def test_disagreement_is_the_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        CASES, 'toy', make_case(ours=lambda x: x.square().sum(), released=lambda x: 1.01 * x.square().sum())
    )
    out = tmp_path / 'out.json'
    assert benchmark.main(['--only', 'toy', '--rounds', '1', '--device', 'cpu', '--json', str(out)]) == 1
    printed = capsys.readouterr().out
    assert 'DISAGREES: more than 0.0001' in printed
    assert 'toy/released on cpu' in printed
    assert json.loads(out.read_text())['results'][0]['contenders'][1]['difference']['agrees'] is False


# Cases


def test_cases_are_complete():
    cases = load_cases()
    assert {'ohem', 'ohem_stride8', 'topk', 'soft_jaccard'} <= set(cases)
    for name, found in cases.items():
        assert found.name == name
        assert tuple(found.sizes) == SIZES
        assert 'ours' in found.contenders
        # Alone only where the toolbox's own would not fit the memory, and the case says so.
        assert len(found.contenders) > 1 or "without mmdet's" in found.description


def test_names_are_taken_once():
    with pytest.raises(ValueError, match='there is a case ohem already'):
        case('ohem', 'again', small={}, typical={}, large={})(lambda device: {})
    toy = make_case(ours=lambda x: x)
    with pytest.raises(ValueError, match='case toy has a contender ours already'):
        toy.contender('ours')(lambda x: x)


def test_scene_is_mostly_right():
    logits, label = street_scene((2, 19, 129, 129), CPU)
    assert logits.requires_grad
    valid = label != 255
    assert valid.float().mean() == pytest.approx(0.95, abs=0.002)
    wrong = logits.argmax(1)[valid] != label[valid]
    assert 0.08 < wrong.float().mean() < 0.13
    prob = logits.detach().softmax(1).gather(1, label.masked_fill(~valid, 0)[:, None]).squeeze(1)[valid]
    # Fewer hard pixels than min_kept of the small OHEM case, which so decides the threshold, but far from none.
    assert 3_000 < (prob <= 0.7).sum() < CASES['ohem'].sizes['small']['min_kept']
    again, _ = street_scene((2, 19, 129, 129), CPU)
    assert torch.equal(logits, again)


@pytest.mark.parametrize('path', golden_files('ohem_*.npz'))
def test_released_ohem_is_the_released_code(path):
    golden = load_golden(path)
    logits = golden['logits'].requires_grad_()
    loss = released_ohem(
        logits, golden['label'].long(), golden['thresh'], int(golden['min_kept']), int(golden['factor'])
    )
    assert_relative(loss, golden['loss'], 1e-5, 'loss')
    assert_relative(torch.autograd.grad(loss, logits)[0], golden['grad'], 1e-5, 'gradient')


@pytest.mark.parametrize('path', golden_files('aot_losses_*.npz'))
def test_released_aot_losses_are_the_released_code(path):
    golden = load_golden(path)
    compared = 0
    for sample in range(3):
        logits, label = golden[f'logits{sample}'], golden[f'label{sample}'].long()
        if torch.isfinite(golden['loss_jaccard'][sample]) and (label != 255).any():
            assert_relative(released_soft_jaccard(logits, label), golden['loss_jaccard'][sample], 1e-5, 'Jaccard')
            compared += 1
        if golden['step'] >= golden['hard_example_mining_step'] and golden['top_k_percent_pixels'] == 0.15:
            assert_relative(released_topk(logits, label), golden['loss_ce'][sample], 1e-5, 'top-k')
    assert compared


# Contenders that cannot run, and values


def test_missing_host_is_skipped_with_the_command(monkeypatch):
    monkeypatch.setitem(HOSTS, 'mmnothing', Host('onedl-mmnothing==1.0', '1.0', 'pip install onedl-mmnothing==1.0'))
    toy = make_case(ours=lambda x: x.square().sum())
    toy.contender('toolbox', host='mmnothing')(lambda x: pytest.fail('must not be built'))
    report = measure(toy, 'small', CPU, rounds=1)
    toolbox = entry_of(report, 'toolbox')
    assert toolbox['skipped'] == 'mmnothing is not installed; run `pip install onedl-mmnothing==1.0`'
    assert 'seconds' not in toolbox
    assert entry_of(report, 'ours')['skipped'] is None


def test_skipped_contender_is_printed_and_drawn_around(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(HOSTS, 'mmnothing', Host('onedl-mmnothing==1.0', '1.0', 'pip install onedl-mmnothing==1.0'))
    toy = make_case(ours=lambda x: x.square().sum())
    toy.contender('toolbox', host='mmnothing')(lambda x: x)
    monkeypatch.setitem(CASES, 'toy', toy)
    arguments = ['--only', 'toy', '--rounds', '1', '--device', 'cpu', '--json', str(tmp_path / 'out.json')]
    assert benchmark.main(arguments) == 0
    assert 'toolbox: skipped: mmnothing is not installed' in capsys.readouterr().out
    assert (tmp_path / 'out.png').is_file()


def test_case_without_our_host_is_skipped_as_a_whole(monkeypatch):
    monkeypatch.setitem(HOSTS, 'mmnothing', Host('onedl-mmnothing==1.0', '1.0', 'pip install onedl-mmnothing==1.0'))
    toy = make_case(released=lambda x: pytest.fail('must not run'))
    toy.contender('ours', host='mmnothing')(lambda x: x)
    assert measure(toy, 'small', CPU, rounds=1)['skipped'].startswith('mmnothing is not installed')


def test_case_without_ours_raises():
    with pytest.raises(ValueError, match="case toy has no contender 'ours'"):
        measure(make_case(released=lambda x: x.sum()), 'small', CPU, rounds=1)


def test_out_of_memory_is_reported():
    def greedy(x):
        raise torch.OutOfMemoryError('CUDA out of memory')

    report = measure(make_case(released=greedy, ours=lambda x: x.square().sum()), 'small', CPU, rounds=1)
    assert entry_of(report, 'released')['skipped'] == 'out of memory'
    assert entry_of(report, 'ours')['samples']['backward']


def test_other_errors_come_out():
    def broken(x):
        raise RuntimeError('shapes')

    with pytest.raises(RuntimeError, match='shapes'):
        measure(make_case(ours=lambda x: x.sum(), released=broken), 'small', CPU, rounds=1)


def test_differences_by_hand():
    """Ours x^2 at (1,2,3): 14, gradient (2,4,6). Twice ours: 28 and (4,8,12), both off by 1. NaN is not agreement."""
    toy = make_case(ours=lambda x: x.square().sum(), nan=lambda x: x.square().sum() * float('nan'))
    toy.contender('twice', differs='is twice ours')(lambda x: lambda: 2 * x.square().sum())
    toy.contender('scaled', up_to_factor='is twice ours')(lambda x: lambda: 2 * x.square().sum())
    toy.contender('shifted', up_to_factor='is wrong')(lambda x: lambda: 2 * x.square().sum() + 14)
    toy.contender('vector', differs='has another shape')(lambda x: lambda: x.square())
    report = measure(toy, 'small', CPU, rounds=1)

    twice = entry_of(report, 'twice')['difference']
    assert (twice['value'], twice['gradient'], twice['agrees']) == (1.0, 1.0, None)
    scaled = entry_of(report, 'scaled')['difference']
    assert (scaled['value'], scaled['gradient'], scaled['factor'], scaled['agrees']) == (0.0, 0.0, 0.5, True)
    shifted = entry_of(report, 'shifted')['difference']
    assert (shifted['value'], shifted['gradient'], shifted['agrees']) == (0.5, 0.0, False)
    assert entry_of(report, 'nan')['difference']['agrees'] is False
    assert entry_of(report, 'nan')['difference']['value'] is None
    assert entry_of(report, 'vector')['difference']['value'] is None
    json.dumps(report, allow_nan=False)


def test_relative_difference_is_over_all_tensors():
    """Differences (0,4) and (3,), expected (0,0) and (10,): 5 / 10."""
    actual, expected = [torch.tensor([0, 4]), torch.tensor([13])], [torch.tensor([0, 0]), torch.tensor([10])]
    assert relative_difference(actual, expected) == 0.5
    assert relative_difference([torch.ones(1)], [torch.zeros(1)]) == 1.0
    assert np.isnan(relative_difference([torch.ones(2)], [torch.ones(1)]))
    assert np.isnan(common_factor([torch.ones(2)], [torch.ones(1)]))


def test_forward_only_without_a_leaf():
    toy = make_case(ours=lambda x: {'pairs': [(torch.tensor([1]), torch.tensor([2]))]})
    toy.contender('other')(lambda x: lambda: {'pairs': [(torch.tensor([1]), torch.tensor([3]))]})
    toy.make_inputs = lambda device: {'x': torch.ones(3)}
    report = measure(toy, 'small', CPU, rounds=1)
    assert list(entry_of(report, 'ours')['seconds']) == ['forward']
    assert list(entry_of(report, 'ours')['memory_bytes']) == ['forward']
    difference = entry_of(report, 'other')['difference']
    assert difference['gradient'] is None
    assert difference['agrees'] is False


def test_tensors_in_keeps_the_order():
    a, b, c = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    assert [len(tensor) for tensor in tensors_in({'x': [a, (b, 'text')], 'y': c, 'n': 3})] == [1, 2, 3]


# Time


def test_spread_and_ratio_by_hand():
    """Medians 6 and 2, ratio 3; of single rounds 2, 3 and 5."""
    found = ratio([4.0, 6.0, 10.0], [2.0, 2.0, 2.0])
    assert found['of_medians'] == 3.0
    assert found['of_rounds'] == {'median': 3.0, 'q25': 2.5, 'q75': 4.0, 'min': 2.0, 'max': 5.0}
    assert ratio([1.0, 1.0, 4.0], [4.0, 1.0, 1.0])['of_rounds']['median'] == 1.0
    assert spread([5.0]) == {'median': 5.0, 'q25': 5.0, 'q75': 5.0, 'min': 5.0, 'max': 5.0}


def test_rounds_are_interleaved_and_rotated():
    calls, shares = [], []
    runs = {name: lambda name=name: calls.append(name) for name in 'abc'}
    samples = time_rounds(runs, [], CPU, 4, 10.0, shares.append)
    assert ''.join(calls) == 'abc' + 'bca' + 'cab' + 'abc'
    assert {len(samples[name]['forward']) for name in 'abc'} == {4}
    assert shares == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(('seconds', 'rounds'), [(1e-9, 7), (1000.0, 100)])
def test_time_budget_decides_the_rounds(seconds, rounds):
    samples = time_rounds({'a': lambda: None}, [], CPU, None, seconds, lambda done: None)
    assert len(samples['a']['forward']) == rounds
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_phases_add_up(monkeypatch):
    """A clock that advances by 1, 2, 3, ... between readings: forward 2, backward 3 or the like, their sum together."""
    ticks = iter(np.cumsum(range(1, 100)).tolist())
    monkeypatch.setattr('benchmark_cases._measure._now', lambda device: next(ticks))
    x = torch.ones(3, requires_grad=True)
    samples = time_rounds({'a': lambda: x.sum()}, [x], CPU, 2, 1.0, lambda done: None)['a']
    assert samples == {'forward': [2, 5], 'backward': [3, 6], 'forward+backward': [5, 11]}


# Memory


def floats(mebibytes: float) -> torch.Tensor:
    return torch.empty(int(mebibytes * MIB / 4))


def peak(run) -> float:
    return peak_extra_memory(run, CPU) / MIB


def test_meter_counts_what_is_returned():
    assert peak(lambda: floats(4)) == pytest.approx(4, abs=0.02)


def test_meter_counts_temporaries_but_not_their_sum():
    def one_after_the_other():
        for _ in range(5):
            floats(4)

    def together():
        return [floats(4) for _ in range(5)]

    assert peak(one_after_the_other) == pytest.approx(4, abs=0.02)
    assert peak(together) == pytest.approx(20, abs=0.02)


def test_meter_sees_inside_operators():
    """A median of 1 Mi floats copies its input and keeps int64 indices: 4 + 8 MiB beside the input."""
    values = torch.rand(MIB)
    assert peak(lambda: values.kthvalue(5)) == pytest.approx(12, abs=0.02)


def test_meter_leaves_out_what_was_there():
    held = [floats(8), np.zeros(8 * MIB, np.uint8)]
    assert peak(lambda: [held, floats(1)]) == pytest.approx(1, abs=0.02)
    assert peak(lambda: held[0].add_(1)) == pytest.approx(0, abs=0.02)


def test_meter_counts_numpy():
    assert peak(lambda: np.empty(3 * MIB, np.uint8)) == pytest.approx(3, abs=0.02)


def test_meter_joins_torch_and_numpy_in_time():
    """torch 8 with NumPy 16, then torch 8 + 12: the peak is 24; the two peaks alone are 20 and 16."""

    def mixed():
        kept = floats(8)
        array = np.empty(16 * MIB, np.uint8)
        array.fill(1)
        del array
        return kept, floats(12)

    assert peak(mixed) == pytest.approx(24, abs=0.02)


def test_meter_counts_the_backward_pass():
    """exp saves its result (4); the gradients of the sum and of exp are an expanded scalar and 4 more."""
    x = torch.rand(MIB, requires_grad=True)
    assert peak(lambda: torch.autograd.grad(x.exp().sum(), x)) == pytest.approx(8, abs=0.02)


def test_meter_restores_the_profile_function():
    def watch(*_):
        return None

    sys.setprofile(watch)
    try:
        peak(lambda: floats(1))
        found = sys.getprofile()
    finally:
        sys.setprofile(None)
    assert found is watch


def test_meter_says_when_marks_are_missing():
    """A request of the mark's size adds a mark that no call made."""
    with pytest.raises(RuntimeError, match='its record of memory has holes'):
        peak(lambda: torch.empty(MARK, dtype=torch.uint8))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_meter_and_time():
    device = torch.device('cuda')
    held = torch.empty(MIB, device=device)
    assert peak_extra_memory(lambda: torch.empty(2 * MIB, device=device), device) == 8 * MIB
    report = measure(make_case(ours=lambda x: x.square().sum()), 'small', device, rounds=2)
    assert all(value > 0 for value in entry_of(report, 'ours')['samples']['forward+backward'])
    del held


def test_documented_example_runs(tmp_path, monkeypatch):
    """The case in the tool's docstring, with a loss for its DiceLoss and without mmdet."""
    lines = benchmark.__doc__.split('::\n')[-1].split('\nEvery input tensor')[0].splitlines()
    code = '\n'.join(line[4:] for line in lines).replace('from ._case', 'from benchmark_cases')
    code = code.replace('import Run, case', 'import case').replace('-> Run', '')
    loss = type('DiceLoss', (), {'__call__': lambda self, logits, mask: (logits.sigmoid() * mask).sum()})
    monkeypatch.setattr('benchmark_cases._case.CASES', dict(CASES))
    space = {'torch': torch, 'Tensor': torch.Tensor, 'DiceLoss': loss}
    exec(code, space)
    dice = space['dice']
    assert len(code.strip().splitlines()) < 32
    assert set(dice.contenders) == {'ours', 'mmdet'}
    monkeypatch.setitem(HOSTS, 'mmdet', Host('mmnothing==1.0', '1.0', 'pip install mmnothing==1.0', ('mmnothing',)))
    report = measure(dice, 'small', CPU, rounds=1)
    assert entry_of(report, 'ours')['samples']['backward']
    assert 'mmnothing is not installed' in entry_of(report, 'mmdet')['skipped']
    assert Path(TOOL).is_file()
