import mmcv
import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from mmplugins.functional.segment_images import segment_image
from mmplugins.hosts import problem_with
from mmplugins.registry import TRANSFORMS

if problem := problem_with('mmdet'):
    pytest.skip(f'mmdet is needed: {problem}', allow_module_level=True)

IDS = np.array([[0, 5, 5, 70000], [300, 300, 9, 9]])
SEGMENTS = [
    dict(id=5, category=1, is_thing=1),
    dict(id=70000, category=7, is_thing=0),
    dict(id=300, category=2, is_thing=1),
    dict(id=9, category=1, is_thing=False),  # a crowd, as CocoPanopticDataset gives it
]


@pytest.fixture
def results(tmp_path):
    Image.fromarray(segment_image(IDS)).save(tmp_path / 'a.png')
    boxes = [dict(bbox=[1, 0, 3, 1], bbox_label=1, ignore_flag=0), dict(bbox=[0, 1, 2, 2], bbox_label=2, ignore_flag=0)]
    return dict(seg_map_path=str(tmp_path / 'a.png'), ori_shape=(2, 4), segments_info=SEGMENTS, instances=boxes)


def load(results, **settings):
    return TRANSFORMS.build(dict(type='mmplugins.LoadPanopticAnnotations', **settings))(results)


@pytest.mark.parametrize(('num_things', 'crowd'), [(None, 1), (7, 255)])
def test_values(results, num_things, crowd):
    results = load(results, num_things_classes=num_things)
    masks = results['gt_masks'].to_ndarray()
    assert masks.dtype == np.uint8
    assert np.array_equal(masks, np.stack([IDS == 5, IDS == 300]))
    assert results['gt_seg_map'].dtype == np.uint8
    assert results['gt_seg_map'].tolist() == [[255, 1, 1, 7], [2, 2, crowd, crowd]]
    assert results['gt_bboxes'].tensor.tolist() == [[1, 0, 3, 1], [0, 1, 2, 2]]
    assert results['gt_bboxes_labels'].tolist() == [1, 2]
    assert results['gt_ignore_flags'].tolist() == [False, False]


def test_parts_can_be_left_out(results):
    loaded = load(dict(results), with_bbox=False, with_label=False, with_mask=False)
    assert 'gt_bboxes' not in loaded
    assert 'gt_masks' not in loaded
    assert 'gt_seg_map' in loaded
    loaded = load(dict(results), with_seg=False)
    assert 'gt_seg_map' not in loaded
    assert len(loaded['gt_masks']) == 2


def test_without_a_file_there_are_boxes_alone(results):
    results['seg_map_path'] = None
    loaded = load(results)
    assert 'gt_masks' not in loaded
    assert len(loaded['gt_bboxes']) == 2


def test_the_map_alone(results):
    loaded = load(results, split=False)
    assert np.array_equal(loaded['gt_seg_map'], segment_image(IDS))
    assert not {'gt_bboxes', 'gt_masks', 'gt_bboxes_labels', 'gt_ignore_flags'} & loaded.keys()
    with pytest.raises(ValueError, match=r'has no seg_map_path: set data_prefix\.seg'):
        load(dict(results, seg_map_path=None), split=False)


@pytest.mark.parametrize(('values', 'mode'), [(IDS % 200, 'L'), (IDS % 60000, 'I;16')])
def test_a_grey_png_is_named(results, values, mode):
    Image.fromarray(values.astype(np.uint8 if mode == 'L' else np.uint16)).save(results['seg_map_path'])
    for split in (True, False):
        with pytest.raises(
            ValueError, match=rf"a.png is an image of mode '{mode}'; .* is red \+ 256 green \+ 65536 blue"
        ):
            load(dict(results), split=split)


@pytest.mark.parametrize('split', [True, False])
def test_a_segment_without_a_pixel_is_named(results, split):
    results['segments_info'] = [*SEGMENTS, dict(id=6, category=0, is_thing=1)]
    with pytest.raises(ValueError, match=r'a.png has no pixel of segment 6, which the annotations list'):
        load(results, split=split)


@pytest.mark.parametrize('split', [True, False])
def test_a_segment_that_is_not_listed_is_told_once(results, split, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level('WARNING')  # of the handler, for this test
    transform = TRANSFORMS.build(dict(type='mmplugins.LoadPanopticAnnotations', split=split))
    transform(dict(results))
    assert not caplog.records  # all are listed
    results['segments_info'] = [SEGMENTS[0], *SEGMENTS[2:]]
    loaded = [transform(dict(results)) for _ in range(2)][-1]
    logger.removeHandler(caplog.handler)
    assert [record.levelname for record in caplog.records] == ['WARNING']
    assert 'a.png has segments that the annotations do not list, or list with' in caplog.text
    assert 'such as 70000; their pixels are void' in caplog.text
    if split:
        assert loaded['gt_seg_map'].tolist() == [[255, 1, 1, 255], [2, 2, 1, 1]]


def test_classes_that_do_not_fit_into_the_map(results):
    for category in (255, 399):
        results['segments_info'] = [dict(SEGMENTS[0], category=category)]
        with pytest.raises(
            ValueError, match=f'a segment of class {category}, but a semantic map holds classes up to 254'
        ):
            load(dict(results))
        assert len(load(dict(results), with_seg=False)['gt_masks']) == 1


def test_annotations_that_list_stuff_before_things(results):
    for split in (True, False):
        with pytest.raises(
            ValueError, match=r'thing of class 2, but things are the classes 0 to 1 .*: list things before'
        ):
            load(dict(results, segments_info=SEGMENTS[2:3]), num_things_classes=2, split=split)


def test_no_things(results):
    results.update(segments_info=SEGMENTS[1:2], instances=[])
    loaded = load(results)
    assert loaded['gt_masks'].to_ndarray().shape == (0, 2, 4)
    assert loaded['gt_seg_map'].tolist() == [[255, 255, 255, 7], [255] * 4]


def test_another_size_raises(results):
    results['ori_shape'] = (4, 4)
    with pytest.raises(ValueError, match=r'a.png is \(2, 4\), its image None \(4, 4\)'):
        load(results)


def test_a_photo_turned_by_a_quarter_is_named_with_its_tag(tmp_path, results):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((*IDS.shape, 3), np.uint8)).save(tmp_path / 'photo.jpg', exif=exif)
    results.update(img_path=str(tmp_path / 'photo.jpg'), ori_shape=IDS.shape[::-1])
    with pytest.raises(
        ValueError, match=r"photo\.jpg \(4, 2\) .*has the EXIF orientation tag 6.*color_type='color_ign"
    ):
        load(results)


def test_without_mmdet(monkeypatch):
    monkeypatch.setattr('mmplugins.hosts.problem_with', lambda host: 'mmdet is not installed; run `pip install it`')
    with pytest.raises(ImportError, match='LoadPanopticAnnotations needs mmdet: mmdet is not installed'):
        load({})


def test_repr():
    transform = TRANSFORMS.build(dict(type='mmplugins.LoadPanopticAnnotations', num_things_classes=80))
    assert 'with_mask=True, with_seg=True, num_things_classes=80' in repr(transform)


@pytest.mark.parametrize('tag', [2, 3])
def test_an_image_that_its_orientation_tag_turned(tmp_path, results, tag):
    """Even where the size fits the PNG; an image that was loaded as stored passes, resized or not."""
    height, width = IDS.shape
    exif = Image.Exif()
    exif[274] = tag
    stored = np.arange(height * width, dtype=np.uint8).reshape(height, width, 1).repeat(3, 2)
    path = tmp_path / 'turned.png'
    Image.fromarray(stored).save(path, exif=exif)
    for flag, size in (('color_ignore_orientation', (width, height)), ('color_ignore_orientation', (40, 30))):
        image = mmcv.imresize(mmcv.imread(path, flag), size)
        load(dict(results, img_path=str(path), img=image), split=False)
    turned = mmcv.imread(path, 'color')
    with pytest.raises(ValueError, match=rf"turned\.png has the EXIF orientation tag {tag}.*color_type='color_ignore"):
        load(dict(results, img_path=str(path), img=turned), split=False)
