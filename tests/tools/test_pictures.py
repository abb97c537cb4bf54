"""``plot_losses.py`` and ``draw_results.py``."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools' / 'analysis_tools'))
import draw_results  # noqa: E402
import plot_losses  # noqa: E402

from mmplugins.models.losses import OhemCrossEntropyLoss  # noqa: E402


def write_scalars(work_dir, *runs):
    for i, lines in enumerate(runs):
        folder = work_dir / f'2026010{i}_000000' / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text('\n'.join(json.dumps(line) for line in lines) + '\n')


def test_curves_of_a_resumed_run(tmp_path):
    first = [dict(loss=3.0, lr=0.1, step=10), dict(loss=2.0, ohem_kept=0.5, step=20)]
    second = [dict(loss=1.5, step=20), dict(mIoU=40.0, step=20), dict(note='text', step=30)]
    write_scalars(tmp_path, first, second)
    curves = plot_losses.read_curves(tmp_path)
    assert curves['loss'] == [(10, 3.0), (20, 1.5)]
    assert curves['mIoU'] == [(20, 40.0)]
    assert 'note' not in curves
    figure = plot_losses.draw_curves(curves, 'mIoU')
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ['training loss', 'pixels that OHEM kept', 'validation mIoU']
    assert figure.axes[0].lines[0].get_ydata().tolist() == [3.0, 1.5]


def test_curves_of_a_detector(tmp_path):
    """Decoder layers before the last are in the total alone; a run by epochs has its metric by epochs."""
    train = [
        {'loss': 9.0, 'loss_cls': 1.0, 'd0.loss_cls': 2.0, 'class_error': 80.0, 'epoch': 1, 'iter': 20, 'step': 20},
        {'loss': 7.0, 'loss_cls': 0.5, 'd0.loss_cls': 1.0, 'class_error': 40.0, 'epoch': 2, 'iter': 40, 'step': 40},
    ]
    write_scalars(tmp_path, [train[0], {'coco/bbox_mAP': 0.1, 'step': 1}, train[1], {'coco/bbox_mAP': 0.25, 'step': 2}])
    figure = plot_losses.draw_curves(plot_losses.read_curves(tmp_path), 'coco/bbox_mAP')
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ['training loss', 'class error of matched queries', 'validation coco/bbox_mAP']
    assert [line.get_label() for line in figure.axes[0].lines] == ['total', 'loss_cls']
    assert figure.axes[1].lines[0].get_ydata().tolist() == [80, 40]
    assert figure.axes[1].yaxis.get_major_formatter()(40, 0) == '40%'
    assert [axis.get_xlabel() for axis in figure.axes] == ['iteration', 'iteration', 'epoch']
    assert [text.get_text() for text in figure.axes[2].texts] == ['0.250']


def test_plot_writes_a_picture_and_explains_errors(tmp_path, capsys):
    write_scalars(tmp_path / 'run', [dict(loss=3.0, step=10), dict(loss=2.0, step=20)])
    plot_losses.main([str(tmp_path / 'run'), '--out', str(tmp_path / 'deep' / 'curve.png')])
    assert Image.open(tmp_path / 'deep' / 'curve.png').width > 500
    with pytest.raises(SystemExit, match=r'has no \*/vis_data/scalars.json with scalars in it; give the --work-dir'):
        plot_losses.main([str(tmp_path / 'nothing'), '--out', str(tmp_path / 'a.png')])
    (tmp_path / 'run/20260100_000000/vis_data/scalars.json').write_text('{"loss": 1}\n{"lo')
    with pytest.raises(SystemExit, match='line 2 is no JSON'):
        plot_losses.main([str(tmp_path / 'run'), '--out', str(tmp_path / 'a.png')])


def sample(true_logit, truth):
    """A 1x4 image whose true class has the given logits against 0 of the other."""
    truth = torch.tensor([truth])
    logits = torch.zeros(2, 1, 4)
    logits.scatter_(0, truth.clamp(max=1)[None], torch.tensor([[true_logit]]))
    return draw_results.Sample(np.zeros((1, 4, 3), np.uint8), truth, logits.argmax(0), logits)


def test_kept_pixels_scale_a_count_to_what_is_drawn():
    """p = sigmoid(logit): 0.5, 0.73, 0.88, 0.95, the last one ignored. A count of 100 of 200 pixels is 2 of 4."""
    drawn = sample([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 255])
    kept = draw_results.kept_pixels([drawn], OhemCrossEntropyLoss(thresh=0.1, min_kept=100), 255, 200)
    assert kept[0].tolist() == [[True, True, False, False]]
    kept = draw_results.kept_pixels([drawn], OhemCrossEntropyLoss(thresh=0.6, min_kept=1), 255, None)
    assert kept[0].tolist() == [[True, False, False, False]]


def test_training_pixels_come_from_the_config():
    cfg = Config(dict(train_dataloader=dict(batch_size=4), model=dict(data_preprocessor=dict(size=(10, 20)))))
    assert draw_results.training_pixels(cfg) == 800
    cfg = Config(dict(train_dataloader=dict(batch_size=4), model=dict(), crop_size=(5, 5)))
    assert draw_results.training_pixels(cfg) == 100
    assert draw_results.training_pixels(Config(dict(train_dataloader=dict(batch_size=4), model=dict()))) is None


def test_grid_has_a_row_an_image_and_a_column_for_ohem():
    samples = [sample([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 255]), sample([1.0, 1.0, 2.0, 3.0], [0, 1, 1, 1])]
    palette = [[255, 0, 0], [0, 255, 0]]
    kept = [np.ones((1, 4), bool)] * 2
    with_ohem = draw_results.draw_grid(samples, kept, ('red', 'green'), palette, 255)
    without = draw_results.draw_grid(samples, None, ('red', 'green'), palette, 255)
    assert len([axis for axis in with_ohem.axes if axis.images]) == 8
    assert len([axis for axis in without.axes if axis.images]) == 6
    assert 'hard pixels (OHEM)' in {axis.get_title() for axis in with_ohem.axes}


def test_colours():
    colours = draw_results.colourise(torch.tensor([[0, 1, 255]]), [[255, 0, 0], [0, 255, 0]])
    assert colours.tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 0]]]


def test_draw_explains_errors(tmp_path):
    with pytest.raises(SystemExit, match='is no file'):
        draw_results.main([str(tmp_path / 'none.py'), 'a.pth', '--out', str(tmp_path / 'a.png')])
