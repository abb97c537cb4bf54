"""tools/vos_demo.py with a tiny network: folders and videos, in and out."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmplugins.hosts import problem_with
from mmplugins.visualization import write_index_image
from tests.tools.tiny_run import run, run_here, unexplained_warnings

if problem := problem_with('mmseg'):
    pytest.skip(f'AOT is built with mmseg: {problem}', allow_module_level=True)

from mmplugins.demo import outputs, sources, tracking
from tests.tools.tiny_video import SIZE, make_videos, truth, write_video_config
from tools import test as test_tool
from tools import vos_demo


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """Frames of a video, its first mask, config and checkpoint."""
    folder = tmp_path_factory.mktemp('demo')
    data = make_videos(folder / 'data')
    config, checkpoint = write_video_config(folder, data)
    frames, mask = data / 'JPEGImages' / '480p' / 'cat', data / 'Annotations' / '480p' / 'cat' / '00000.png'
    return frames, mask, config, checkpoint


@pytest.fixture(scope='module')
def video(tiny, tmp_path_factory):
    """The same frames as a video file, without loss."""
    path = tmp_path_factory.mktemp('file') / 'cat.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'FFV1'), 12, SIZE[::-1])
    if not writer.isOpened():
        pytest.skip('this OpenCV does not write FFV1')
    for frame in sorted(tiny[0].iterdir()):
        writer.write(cv2.imread(str(frame)))
    writer.release()
    return path


def demo(tiny, out, source=None, mask=None, options=()):
    frames, first, config, checkpoint = tiny
    arguments = [source or frames, '--mask', mask or first, '--config', config, '--checkpoint', checkpoint]
    run_here(vos_demo.main, *arguments, '--out', out, '--device', 'cpu', *options)


def masks_in(folder):
    return np.stack([np.array(Image.open(path)) for path in sorted(folder.iterdir())])


def test_folder_to_folder(tiny, tmp_path, capsys):
    """The masks are those that tools/test.py writes."""
    demo(tiny, tmp_path / 'out')
    assert '5 frames tracked' in capsys.readouterr().out.splitlines()[-1]
    names = [f'{frame:05d}' for frame in range(5)]
    assert [path.name for path in sorted((tmp_path / 'out' / 'masks').iterdir())] == [f'{name}.png' for name in names]
    assert [path.name for path in sorted((tmp_path / 'out' / 'overlays').iterdir())] == [f'{x}.jpg' for x in names]
    run_here(test_tool.main, *tiny[2:], '--work-dir', tmp_path / 'work', '--out', tmp_path / 'tested')
    assert np.array_equal(masks_in(tmp_path / 'out' / 'masks'), masks_in(tmp_path / 'tested' / 'cat'))


def test_an_orientation_tag_is_told(tiny, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(sources, 'print_log', lambda text, *rest: told.append(text))
    sources.Frames(str(tiny[0])).tell_orientation()
    assert told == []
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / '0.jpg', exif=exif)
    sources.Frames(str(tmp_path)).tell_orientation()
    assert len(told) == 1
    assert told[0].startswith(f'{tmp_path}/0.jpg has the EXIF orientation tag 3, which is not applied')


def test_video_to_folder(tiny, video, tmp_path):
    demo(tiny, tmp_path / 'a', source=video)
    demo(tiny, tmp_path / 'b')
    assert len(masks_in(tmp_path / 'a' / 'masks')) == 5
    assert np.array_equal(masks_in(tmp_path / 'a' / 'masks')[0], truth('cat', 0))
    # colours of a video file are rounded, which may move a boundary
    assert (masks_in(tmp_path / 'a' / 'masks') == masks_in(tmp_path / 'b' / 'masks')).mean() > 0.9


@pytest.mark.parametrize('suffix', ['.mp4', '.avi'])
def test_to_a_video(tiny, video, tmp_path, suffix):
    out = tmp_path / 'new' / f'tracked{suffix}'
    demo(tiny, out, source=video)
    written = cv2.VideoCapture(str(out))
    assert written.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    frames = []
    while (read := written.read())[0]:
        frames.append(read[1])
    assert len(frames) == 5
    assert frames[0].shape == (*SIZE, 3)
    inside = frames[0][truth('cat', 0) == 1].mean(0)
    assert inside[2] > inside[0]  # red, in BGR


def test_more_than_ten_objects_and_a_single_one(tiny, tmp_path):
    """Twelve objects with three identities; the same mask as one object."""
    mask = np.zeros(SIZE, np.uint8)
    for number in range(12):
        top, left = 13 * (number // 4), 15 * (number % 4)
        mask[top : top + 10, left : left + 11] = number + 1
    write_index_image(tmp_path / 'many.png', mask)
    demo(tiny, tmp_path / 'many', mask=tmp_path / 'many.png')
    assert set(np.unique(masks_in(tmp_path / 'many' / 'masks')[0])) == set(range(13))
    demo(tiny, tmp_path / 'one', mask=tmp_path / 'many.png', options=['--single-object'])
    found = masks_in(tmp_path / 'one' / 'masks')
    assert np.array_equal(found[0], mask > 0)
    assert found.max() == 1


def test_sizes_are_those_of_the_test_pipeline(tiny):
    """A third of 480x854 in this config, whatever the frames; without a test pipeline a shorter side of 480."""
    cfg = Config.fromfile(tiny[2])
    frame = np.zeros((480, 854, 3), np.uint8)
    assert tracking.resizer(cfg, True)(frame).shape == (161, 289, 3)
    bare = Config(dict(model=cfg.model))
    assert tracking.resizer(bare, True)(np.zeros((960, 1708, 3), np.uint8)).shape == (481, 849, 3)
    assert tracking.resizer(bare, False)(np.zeros((960, 1708, 3), np.uint8)).shape == (480, 848, 3)


def test_frames_are_read_one_at_a_time(tiny, monkeypatch):
    """Between reading a frame and reading the next one its mask is written."""
    events = []
    read = sources.decode_frame
    monkeypatch.setattr(sources, 'decode_frame', lambda data: events.append('read') or read(data))
    monkeypatch.setattr(outputs.FolderOutput, 'write', lambda self, *args: events.append('write'))
    demo(tiny, 'nowhere')
    assert events == ['read', *['read', 'write'] * 5]  # the first frame is looked at before the model is loaded


def fails(tiny, tmp_path, match, **settings):
    with pytest.raises(SystemExit, match=match):
        demo(tiny, tmp_path / 'out', **settings)
    assert not (tmp_path / 'out').exists()


def test_wrong_sources(tiny, tmp_path):
    fails(tiny, tmp_path, r'vos_demo\.py: error: there is no video or folder nowhere', source='nowhere')
    (tmp_path / 'empty').mkdir()
    fails(tiny, tmp_path, r'has no frames that end in \.jpg', source=tmp_path / 'empty')
    (tmp_path / 'text.mp4').write_text('no video')
    fails(tiny, tmp_path, 'is no video that OpenCV can read; give another file', source=tmp_path / 'text.mp4')
    (tmp_path / 'frames').mkdir()
    (tmp_path / 'frames' / '0.jpg').write_text('no image')
    fails(tiny, tmp_path, r'0\.jpg is no image that OpenCV can read', source=tmp_path / 'frames')


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    """And their pixels are as stored, whatever an orientation tag says."""
    exif = Image.Exif()
    exif[274] = 3
    for number in (1, 2, 10, 11):
        frame = np.full((*SIZE, 3), number, np.uint8)
        frame[:5] = 200
        Image.fromarray(frame).save(tmp_path / f'{number}.png', exif=exif)
    frames = sources.Frames(str(tmp_path))
    assert frames.names == ['1', '2', '10', '11']
    assert [frame[-1, 0, 0] for frame in frames] == [1, 2, 10, 11]
    assert all((frame[:5] == 200).all() for frame in frames)


def test_two_frames_of_one_name(tiny, tmp_path):
    for suffix in ('jpg', 'png'):
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / f'7.{suffix}')
    with pytest.raises(SystemExit, match='has two frames named 7, of other suffixes; remove one of each'):
        demo(tiny, tmp_path / 'out', source=tmp_path)


def test_frames_of_two_sizes(tiny, tmp_path):
    for index, size in enumerate((SIZE, (41, 60))):
        cv2.imwrite(str(tmp_path / f'{index}.png'), np.zeros((*size, 3), np.uint8))
    with pytest.raises(SystemExit, match=r'frame 1 is \(41, 60\), the frames before \(40, 60\)'):
        demo(tiny, tmp_path / 'out', source=tmp_path)


def test_wrong_masks(tiny, tmp_path):
    path = tmp_path / 'mask.png'
    fails(tiny, tmp_path, '--mask: there is no file', mask=path)
    write_index_image(path, np.ones((30, 60), np.uint8))
    fails(tiny, tmp_path, r'mask\.png is \(30, 60\), the first frame.*, is \(40, 60\) \(height, width\)', mask=path)
    write_index_image(path, np.full(SIZE, 255, np.uint8))
    fails(tiny, tmp_path, r'shows no object, its values are \[255\]; objects are 1 to 254, and --single', mask=path)
    smooth = cv2.GaussianBlur(cv2.circle(np.zeros(SIZE, np.uint8), (30, 20), 10, 255, -1), (5, 5), 0)
    Image.fromarray(smooth).save(path)
    fails(tiny, tmp_path, '--mask: .*smooth edges.*--single-object takes.*all above 127', mask=path)
    assert np.array_equal(tracking.read_mask(str(path), single_object=True), smooth > 127)
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)
    fails(tiny, tmp_path, '--mask: .*mode RGB.*; --single-object takes', mask=path)


def test_wrong_models(tiny, tmp_path):
    options = ['--cfg-options', 'model.type=EncoderDecoder']
    fails(tiny, tmp_path, r'the model must be mmplugins\.AOT, got EncoderDecoder', options=options)
    torch.save({'state_dict': {'LSTT.mask_token': torch.zeros(1)}}, tmp_path / 'released.pth')
    other = (*tiny[:3], tmp_path / 'released.pth')
    fails(other, tmp_path, r'does not fit the config .*; convert released checkpoints with tools/model_converters/aot')
    fails((*tiny[:3], 'nowhere.pth'), tmp_path, '--checkpoint: there is no checkpoint nowhere.pth')


@pytest.mark.slow
def test_as_a_program(tiny, tmp_path):
    frames, mask, config, checkpoint = tiny
    files = ['--mask', mask, '--config', config, '--checkpoint', checkpoint]
    done = run('tools/vos_demo.py', frames, *files, '--out', tmp_path / 'out')
    assert '5 frames tracked' in done.stdout
    assert unexplained_warnings(done.stdout) == []
