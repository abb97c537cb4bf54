import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from PIL import Image

pytest.importorskip('mmseg', reason='data samples are those of mmseg')

from mmseg.structures import SegDataSample

from mmplugins.engine.hooks import VOSVisualizationHook
from mmplugins.registry import HOOKS
from mmplugins.visualization import paint_objects


def a_frame(folder):
    image = np.full((20, 30, 3), 90, np.uint8)
    cv2.imwrite(str(folder / 'frame.png'), image)
    mask = np.zeros((20, 30), np.uint8)
    mask[4:16, 8:24] = 2
    sample = SegDataSample(metainfo=dict(img_path=str(folder / 'frame.png'), video_name='a', frame_name='00007'))
    sample.pred_sem_seg = PixelData(data=torch.from_numpy(mask)[None])
    return image, mask, sample


def test_pictures(tmp_path):
    image, mask, sample = a_frame(tmp_path)
    config = dict(type='mmplugins.VOSVisualizationHook', draw=True, test_out_dir=str(tmp_path / 'out'))
    HOOKS.build(config).after_test_iter(None, 0, None, [sample])
    drawn = cv2.imread(str(tmp_path / 'out' / 'a' / '00007.jpg'))
    expected = paint_objects(image, mask)
    assert np.abs(drawn.astype(int) - expected).mean() < 6  # JPEG
    assert np.abs(drawn.astype(int) - image).mean() > 15


def test_nothing_is_drawn_by_default(tmp_path):
    VOSVisualizationHook().after_test_iter(None, 0, None, [a_frame(tmp_path)[2]])
    assert [path.name for path in tmp_path.iterdir()] == ['frame.png']


def test_without_a_folder():
    with pytest.raises(ValueError, match='draw=True needs a folder for the pictures; set test_out_dir'):
        VOSVisualizationHook(draw=True)


def test_an_orientation_tag_turns_no_frame(tmp_path):
    """The objects were predicted on the frame as stored."""
    image, mask, sample = a_frame(tmp_path)
    image[:10] = 200
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(image).save(tmp_path / 'frame.png', exif=exif)
    VOSVisualizationHook(draw=True, test_out_dir=str(tmp_path / 'out')).after_test_iter(None, 0, None, [sample])
    drawn = cv2.imread(str(tmp_path / 'out' / 'a' / '00007.jpg'))
    assert np.abs(drawn.astype(int) - paint_objects(image, mask)).mean() < 6
