"""Panoptic predictions in a program, without panopticapi: what mmdet's inferencer gives with it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('mmdet', reason='DetInferencer is a subclass of that of mmdet')

from mmdet.apis import DetInferencer as ToolboxDetInferencer
from mmdet.apis import det_inferencer as toolbox
from mmdet.datasets import CocoPanopticDataset
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData

from mmplugins.apis import DetInferencer
from mmplugins.functional.segment_images import segment_image
from tests.locations import ROOT

CLASSES = ('person', 'car', 'sky')  # so that 3 is void


def inferencer(cls):
    """One without a model, as far as pred2dict needs it."""
    one = cls.__new__(cls)
    one.model = torch.nn.Module()
    one.model.dataset_meta = dict(classes=CLASSES)
    one.num_predicted_imgs = 0
    return one


def prediction(**meta):
    """Two cars, sky, and void."""
    segments = torch.tensor([[[1001, 1001, 2001], [2, 3, 3]]])
    instances = InstanceData(
        labels=torch.tensor([1]), scores=torch.tensor([0.5]), bboxes=torch.tensor([[0.0, 0, 2, 1]])
    )
    return DetDataSample(metainfo=meta, pred_panoptic_seg=PixelData(sem_seg=segments), pred_instances=instances)


def test_segments_by_hand():
    """1001 is 233 + 256 * 3, 2001 is 209 + 256 * 7; void is 0; the prediction keeps its own numbers."""
    sample = prediction()
    result = inferencer(DetInferencer).pred2dict(sample)
    expected = [[[233, 3, 0], [233, 3, 0], [209, 7, 0]], [[2, 0, 0], [0, 0, 0], [0, 0, 0]]]
    assert result['panoptic_seg'].tolist() == expected
    assert result['panoptic_seg'].dtype == np.uint8
    assert (result['labels'], result['scores'], result['bboxes']) == ([1], [0.5], [[0, 0, 2, 1]])
    assert sample.pred_panoptic_seg.sem_seg.tolist() == [[[1001, 1001, 2001], [2, 3, 3]]]


@pytest.mark.parametrize('meta', [{}, dict(img_path='folder/a.b.jpg')])
def test_files_are_those_of_the_toolbox_with_panopticapi(tmp_path, monkeypatch, meta):
    """With what it imports from panopticapi put in its place: void's number and the colours of segments."""
    monkeypatch.setattr(toolbox, 'VOID', 0)
    monkeypatch.setattr(toolbox, 'id2rgb', segment_image)
    found = []
    for cls in (DetInferencer, ToolboxDetInferencer):
        one, folder = inferencer(cls), tmp_path / cls.__module__
        results = [one.pred2dict(prediction(**meta), str(folder)) for _ in range(2)]
        files = sorted(path.relative_to(folder) for path in folder.rglob('*.*'))
        pictures = [np.asarray(Image.open(folder / path)).tolist() for path in files if path.suffix == '.png']
        jsons = [json.loads((folder / path).read_text()) for path in files if path.suffix == '.json']
        for each in (*results, *jsons):
            each['panoptic_seg_path'] = each['panoptic_seg_path'].removeprefix(str(folder))
        found.append((files, pictures, jsons, results))
    assert found[0] == found[1]
    assert len(found[0][0]) == (2 if meta else 4)


def test_other_predictions_go_the_toolboxes_way():
    sample = prediction()
    del sample.pred_panoptic_seg
    assert inferencer(DetInferencer).pred2dict(sample) == inferencer(ToolboxDetInferencer).pred2dict(sample)


@pytest.mark.slow
def test_with_a_shipped_config(tmp_path):
    """From a file to a picture and a PNG of segments; random weights."""
    path = ROOT / 'configs/mask2former/mask2former_r18_w32-d128_1xb8-1k_sample-panoptic-96x128.py'
    config = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        model = MODELS.build(config.model)
    meta = dict(dataset_meta=dict(config.val_dataloader.dataset.get('metainfo') or CocoPanopticDataset.METAINFO))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'weights.pth')
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(tmp_path / 'a.png')
    one = DetInferencer(str(path), str(tmp_path / 'weights.pth'), device='cpu', show_progress=False)
    result = one(str(tmp_path / 'a.png'), out_dir=str(tmp_path / 'out'), no_save_pred=False)['predictions'][0]
    assert np.asarray(Image.open(result['panoptic_seg_path'])).shape == (48, 64, 3)
    assert one(str(tmp_path / 'a.png'))['predictions'][0]['panoptic_seg'].shape == (48, 64, 3)
