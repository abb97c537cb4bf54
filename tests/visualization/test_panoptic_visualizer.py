import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData

pytest.importorskip('mmdet', reason="it is mmdet's visualizer")
from mmdet.structures import DetDataSample

from mmplugins.registry import VISUALIZERS

CLASSES = dict(classes=('cat', 'grass'), palette=[(200, 0, 0), (0, 200, 0)])
VOID = 2


def draw(segments, kind='mmplugins.PanopticVisualizer', **meta):
    """Draws a prediction, (H, W), over a grey image; gives the picture."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        visualizer = VISUALIZERS.build(dict(type=kind, name=kind))
    visualizer.dataset_meta = CLASSES
    sample = DetDataSample(pred_panoptic_seg=PixelData(sem_seg=segments[None], metainfo=meta))
    image = np.full((*segments.shape, 3), 90, np.uint8)
    visualizer.add_datasample('image', image, sample, draw_gt=False)
    return visualizer.get_image()


def test_without_a_segment_the_image_is_shown():
    """Whether the classes are the data set's or were given as text."""
    segments = torch.full((60, 80), VOID)
    with pytest.raises(ValueError, match='need at least one array to stack'):  # once it does not, ours can go
        draw(segments, 'mmdet.DetLocalVisualizer')
    assert (draw(segments) == 90).all()
    assert (draw(torch.full((60, 80), 3), label_names=['cat', 'grass', 'sky']) == 90).all()
    assert (draw(torch.full((60, 80), 255), label_names=['cat', 'grass'], ignore_index=255) == 90).all()


def test_segments_are_drawn_as_mmdet_does():
    segments = torch.full((60, 80), VOID)
    segments[10:50, 5:40] = 1000
    segments[20:40, 50:70] = 1
    picture = draw(segments)
    assert np.array_equal(picture, draw(segments, 'mmdet.DetLocalVisualizer'))
    assert (picture[:5] == 90).all()
    assert (picture[12:48, 8:12, 0] > 100).all()
