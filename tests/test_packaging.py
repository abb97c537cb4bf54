"""A wheel carries configs, tools and the model index under ``mmplugins/.mim`` and trains from them."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from mmplugins.version import __version__

ROOT = Path(__file__).parents[1]


def run(*command, cwd, env=None):
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'} | (env or {})
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    files = run('git', 'ls-files', '--cached', '--others', '--exclude-standard', cwd=ROOT).splitlines()
    source = folder / 'source'  # a build leaves files beside setup.py
    for name in files:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    options = ('--no-deps', '--no-build-isolation', '--disable-pip-version-check')
    run(sys.executable, '-m', 'pip', 'wheel', *options, '-w', folder, source, cwd=folder)
    return next(folder.glob('*.whl'))


def test_wheel_holds_what_mim_expects(wheel):
    assert wheel.name == f'mmplugins-{__version__}-py3-none-any.whl'
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (
        'configs/pspnet/metafile.yml',
        'configs/_base_/default_runtime.py',
        'tools/train.py',
        'model-index.yml',
    ):
        assert f'mmplugins/.mim/{path}' in names
    assert 'mmplugins/models/losses/ohem_cross_entropy_loss.py' in names
    assert 'mmplugins/configs/detr/detr_r18_w32_d128_1xb8_150e_bccd_192x256.py' in names
    assert 'mmplugins/configs/_base_/datasets/bccd_192x256.py' in names
    assert 'mmplugins/report/style.css' in names
    assert not [name for name in names if name.startswith(('tests/', 'mmplugins/.mim/tests')) or name.endswith('.pyc')]


@pytest.mark.slow
def test_installed_wheel_trains_from_its_packed_config_outside_the_checkout(wheel, tmp_path):
    site = tmp_path / 'site'
    run(sys.executable, '-m', 'pip', 'install', '--no-deps', '--target', site, wheel, cwd=tmp_path)
    run(
        *(sys.executable, site / 'mmplugins/.mim/tools/dataset_converters/make_sample_data.py'),
        *('data/sample', '--train', 8, '--val', 2),
        cwd=tmp_path,
        env={'PYTHONPATH': str(site)},
    )
    mine = tmp_path / 'mine.py'
    mine.write_text(
        "_base_ = 'mmplugins::pspnet/pspnet_r18-d8_w32-ohem_1xb8-400_sample-96x128.py'\n"
        'train_cfg = dict(max_iters=2, val_interval=2)\n'
        'default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))\n'
    )
    env = {'PYTHONPATH': str(site), 'OMP_NUM_THREADS': '1'}
    where = run(sys.executable, '-c', 'import mmplugins; print(mmplugins.__file__)', cwd=tmp_path, env=env)
    assert Path(where.strip()).is_relative_to(site)
    run(sys.executable, site / 'mmplugins/.mim/tools/train.py', mine, '--work-dir', 'out', cwd=tmp_path, env=env)
    assert (tmp_path / 'out/iter_2.pth').is_file()
    log = next((tmp_path / 'out').glob('*/*.log')).read_text()
    assert 'mIoU' in log
    assert 'ohem_kept' in log
    # and from its pure-Python config
    mine.write_text(
        'from mmengine.config import read_base\n'
        'with read_base():\n'
        '    from mmplugins.configs.pspnet.pspnet_r18_d8_w32_ohem_1xb8_400_sample_96x128 import *\n'
        'train_cfg.update(dict(max_iters=2, val_interval=4))\n'
        'default_hooks.update(dict(checkpoint=dict(interval=2)))\n'
    )
    run(sys.executable, site / 'mmplugins/.mim/tools/train.py', mine, '--work-dir', 'pure', cwd=tmp_path, env=env)
    assert (tmp_path / 'pure/iter_2.pth').is_file()


def test_model_index_names_every_config():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    named = set()
    for path in index['Import']:
        metafile = yaml.safe_load((ROOT / path).read_text())
        collections = {collection['Name'] for collection in metafile['Collections']}
        for model in metafile['Models']:
            assert model['In Collection'] in collections
            assert Path(model['Config']).stem == model['Name']
            named.add(model['Config'])
    configs = (path.relative_to(ROOT) for path in (ROOT / 'configs').rglob('*.py'))
    assert named == {path.as_posix() for path in configs if '_base_' not in path.parts}


def test_bases_are_our_own():
    bases = [path for path in (ROOT / 'configs').rglob('*.py') if '::' in path.read_text()]
    assert bases == []
    assert Config.fromfile(next((ROOT / 'configs/pspnet').glob('*sample*.py'))).model.type == 'EncoderDecoder'
