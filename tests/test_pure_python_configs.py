"""mmplugins/configs: the same as the text configs that they are named after, and of use wherever those are."""

import json

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmplugins.doctor.check import check
from mmplugins.doctor.names import check_names
from mmplugins.doctor.report import Report
from mmplugins.hosts import problem_with
from tests.locations import ROOT
from tests.tools.tiny_run import run, run_here
from tools import test as test_tool
from tools import train

FOLDER = ROOT / 'mmplugins/configs'
SEGMENTOR = 'pspnet/pspnet_r18_d8_w32_ohem_1xb8_400_sample_96x128.py'
DETECTOR = 'detr/detr_r18_w32_d128_1xb8_150e_bccd_192x256.py'
PAIRS = {
    SEGMENTOR: 'pspnet/pspnet_r18-d8_w32-ohem_1xb8-400_sample-96x128.py',
    DETECTOR: 'detr/detr_r18_w32-d128_1xb8-150e_bccd-192x256.py',
}
# What a text config has for its own sake: imports, and variables that others are made of.
NOT_BUILT = {
    *('custom_imports', 'act_cfg', 'norm_cfg', 'heads', 'data_preprocessor', 'attention', 'feed_forward', 'flip'),
    *('embed_dims', 'drop_epoch', 'num_workers', 'batch_size', 'num_classes', 'max_iters', 'max_epochs', 'scale'),
    *('metainfo', 'data_root', 'train_pipeline', 'test_pipeline', 'vis_backends'),
}


def plain(node):
    """A config's part with the names of types, without scopes."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    if isinstance(node, type):
        return node.__name__
    # a text config names mmplugins.X, a written one the module of a class
    return node.rpartition('.')[2] if isinstance(node, str) and node.startswith(('mm', 'torch')) else node


def read(name):
    cfg = Config.fromfile(FOLDER / name)
    scope = 'mmdet' if name == DETECTOR else 'mmseg'
    if problem := problem_with(scope):
        pytest.skip(f'{scope} is needed: {problem}')
    return cfg


def test_all_are_compared():
    files = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob('*.py') if '_base_' not in path.parts}
    assert {name for name in files if not name.endswith('__init__.py')} == set(PAIRS)


@pytest.mark.parametrize('name', PAIRS)
def test_equal_to_the_text_config(name):
    new, old = read(name), Config.fromfile(ROOT / 'configs' / PAIRS[name])
    for key in set(old) - NOT_BUILT:
        assert plain(new[key]) == plain(old[key]), key
    assert len(set(old) - NOT_BUILT) > 15
    assert isinstance(new.model.type, type)


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sample')
    run('tools/dataset_converters/make_sample_data.py', folder / 'data', '--train', 8, '--val', 2)
    return folder / 'data'


@pytest.fixture(scope='module')
def cells(tmp_path_factory):
    """Four images with a box each, in BCCD's layout."""
    folder = tmp_path_factory.mktemp('cells')
    (folder / 'images').mkdir()
    (folder / 'annotations').mkdir()
    random = np.random.default_rng(0)
    for index in range(4):
        Image.fromarray(random.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(folder / f'images/{index}.png')
    images = [dict(id=i, file_name=f'{i}.png', height=48, width=64) for i in range(4)]
    boxes = [dict(id=i, image_id=i, category_id=i % 3, bbox=[8, 8, 20, 20], area=400, iscrowd=0) for i in range(4)]
    classes = [dict(id=i, name=name) for i, name in enumerate(('RBC', 'WBC', 'Platelets'))]
    for split in ('train', 'val', 'test'):
        text = json.dumps(dict(images=images, annotations=boxes, categories=classes))
        (folder / f'annotations/{split}.json').write_text(text)
    return folder


def places(folder):
    return [f'{split}_dataloader.dataset.data_root={folder}' for split in ('train', 'val', 'test')]


@pytest.mark.slow
def test_a_segmentor_is_trained_and_tested(sample, tmp_path):
    """From a config of the user's own, which inherits from ours."""
    read(SEGMENTOR)
    mine = tmp_path / 'mine.py'
    module = SEGMENTOR.removesuffix('.py').replace('/', '.')
    mine.write_text(
        'from mmengine.config import read_base\n'
        f'with read_base():\n    from mmplugins.configs.{module} import *\n'
        'train_cfg.update(dict(max_iters=2, val_interval=2))\n'
        'default_hooks.update(dict(checkpoint=dict(interval=2)))\n'
    )
    run_here(train.main, mine, '--work-dir', tmp_path / 'out', '--check', '--cfg-options', *places(sample))
    metrics = run_here(
        test_tool.main,
        mine,
        tmp_path / 'out/iter_2.pth',
        '--work-dir',
        tmp_path / 'test',
        '--cfg-options',
        *places(sample),
    )
    assert 0 <= metrics['mIoU'] <= 100


@pytest.mark.slow
def test_a_detector_is_trained(cells, tmp_path):
    """An epoch of the config itself, which the run can write down and read again."""
    read(DETECTOR)
    options = [*places(cells), 'train_cfg.max_epochs=1', 'train_cfg.val_interval=5', 'train_dataloader.batch_size=2']
    options += [
        f'{split}_dataloader.{key}'
        for split in ('train', 'val')
        for key in ('num_workers=0', 'persistent_workers=False')
    ]
    options += [f'{split}_evaluator.ann_file={cells}/annotations/{split}.json' for split in ('val', 'test')]
    run(
        *('tools/train.py', FOLDER / DETECTOR, '--work-dir', tmp_path / 'out'),
        *('--cfg-options', 'default_hooks.checkpoint.interval=1', *options),
    )
    assert (tmp_path / 'out/epoch_1.pth').is_file()
    written = Config.fromfile(tmp_path / 'out' / DETECTOR.rpartition('/')[2])
    assert plain(written.model) == plain(Config.fromfile(FOLDER / DETECTOR).model)
    init_default_scope('mmdet')
    report = Report()
    check_names(report, written)
    assert [finding.level for finding in report.findings] == ['ok']


@pytest.mark.slow
@pytest.mark.parametrize('name', PAIRS)
def test_doctor_and_inferencers(name, sample, cells):
    cfg = read(name)
    init_default_scope(cfg.default_scope)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(cells if name == DETECTOR else sample)
    report = check(cfg, data=True)
    assert [str(finding) for finding in report.findings if finding.level == 'error'] == []
    assert 'gradient' in [finding.check for finding in report.findings]
    from mmplugins import apis

    cls = apis.DetInferencer if name == DETECTOR else apis.SegInferencer
    one = cls(cfg, device='cpu', show_progress=False)
    result = one(np.zeros((48, 64, 3), np.uint8))['predictions']
    if name == DETECTOR:
        assert len(result[0]['labels']) == 30
    else:
        assert result.shape == (48, 64)
