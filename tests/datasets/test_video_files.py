"""Files of videos as users have them: orientation tags, smooth edges, names, lists."""

import json

import cv2
import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from mmplugins.datasets.transforms.image_files import natural_key, open_image, read_lines
from mmplugins.registry import DATASETS
from tests.datasets.videos import davis, image_of, save_frame, save_mask, square, write_davis, write_ytvos, ytvos

CLIP = [dict(type='mmplugins.LoadClip'), dict(type='mmplugins.LoadClipMasks')]


def listed(dataset):
    return [dataset.get_data_info(index) for index in range(len(dataset))]


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr(MMLogger, 'callHandlers', lambda self, record: lines.append(record.getMessage()))
    return lines


# Orientation tags -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('tag', [3, 6])
def test_an_orientation_tag_turns_no_frame(tmp_path, log, tag):
    """Frames show 20 times the object's number, on the pixels as stored; the log names the tag."""
    write_davis(tmp_path, {'cat': [square(5, 2, 3)] * 2})
    exif = Image.Exif()
    exif[274] = tag
    for path in (tmp_path / 'JPEGImages/480p/cat').iterdir():
        Image.fromarray(image_of(square(5, 2, 3))).save(path, exif=exif)
    results = DATASETS.build(davis(tmp_path, test_mode=True, pipeline=CLIP))[0]
    assert np.array_equal(results['img'][0], image_of(results['gt_seg_map'][0]))
    (line,) = (line for line in log if 'orientation' in line)
    assert rf'cat/00000.png ({tag}); it is not applied' in line


def test_a_mask_drawn_on_the_turned_frame_is_told_with_its_tag(tmp_path):
    write_davis(tmp_path, {'cat': [square(5, 2, 3)] * 2})
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(image_of(square(5, 2, 3))).save(tmp_path / 'JPEGImages/480p/cat/00000.png', exif=exif)
    save_mask(tmp_path / 'Annotations/480p/cat/00000.png', square(5, 2, 3).T)
    for settings in (dict(test_mode=True), dict()):
        with pytest.raises(ValueError, match=r'is \(32, 24\), its frame .* the frame has the EXIF orientation tag 6'):
            DATASETS.build(davis(tmp_path, **settings))


# Values of masks ------------------------------------------------------------------------------------------------------


def smooth(path, size=(24, 32)):
    mask = np.zeros(size, np.uint8)
    cv2.circle(mask, (size[1] // 2, size[0] // 2), 8, 255, -1)
    mask = cv2.GaussianBlur(mask, (5, 5), 0)
    Image.fromarray(mask).save(path)
    return mask


def test_smooth_edges_are_told_at_start_or_halved(tmp_path):
    write_davis(tmp_path, {'cat': [square(1, 4, 4)] * 2})
    for index in range(2):
        mask = smooth(tmp_path / f'Annotations/480p/cat/{index:05d}.png')
    for test_mode in (True, False):
        with pytest.raises(
            ValueError, match=r'00000\.png is grey with smooth edges.* set single_object=True to take all'
        ):
            DATASETS.build(davis(tmp_path, test_mode=test_mode))
    single = DATASETS.build(davis(tmp_path, test_mode=True, single_object=True, pipeline=CLIP))[1]
    assert np.array_equal(single['gt_seg_map'][0], mask > 127)


def test_an_empty_first_mask_is_told_at_start(tmp_path):
    """A test has nothing to track then; training may draw another frame."""
    write_davis(tmp_path, {'cat': [square(0, 4, 4), square(1, 4, 4), square(1, 4, 4)], 'ant': [square(1, 4, 4)] * 2})
    with pytest.raises(
        ValueError, match=r'1 problem.*\n  cat: the mask .*00000\.png of the first frame must show an obj'
    ):
        DATASETS.build(davis(tmp_path, test_mode=True))
    assert len(DATASETS.build(davis(tmp_path))) == 2
    assert len(DATASETS.build(davis(tmp_path, test_mode=True, check_files=False))) == 5


@pytest.mark.parametrize('folder', ['JPEGImages', 'Annotations'])
def test_a_damaged_first_file_is_told_at_start(tmp_path, folder):
    write_davis(tmp_path, {'cat': [square(1, 4, 4)] * 2})
    (tmp_path / folder / '480p/cat/00000.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match=rf'cat: .*{folder}.*00000\.png is no image that can be read'):
        DATASETS.build(davis(tmp_path))


# Names ----------------------------------------------------------------------------------------------------------------


def test_numbers_in_names_compare_as_numbers():
    names = ['10', '9', 'b2', 'b10', 'b', '2', '001', '1', 'a1b3', 'a1b20', '']
    expected = ['', '001', '1', '2', '9', '10', 'a1b3', 'a1b20', 'b', 'b2', 'b10']
    assert sorted(names, key=natural_key) == expected


def test_frames_without_zeros_are_in_order(tmp_path):
    names = ['1', '2', '10', '11']
    write_ytvos(
        tmp_path,
        {'a': {'1': names, '2': names[1:]}},
        {'a': {name: np.maximum(square(1, 4, 4), square(2, 14, 4)) for name in names}},
    )
    save_frame(tmp_path / 'JPEGImages/a/9.jpg', image_of(square(0, 0, 0)))  # between frames of the list
    save_frame(tmp_path / 'JPEGImages/a/12.jpg', image_of(square(0, 0, 0)))  # after them
    infos = listed(DATASETS.build(ytvos(tmp_path, test_mode=True)))
    assert [info['frame_name'] for info in infos] == ['1', '2', '9', '10', '11']
    assert [info['new_objects'] for info in infos] == [[], [2], [], [], []]
    (video,) = listed(DATASETS.build(ytvos(tmp_path)))
    assert [path.split('/')[-1] for path in video['img_path']] == ['1.jpg', '2.jpg', '10.jpg', '11.jpg']

    (tmp_path / 'list.txt').write_text('a\n')
    infos = listed(DATASETS.build(ytvos(tmp_path, test_mode=True) | dict(ann_file='list.txt')))
    assert [info['frame_name'] for info in infos] == ['1', '2', '9', '10', '11', '12']


def test_two_frames_of_one_name(tmp_path):
    write_davis(tmp_path, {'cat': [square(1, 4, 4)] * 2})
    save_frame(tmp_path / 'JPEGImages/480p/cat/00001.jpg', image_of(square(1, 4, 4)))
    with pytest.raises(ValueError, match=r'cat: 1 file\(s\) with the name of another one, .*00001\.png; remove'):
        DATASETS.build(davis(tmp_path))
    assert listed(DATASETS.build(davis(tmp_path, img_suffix='.png')))[0]['img_path'][1].endswith('00001.png')


# Lists ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'lines',
    [
        '\ufeffcar 1\r\n  car 2 \n\n',
        '/JPEGImages/480p/car 1/00000.jpg /Annotations/480p/car 1/00000.png 1\n/JPEGImages/480p/car 2/00000.jpg\n',
        'JPEGImages/480p/car 1/00000.png\ncar 2/\n',
    ],
)
def test_lines_with_blanks_and_a_byte_order_mark(tmp_path, lines):
    write_davis(tmp_path, {'car 1': [square(1, 4, 4)] * 2, 'car 2': [square(1, 4, 4)] * 2})
    (tmp_path / 'list.txt').write_text(lines, encoding='utf-8')
    infos = listed(DATASETS.build(davis(tmp_path, ann_file='list.txt')))
    assert [info['video_name'] for info in infos] == ['car 1', 'car 2']


def test_lines_are_stripped(tmp_path):
    (tmp_path / 'a.txt').write_bytes(b'\xef\xbb\xbfa b\r\n\r\n c\n')
    assert read_lines(str(tmp_path / 'a.txt')) == ['a b', 'c']


def test_a_json_with_a_byte_order_mark(tmp_path):
    write_ytvos(tmp_path, {'a': {'1': ['0', '5']}}, {'a': {'0': square(1, 4, 4), '5': square(1, 4, 4)}})
    path = tmp_path / 'meta.json'
    path.write_text(path.read_text(), encoding='utf-8-sig')
    assert listed(DATASETS.build(ytvos(tmp_path)))[0]['video_name'] == 'a'


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (dict(videos=[dict(id=1)], annotations=[]), r'a list of videos, as YouTube-VIS has it'),
        (dict(a={}, b={}), r"no dict 'videos', but \['a', 'b'\]; expected the layout of YouTube-VOS"),
        ([1], r"no dict 'videos', but list"),
        (dict(videos=dict(v=dict(expressions={}))), r"video 'v' has no dict 'objects', but \['expressions'\]"),
        (
            dict(videos=dict(v=dict(objects={'1': dict(frame_range=dict(start='0', end='9'))}))),
            r"video 'v', object 1, has no list 'frames', but \['frame_range'\], as LVOS has it",
        ),
        (dict(videos=dict(v=dict(objects={'1': ['0', '5']}))), r"object 1, has no list 'frames', but list;"),
        (dict(videos=dict(v=dict(objects={'1': dict(frames=[0, 5])}))), r'object 1, has a frame 0, which is no string'),
        (dict(videos=dict(v=dict(objects={'cat': dict(frames=['0'])}))), r"an object 'cat', which is no number from 1"),
        (dict(videos=dict(v=dict(objects={'0': dict(frames=['0'])}))), r"an object '0', which is no number from 1"),
    ],
)
def test_json_of_other_layouts(tmp_path, content, message):
    (tmp_path / 'meta.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        DATASETS.build(ytvos(tmp_path))


def test_a_json_that_is_none(tmp_path):
    (tmp_path / 'meta.json').write_text('{"videos": ')
    with pytest.raises(
        ValueError, match=r'meta\.json is no JSON \(Expecting value.*expected the layout of YouTube-VOS'
    ):
        DATASETS.build(ytvos(tmp_path))


# Pillow's limit -------------------------------------------------------------------------------------------------------


def test_more_pixels_than_pillow_opens(tmp_path, monkeypatch):
    write_davis(tmp_path, {'cat': [square(1, 4, 4)] * 2})
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 24 * 32 // 2 - 1)
    path = str(tmp_path / 'Annotations/480p/cat/00000.png')
    limit = pytest.raises(ValueError, match=r'than Pillow opens, 766 .*set PIL\.Image\.MAX_IMAGE_PIXELS = None')
    with limit, open_image(path):
        pass
    with pytest.raises(ValueError, match=r'1 problem.*\n  .*has more pixels than Pillow opens, 766'):
        DATASETS.build(davis(tmp_path))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    assert len(DATASETS.build(davis(tmp_path))) == 1
