"""``plot_losses.py`` and ``draw_results.py``."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools' / 'analysis_tools'))
import draw_results  # noqa: E402
import plot_losses  # noqa: E402
import result_columns  # noqa: E402

from mmplugins.models.losses import OhemCrossEntropyLoss, StructureLoss  # noqa: E402
from mmplugins.visualization import pictures  # noqa: E402


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
    return result_columns.Sample(np.zeros((1, 4, 3), np.uint8), truth, logits.argmax(0), logits)


def test_kept_pixels_scale_a_count_to_what_is_drawn():
    """p = sigmoid(logit): 0.5, 0.73, 0.88, 0.95, the last one ignored. A count of 100 of 200 pixels is 2 of 4."""
    drawn = sample([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 255])
    kept = result_columns.kept_pixels([drawn], OhemCrossEntropyLoss(thresh=0.1, min_kept=100), 255, 200)
    assert kept[0].tolist() == [[True, True, False, False]]
    kept = result_columns.kept_pixels([drawn], OhemCrossEntropyLoss(thresh=0.6, min_kept=1), 255, None)
    assert kept[0].tolist() == [[True, False, False, False]]


def test_training_pixels_come_from_the_config():
    cfg = Config(dict(train_dataloader=dict(batch_size=4), model=dict(data_preprocessor=dict(size=(10, 20)))))
    assert draw_results.training_pixels(cfg) == 800
    cfg = Config(dict(train_dataloader=dict(batch_size=4), model=dict(), crop_size=(5, 5)))
    assert draw_results.training_pixels(cfg) == 100
    assert draw_results.training_pixels(Config(dict(train_dataloader=dict(batch_size=4), model=dict()))) is None


class Model(torch.nn.Module):
    """What the tool asks of a model: the head's loss and its ignored label."""

    def __init__(self, loss):
        super().__init__()
        self.decode_head = torch.nn.Module()
        self.decode_head.loss_decode = loss
        self.decode_head.ignore_index = 255


CFG = Config(dict(train_dataloader=dict(batch_size=1), model=dict()))


def test_grid_has_a_row_an_image_and_a_column_for_ohem():
    samples = [sample([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 255]), sample([1.0, 1.0, 2.0, 3.0], [0, 1, 1, 1])]
    metainfo = dict(classes=('red', 'green'), palette=[[255, 0, 0], [0, 255, 0]])
    with_ohem = draw_results.columns_of(samples, Model(OhemCrossEntropyLoss()), CFG, metainfo)
    without = draw_results.columns_of(samples, Model(torch.nn.Identity()), CFG, metainfo)
    assert [column.title for column in with_ohem[0]] == ['image', 'truth', 'prediction', 'hard pixels (OHEM)']
    assert [name for name, _ in with_ohem[1]] == ['red', 'green', 'unlabelled', 'hard']
    assert [column.title for column in without[0]] == ['image', 'truth', 'prediction']
    # the third pixel of the first image is right, too (logit 2 for class 0): three of three; so is the second image
    assert without[0][2].notes == ['100% of the pixels right', '100% of the pixels right']
    figure = draw_results.draw_columns(*with_ohem)
    assert len([axis for axis in figure.axes if axis.images]) == 8
    assert figure.legends


def test_a_binary_model_shows_mask_edge_weight_and_probability():
    """Window 3 along the one row, its rows above and below 0: mask 0 1 0 0 has the means 1/9 1/9 1/9 0, so weights
    1 + 5 |mean - mask| = 14/9, 1 + 40/9, 14/9; the last pixel is ignored."""
    truth = torch.tensor([[0, 1, 0, 255]])
    prob = torch.tensor([[[0.0, 1.0, 0.5, 0.5]]])
    binary = result_columns.Sample(np.zeros((1, 4, 3), np.uint8), truth, (prob[0] > 0.5).long(), prob)
    loss = StructureLoss(kernel_size=3)
    columns, legend = draw_results.columns_of([binary], Model(loss), CFG, {})
    assert [column.title for column in columns] == ['image', 'mask', 'edge weight (1 to 6)', 'prediction']
    assert columns[1].pictures[0][0, :, 0].tolist() == [0, 255, 0, 128]
    assert columns[2].notes == [f'up to {1 + 40 / 9:.1f}, mean {(14 / 9 + 1 + 40 / 9 + 14 / 9) / 3:.1f}']
    bright = columns[2].pictures[0].astype(int).sum(-1)[0]
    assert bright[1] > bright[0] == bright[2] > bright[3] >= 0
    assert columns[3].pictures[0][0, :, 0].tolist() == [0, 255, 128, 128]
    assert columns[3].notes == [f'mean absolute error {0.5 / 3:.3f}']
    assert legend == [('unlabelled', pictures.UNLABELLED_GREY)]
    without = draw_results.columns_of([binary], Model(torch.nn.Identity()), CFG, {})[0]
    assert [column.title for column in without] == ['image', 'mask', 'prediction']
    assert not draw_results.draw_columns(without, []).legends


def test_colours():
    colours = pictures.colourise(torch.tensor([[0, 1, 255]]), [[255, 0, 0], [0, 255, 0]])
    assert colours.tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 0]]]


def test_draw_explains_errors(tmp_path):
    with pytest.raises(SystemExit, match='is no file'):
        draw_results.main([str(tmp_path / 'none.py'), 'a.pth', '--out', str(tmp_path / 'a.png')])


def test_segments_are_painted_and_outlined():
    """Two segments of 1x3 and 1x2 pixels, one without any at the end: an edge is where the number changes."""
    classes, numbers = torch.tensor([[1, 1, 1, 0, 0, -1]]), torch.tensor([[5, 5, 5, 7, 7, -1]])
    segments = result_columns.Segments(np.full((1, 6, 3), 100, np.uint8), classes, numbers)
    column, legend = result_columns.segment_column([segments], ['a', 'b', 'c'], [(250, 0, 0), (0, 250, 0), (0, 0, 250)])
    assert legend == [('a', (250, 0, 0)), ('b', (0, 250, 0))]
    assert column.notes == ['2 segments']
    assert column.pictures[0].tolist() == [
        [[40, 190, 40], [40, 190, 40], [40, 190, 40], [255] * 3, [190, 40, 40], [255] * 3]
    ]


@pytest.mark.parametrize('kind', ['panoptic', 'instance'])
def test_segments_of_a_prediction(kind, tmp_path):
    """Panoptic: class + 1000 * instance, 3 being void. Instances: the surer one on top, below 0.5 none."""
    Image.fromarray(np.zeros((1, 3, 3), np.uint8)).save(tmp_path / 'image.png')
    result = BaseDataElement(metainfo=dict(img_path=str(tmp_path / 'image.png')))
    if kind == 'panoptic':
        result.pred_panoptic_seg = PixelData(sem_seg=torch.tensor([[[2, 1001, 3]]]))
    else:
        masks = torch.tensor([[[True, True, False]], [[False, True, False]], [[True, True, True]]])
        scores, labels = torch.tensor([0.7, 0.9, 0.4]), torch.tensor([2, 1, 0])
        result.pred_instances = InstanceData(masks=masks, scores=scores, labels=labels)

    class Model:
        def test_step(self, data):
            return [result]

    segments = draw_results.predict(Model(), {}, 3)
    assert segments.classes.tolist() == [[2, 1, -1]]
    assert segments.numbers.tolist() == [[2, 1001, -1] if kind == 'panoptic' else [0, 1, -1]]


@pytest.mark.parametrize('turned', [False, True])
def test_images_are_turned_as_the_loader_turned_them(tmp_path, turned):
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, 2) * 40
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(image).save(tmp_path / 'a.png', exif=exif)
    found = draw_results._read_image(str(tmp_path / 'a.png'), turned)
    assert np.array_equal(found, image[::-1, ::-1] if turned else image)
