"""benchmark_video.py: the frames that it times are tracked frames."""

import sys

import pytest
import torch

from mmplugins.hosts import problem_with
from tests.locations import ROOT
from tests.tools.tiny_run import run_here

if problem := problem_with('mmseg'):
    pytest.skip(f'AOT is built with mmseg: {problem}', allow_module_level=True)

from tests.models.segmentors.aot.aot_models import tiny_aot
from tests.tools.tiny_video import make_videos, write_video_config

sys.path.insert(0, str(ROOT / 'benchmarks'))
import benchmark_video


def test_masks_hold_all_objects():
    mask = benchmark_video.columns((33, 65), 10, 'cpu')
    assert mask.shape == (1, 33, 65)
    assert mask.unique().tolist() == list(range(11))


def test_result():
    """Kept: keys and values of two blocks and 3x5 positions of 32 channels, long-term (stored twice) and short-term."""
    model = tiny_aot(test_cfg=dict(gap=1, max_stored=1)).eval()
    (result,) = benchmark_video.measure(model, (33, 65), 2, 4, amp=False, channels_last=True)
    assert len(result.seconds) == 4
    assert min(result.seconds) > 0
    assert result.kept == 2 * (2 * 3 * 5 * 32 * 4) * (2 + 1)
    assert result.peak > 33 * 65 * 3 * 4  # the logits of three identities


def test_table():
    result = benchmark_video.Result([0.1, 0.2, 0.2, 0.4], 3 * 2**20, 2**19)
    first = benchmark_video.Result([0.3] * 4, 0, 0)
    assert benchmark_video.row('aot_t', 10, 'fast', result, first).split() == [
        'aot_t',
        '10',
        'fast',
        '200.0',
        '125.0-350.0',
        '5.00',
        '3',
        '0.5',
        '1.50',
    ]


def test_command_line(tmp_path, capsys):
    config, _ = write_video_config(tmp_path, make_videos(tmp_path / 'data'))
    size = ['--size', 33, 49, '--frames', 2, '--objects', 1, 4, '--device', 'cpu']
    run_here(benchmark_video.main, config, *size, '--amp', '--channels-last')
    first, header, *rows = capsys.readouterr().out.strip().splitlines()
    assert first == '2 frames of 33x49 on cpu (1 threads), amp True, channels_last True, keep_memory False'
    columns = 'model objects way ms middle half frames/s peak MiB kept MiB ratio'
    assert header.split() == columns.split()
    assert [row.split()[:2] for row in rows] == [['tiny_aot', '1'], ['tiny_aot', '4']]
    assert all(float(row.split()[3]) > 0 for row in rows)


def test_ways_in_turns(tmp_path, capsys):
    config, _ = write_video_config(tmp_path, make_videos(tmp_path / 'data'))
    size = ['--size', 33, 49, '--frames', 2, '--objects', 1, '--device', 'cpu']
    run_here(benchmark_video.main, config, *size, '--ways', *benchmark_video.WAYS)
    rows = [row.split() for row in capsys.readouterr().out.strip().splitlines()[2:]]
    assert [row[2] for row in rows] == ['plain', 'fast', 'bfloat16']
    assert float(rows[0][-1]) == 1


def test_the_default_configs_are_there():
    assert {path.stem for path in benchmark_video.MODEL_CONFIGS.glob('*.py')} >= {'aot_t', 'aot_r50-l'}


def test_layout():
    model = benchmark_video.load_model(str(ROOT / 'configs/_base_/models/aot_t.py'), 'cpu', channels_last=True)
    assert not model.training
    assert model.network.decoder.out.weight.is_contiguous(memory_format=torch.channels_last)
