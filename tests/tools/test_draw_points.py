import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmplugins.hosts import problem_with
from tests.locations import ROOT
from tests.tools.tiny_run import run, run_here

if problem := problem_with('mmdet'):
    pytest.skip(f'mmdet is needed: {problem}', allow_module_level=True)

sys.path.insert(0, str(ROOT / 'tools' / 'analysis_tools'))
import draw_points

PANOPTIC = ROOT / 'configs/mask2former/mask2former_r18_w32-d128_1xb8-1k_sample-panoptic-96x128.py'
SEMANTIC = ROOT / 'configs/mask2former/mask2former_r18_w32-d128_1xb4-1500_camvid-180x240.py'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('points') / 'data'
    run('tools/dataset_converters/make_sample_data.py', folder, '--kind', 'panoptic', '--train', 2, '--val', 1)
    return folder


def options(data):
    return [f'{split}_dataloader.dataset.data_root={data}' for split in ('train', 'val', 'test')]


@pytest.mark.slow
def test_picture(data, tmp_path):
    cfg = Config.fromfile(PANOPTIC)
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope('mmdet')
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, tmp_path / 'iter_7.pth')
    out = tmp_path / 'new' / 'points.png'
    arguments = [PANOPTIC, 'init', tmp_path / 'iter_7.pth', '--out', out, '--num', 2, '--cfg-options', *options(data)]
    run_here(draw_points.main, *arguments)
    with Image.open(out) as image:
        assert image.width > image.height > 300  # three columns, two rows
        before = np.asarray(image.convert('RGB')).copy()
    run_here(draw_points.main, *arguments)
    assert np.array_equal(np.asarray(Image.open(out).convert('RGB')), before)


def panoptic_item(data):
    from mmengine.registry import DATASETS, MODELS, init_default_scope

    init_default_scope('mmdet')
    cfg = Config.fromfile(PANOPTIC)
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'data_root': str(data)})
    return MODELS.build(cfg.model).eval(), dataset[0]


def semantic_item(data):
    """Half the image a class, half another, a stripe of no class."""
    from mmengine.registry import MODELS, init_default_scope
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    init_default_scope('mmseg')
    label = torch.zeros(1, 180, 240, dtype=torch.int64)
    label[..., 90:] = 3
    label[..., :10] = 255
    sample = SegDataSample(metainfo=dict(img_shape=(180, 240), ori_shape=(180, 240)))
    sample.gt_sem_seg = PixelData(data=label)
    inputs = torch.randint(0, 255, (3, 180, 240), dtype=torch.uint8)
    return MODELS.build(Config.fromfile(SEMANTIC).model).eval(), dict(inputs=inputs, data_samples=sample)


@pytest.mark.parametrize('make', [panoptic_item, semantic_item])
def test_points_of_the_largest_object(data, make):
    torch.manual_seed(0)
    model, item = make(data)
    head = draw_points.head_of(model)
    target, found = draw_points.sample_points(model, item)
    sizes = target.masks.flatten(1).sum(1)
    assert target.masks.dtype == torch.bool
    assert sizes[target.largest] == sizes.max()
    assert target.image.shape[:2] == tuple(target.masks.shape[1:]) == tuple(target.valid.shape)
    assert np.array_equal(target.image[: item['inputs'].shape[1], : item['inputs'].shape[2], 0], item['inputs'][2])
    assert found.points.shape == (head.num_points, 2)
    assert found.num_uncertain == int(0.75 * head.num_points)
    assert 0 < found.score < 1
    # those chosen for it lie where |logit| is smaller, and not where nothing takes part
    height, width = found.certainty.shape
    column, row = (found.points * (width, height)).astype(int).T
    value = found.certainty[row, column]
    assert value[: found.num_uncertain].mean() < value[found.num_uncertain :].mean()
    if make is semantic_item:
        assert not target.valid[:, :10].any()
        assert not target.valid[180:].any()
        assert (found.points[: found.num_uncertain, 0] * 256 > 9).all()


def test_errors(data, tmp_path):
    out = ['--out', tmp_path / 'a.png']
    with pytest.raises(SystemExit, match='is no file'):
        run_here(draw_points.main, tmp_path / 'none.py', 'init', *out)
    with pytest.raises(SystemExit, match='CHECKPOINT: there is no checkpoint'):
        run_here(draw_points.main, PANOPTIC, 'init', tmp_path / 'none.pth', *out)
    with pytest.raises(SystemExit, match='there is no such folder'):
        run_here(
            draw_points.main, PANOPTIC, 'init', *out, '--cfg-options', 'train_dataloader.dataset.data_root=nothing'
        )
    with pytest.raises(SystemExit):
        run_here(draw_points.main, PANOPTIC, 'init', *out, '--num', 0)
    model, item = panoptic_item(data)
    semantic = item['data_samples'].gt_sem_seg.sem_seg
    semantic[:] = 255
    item['data_samples'].gt_instances = item['data_samples'].gt_instances[:0]
    with pytest.raises(draw_points.UsageError, match=r'00000\.png has no objects as augmented; take another --seed'):
        draw_points.sample_points(model, item)


@pytest.mark.slow
def test_maskformer_samples_no_points(data, tmp_path):
    config = ROOT / 'configs/maskformer/maskformer_r50_16xb1-75e_coco-panoptic-800x1333.py'
    settings = ['model.backbone.init_cfg=None', f'train_dataloader.dataset.data_root={data}']
    with pytest.raises(SystemExit, match='the head samples no points'):
        run_here(draw_points.main, config, 'init', '--out', tmp_path / 'a.png', '--cfg-options', *settings)
