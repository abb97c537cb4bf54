"""python -m mmplugins.demo with each kind of model: images, folders and videos in, files out; weights are random."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from mmplugins.demo import sources
from mmplugins.demo.__main__ import main
from mmplugins.demo.images import scope_of
from mmplugins.hosts import problem_with
from tests.locations import ROOT
from tests.tools.tiny_run import make_data, run, run_here, unexplained_warnings, write_config

if problem := problem_with('mmseg'):
    pytest.skip(f'the tiny networks are of mmseg: {problem}', allow_module_level=True)

from tests.tools.tiny_video import make_videos, write_video_config

SHIPPED = {
    'binary': 'pfnet/pfnet_r18_1xb8-10e_sample-camouflage-96x128.py',
    'boxes': 'detr/detr_r18_w32-d128_1xb8-150e_bccd-192x256.py',
    'panoptic': 'mask2former/mask2former_r18_w32-d128_1xb8-1k_sample-panoptic-96x128.py',
    'instances': 'mask2former/mask2former_r18_d128_1xb4-1k_coco128-256x256.py',
}


def save_weights(config, folder):
    """Writes random weights of a config's model; gives both paths."""
    cfg = Config.fromfile(config)
    if problem := problem_with(cfg.default_scope):
        pytest.skip(f'{cfg.default_scope} is needed: {problem}')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
    torch.save({'state_dict': model.state_dict()}, folder / 'weights.pth')
    return str(config), str(folder / 'weights.pth')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A folder with images of two sizes, and a file that is none."""
    folder = tmp_path_factory.mktemp('images')
    random = np.random.default_rng(0)
    for name, size in (('10.jpg', (48, 64, 3)), ('9.png', (40, 30, 3)), ('a.b.png', (48, 64, 3))):
        Image.fromarray(random.integers(0, 255, size, dtype=np.uint8)).save(folder / name)
    (folder / 'notes.txt').write_text('none')
    return folder


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """Config and weights of a semantic segmentor."""
    folder = tmp_path_factory.mktemp('tiny')
    return save_weights(write_config(folder / 'tiny.py', make_data(folder / 'set')), folder)


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """Five frames, 32x48."""
    path = tmp_path_factory.mktemp('video') / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 12, (48, 32))
    for index in range(5):
        writer.write(np.full((32, 48, 3), 40 * index, np.uint8))
    writer.release()
    return path


def demo(*arguments):
    run_here(main, *arguments, '--device', 'cpu')


def sizes(folder, pattern='*'):
    return {path.name: Image.open(path).size for path in sorted(folder.glob(pattern))}


# the five kinds


def test_semantic_maps_of_a_folder(tiny, images, tmp_path, capsys):
    """In the order of the numbers in names; maps are at the size of each image."""
    demo(*tiny, images, '--out', tmp_path / 'out')
    assert capsys.readouterr().out.splitlines()[-1] == f'3 images predicted, written to {tmp_path / "out"}'
    assert sizes(tmp_path / 'out/preds') == {'10.png': (64, 48), '9.png': (30, 40), 'a.b.png': (64, 48)}
    assert sizes(tmp_path / 'out/vis') == {'10.jpg': (64, 48), '9.jpg': (30, 40), 'a.b.jpg': (64, 48)}
    assert np.asarray(Image.open(tmp_path / 'out/preds/10.png')).max() < 3
    assert [name for name, _ in sources.Inputs(str(images))] == ['9', '10', 'a.b']


def test_the_prediction_is_the_inferencers(tiny, images, tmp_path):
    from mmplugins.apis import SegInferencer

    demo(*tiny, images / '10.jpg', '--out', tmp_path)
    expected = SegInferencer(*tiny, device='cpu', show_progress=False)(str(images / '10.jpg'))['predictions']
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'preds/10.png')), expected)


def test_colours_of_pictures(tiny, tmp_path):
    """A red image stays red below what is painted over it."""
    Image.fromarray(np.full((32, 48, 3), (250, 0, 0), np.uint8)).save(tmp_path / 'red.png')
    demo(*tiny, tmp_path / 'red.png', '--out', tmp_path / 'out')
    demo(*tiny, tmp_path / 'red.png', '--out', tmp_path / 'video.avi')
    picture = np.asarray(Image.open(tmp_path / 'out/vis/red.jpg')).astype(int)
    frame = cv2.VideoCapture(str(tmp_path / 'video.avi')).read()[1].astype(int)
    palette = np.array([[128, 0, 0], [0, 128, 0], [0, 0, 128]])
    labels = np.asarray(Image.open(tmp_path / 'out/preds/red.png'))
    expected = 0.5 * np.array([250, 0, 0]) + 0.5 * palette[labels]
    assert np.abs(np.median(picture - expected, (0, 1))).max() < 12
    assert np.abs(np.median(frame[..., ::-1] - expected, (0, 1))).max() < 12


@pytest.mark.slow
def test_probabilities_of_a_binary_model(images, tmp_path):
    demo(*save_weights(ROOT / 'configs' / SHIPPED['binary'], tmp_path), images, '--out', tmp_path / 'out')
    assert sizes(tmp_path / 'out/preds')['9.png'] == (30, 40)
    values = np.asarray(Image.open(tmp_path / 'out/preds/10.png'))
    assert values.dtype == np.uint8
    assert len(np.unique(values)) > 2  # a map of 0 and 1 would have two
    assert len(sizes(tmp_path / 'out/vis')) == 3


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['boxes', 'instances', 'panoptic'])
def test_objects(kind, images, tmp_path):
    demo(*save_weights(ROOT / 'configs' / SHIPPED[kind], tmp_path), images, '--out', tmp_path / 'out', '--threshold', 0)
    assert sizes(tmp_path / 'out/vis') == {'10.jpg': (64, 48), '9.jpg': (30, 40), 'a.b.jpg': (64, 48)}
    found = json.loads((tmp_path / 'out/preds/10.json').read_text())
    assert {path.stem for path in (tmp_path / 'out/preds').glob('*.json')} == {'9', '10', 'a_b'}
    if kind == 'panoptic':
        assert sizes(tmp_path / 'out/preds', '*.png')['9_panoptic_seg.png'] == (30, 40)
    else:
        assert len(found['labels']) == len(found['bboxes']) > 0
    if kind == 'instances':
        assert found['masks'][0]['size'] == [48, 64]


def test_a_video_of_objects(tmp_path):
    data = make_videos(tmp_path / 'data')
    config, checkpoint = write_video_config(tmp_path, data)
    frames, mask = data / 'JPEGImages/480p/cat', data / 'Annotations/480p/cat/00000.png'
    demo(config, checkpoint, frames, '--mask', mask, '--out', tmp_path / 'out')
    assert len(sizes(tmp_path / 'out/masks')) == len(sizes(tmp_path / 'out/overlays')) == 5
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'out/masks/00000.png')), np.asarray(Image.open(mask)))
    with pytest.raises(SystemExit, match=r'demo: error: this config tracks the objects of a first mask: give --mask'):
        demo(config, checkpoint, frames)


# videos of single images


def test_frames_of_a_video(tiny, video, tmp_path):
    demo(*tiny, video, '--out', tmp_path / 'out')
    assert list(sizes(tmp_path / 'out/preds')) == [f'{index:05d}.png' for index in range(5)]
    demo(*tiny, video, '--out', tmp_path / 'new/out.mp4')
    written = cv2.VideoCapture(str(tmp_path / 'new/out.mp4'))
    assert written.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 5


def test_images_of_several_sizes_in_a_video(tiny, images, tmp_path):
    """All at the size of the first one, which is 30x40."""
    demo(*tiny, images, '--out', tmp_path / 'out.avi', '--fps', 2)
    written = cv2.VideoCapture(str(tmp_path / 'out.avi'))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert written.read()[1].shape == (40, 30, 3)


# errors


def fails(match, *arguments):
    with pytest.raises(SystemExit, match=match):
        demo(*arguments)


def test_wrong_inputs(tiny, tmp_path):
    fails(r'demo: error: there is no image, folder or video nowhere', *tiny, 'nowhere')
    fails('has no images that end in .jpg', *tiny, tmp_path)
    (tmp_path / 'a.png').write_text('no image')
    fails(r'a\.png is no image that can be read; replace it', *tiny, tmp_path / 'a.png', '--out', tmp_path / 'out')
    (tmp_path / 'a.mp4').write_text('no video')
    fails(r'a\.mp4 is neither a video that OpenCV can read nor an image \(\.jpg', *tiny, tmp_path / 'a.mp4')
    assert not (tmp_path / 'out').exists()


def test_swapped_arguments(tiny, images):
    config, checkpoint = tiny
    fails(
        r'CONFIG .*weights\.pth and CHECKPOINT .*tiny\.py look swapped: the config comes first',
        checkpoint,
        config,
        images,
    )


def test_wrong_checkpoints(tiny, images, tmp_path):
    config, _ = tiny
    fails('CHECKPOINT: there is no checkpoint nowhere.pth', config, 'nowhere.pth', images)
    (tmp_path / 'text.pth').write_text('no checkpoint')
    fails(r'text\.pth is no checkpoint: it is in none of the formats', config, tmp_path / 'text.pth', images)
    torch.save({'state_dict': {'other.weight': torch.zeros(1)}}, tmp_path / 'other.pth')
    fails(r'other\.pth is not a checkpoint of this model', config, tmp_path / 'other.pth', images)


def test_wrong_config_and_a_mask_that_is_not_asked_for(tiny, images):
    fails(r'config nowhere\.py is no file', 'nowhere.py', tiny[1], images)
    fails('--mask is of models that track objects', *tiny, images, '--mask', 'a.png')


def test_toolbox_of_a_config_with_another_scope():
    assert scope_of(Config(dict(default_scope='mmplugins', model=dict(bbox_head={})))) == 'mmdet'
    assert scope_of(Config(dict(model=dict(decode_head={})))) == 'mmseg'
    assert scope_of(Config(dict(default_scope='mmdet', model={}))) == 'mmdet'


@pytest.mark.slow
def test_as_a_program(tiny, images, tmp_path):
    done = run('python', '-m', 'mmplugins.demo', *tiny, images / '9.png', '--out', tmp_path / 'out')
    assert '1 image predicted' in done.stdout
    assert 'predicting' in done.stdout  # the bar
    assert unexplained_warnings(done.stdout) == []
