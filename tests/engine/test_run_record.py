"""The record of a run's start, which ``tools/train.py`` writes and the report reads."""

import json
import re
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from mmplugins.engine.run_record import RunRecordHook, base_settings, settings
from mmplugins.report import __main__ as report
from tests.tools.tiny_run import make_data, run_here, write_config
from tools import train


def test_settings_are_flat_and_lists_are_one_value():
    pipeline = [dict(type='Load'), dict(type='Resize', scale=(2, 3), more=dict(a=[dict(b=1)]))]
    cfg = Config(dict(model=dict(type='A', head=dict(n=2), empty=dict()), pipeline=pipeline, sizes=[1, 2]))
    assert dict(settings(cfg)) == {
        'model.type': "'A'",
        'model.head.n': '2',
        'model.empty': 'dict()',
        'pipeline': 'Load()\nResize(scale=(2, 3), more=dict(a=dict(b=1)))',
        'sizes': '[1, 2]',
    }


def test_a_base_that_is_computed(tmp_path):
    """mmengine evaluates ``_base_``, and it need not be a literal."""
    (tmp_path / 'a.py').write_text('model = dict(n=1)\n')
    (tmp_path / 'b.py').write_text(f"_base_ = [{str(tmp_path)!r} + '/a.py']\nmodel = dict(m=2)\n")
    assert base_settings(str(tmp_path / 'b.py')) == ([str(tmp_path / 'a.py')], {'model.n': '1'})


def test_base_of_a_config(tmp_path):
    (tmp_path / 'a.py').write_text('model = dict(n=1, m=2)\n')
    (tmp_path / 'b.py').write_text('lr = 3\n')
    (tmp_path / 'c').mkdir()
    (tmp_path / 'c/run.py').write_text("_base_ = ['../a.py', '../b.py']\nmodel = dict(n=5)\nother = _base_.lr\n")
    assert base_settings(str(tmp_path / 'c/run.py')) == (
        ['../a.py', '../b.py'],
        {'model.n': '1', 'model.m': '2', 'lr': '3'},
    )
    assert base_settings(str(tmp_path / 'a.py')) == ([], None)


def test_only_the_first_process_writes(tmp_path):
    (tmp_path / 'a.py').write_text('n = 1\n')
    hook = RunRecordHook(str(tmp_path / 'a.py'), ['a.py', '--amp'])
    hook.before_run(SimpleNamespace(rank=1))
    hook.before_run(SimpleNamespace(rank=0, log_dir=str(tmp_path / 'log'), cfg=Config(dict(n=1))))
    record = json.loads((tmp_path / 'log/run.json').read_text())
    assert record['command'][1:] == ['a.py', '--amp']
    assert record['settings'] == {'n': '1'}
    assert 'torch' in record['versions']


def test_from_a_training_to_its_report(tmp_path):
    pytest.importorskip('mmseg', reason='the tiny network is of mmseg')
    base = write_config(tmp_path / 'base.py', make_data(tmp_path / 'data'), iterations=2)
    config = tmp_path / 'mine.py'
    config.write_text("_base_ = './base.py'\nmodel = dict(decode_head=dict(channels=12))\n")
    options = ['--cfg-options', 'optim_wrapper.optimizer.lr=0.01']
    run_here(train.main, config, '--work-dir', tmp_path / 'out', *options)
    report.main([str(tmp_path / 'out'), '--out', str(tmp_path / 'deep/page.html')])
    text = (tmp_path / 'deep/page.html').read_text(encoding='utf-8')
    assert base.name in text
    rows = re.findall(r'<tr><td class="code name">(.*?)</td><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td></tr>', text)
    assert [(name.replace('<wbr>', ''), old, new) for name, old, new in rows] == [
        ('model.decode_head.channels', '8', '12'),
        ('optim_wrapper.optimizer.lr', '0.05', '0.01'),
    ]
    assert 'mine.py --work-dir' in text
    assert 'optim_wrapper.optimizer.lr=0.01' in text
    assert 'decode.loss_ce' in text
    assert 'id="environment"' in text
