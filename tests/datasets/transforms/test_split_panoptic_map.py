import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from mmplugins.functional.segment_images import segment_image
from mmplugins.hosts import problem_with
from mmplugins.registry import TRANSFORMS

if problem := problem_with('mmdet'):
    pytest.skip(f'mmdet is needed: {problem}', allow_module_level=True)

IDS = np.array([[0, 5, 5, 70000], [300, 300, 9, 9]])
SEGMENTS = [
    dict(id=70000, category=7, is_thing=0),
    dict(id=5, category=1, is_thing=1),
    dict(id=9, category=1, is_thing=False),  # a crowd, as CocoPanopticDataset gives it
    dict(id=300, category=2, is_thing=1),
    dict(id=4, category=8, is_thing=0),  # of no pixel
]
MAP = segment_image(IDS)


def split(colours=MAP, **settings):
    transform = TRANSFORMS.build(dict(type='mmplugins.SplitPanopticMap', num_things_classes=7, **settings))
    return transform(dict(gt_seg_map=colours, segments_info=SEGMENTS))


def test_values():
    """Every segment but the crowd in the order of the list; the crowd's pixels are void; no box."""
    results = split()
    masks = results['gt_masks'].to_ndarray()
    assert masks.dtype == results['gt_seg_map'].dtype == np.uint8
    assert np.array_equal(masks, np.stack([IDS == 70000, IDS == 5, IDS == 300, IDS == 4]))
    assert results['gt_bboxes_labels'].tolist() == [7, 1, 2, 8]
    assert results['gt_bboxes_labels'].dtype == np.int64
    assert results['gt_seg_map'].tolist() == [[255, 0, 0, 0], [0, 0, 255, 255]]
    assert results['ignore_index'] == 255


def test_empty_segments_can_go():
    results = split(MAP[:, 1:], keep_empty=False)
    assert results['gt_bboxes_labels'].tolist() == [7, 1, 2]
    results = split(MAP[:1, :1], keep_empty=False)
    assert results['gt_masks'].to_ndarray().shape == (0, 1, 1)
    assert results['gt_seg_map'].tolist() == [[255]]


def test_things_among_the_classes_of_stuff():
    with pytest.raises(ValueError, match=r'a thing of class 2, but things are the classes 0 to 1 .*list things before'):
        TRANSFORMS.build(dict(type='mmplugins.SplitPanopticMap', num_things_classes=2))(
            dict(gt_seg_map=MAP, segments_info=SEGMENTS)
        )


def test_no_segments():
    transform = TRANSFORMS.build(dict(type='mmplugins.SplitPanopticMap', num_things_classes=7))
    results = transform(dict(gt_seg_map=MAP, segments_info=[]))
    assert results['gt_masks'].to_ndarray().shape == (0, 2, 4)
    assert results['gt_bboxes_labels'].shape == (0,)
    assert (results['gt_seg_map'] == 255).all()


def test_another_map_raises():
    with pytest.raises(ValueError, match=r'must be a panoptic map \(H, W, 3\), got \(2, 4\); load it with'):
        split(IDS)


@pytest.fixture
def sample(tmp_path):
    """An image of 80x60: a thing in the upper left corner, one in the lower right, stuff below, void and a crowd."""
    ids = np.zeros((60, 80), int)
    ids[30:, :40], ids[:10, :10], ids[40:, 60:], ids[:5, 70:] = 11, 12, 13, 14
    Image.fromarray(segment_image(ids)).save(tmp_path / 'a.png')
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(tmp_path / 'a.jpg')
    segments = [
        dict(id=11, category=5, is_thing=False),
        dict(id=12, category=0, is_thing=True),
        dict(id=13, category=1, is_thing=True),
        dict(id=14, category=1, is_thing=False),
    ]
    return dict(
        img_path=str(tmp_path / 'a.jpg'), seg_map_path=str(tmp_path / 'a.png'), segments_info=segments, instances=[]
    )


def test_through_a_pipeline(sample):
    """A crop without the second thing keeps it, empty; what mmdet's transforms do to the map is what they do to ids."""
    init_default_scope('mmdet')
    pipeline = Compose(
        [
            dict(type='LoadImageFromFile', imdecode_backend='pillow'),
            dict(type='mmplugins.LoadPanopticAnnotations', split=False),
            dict(type='RandomFlip', prob=1.0),
            dict(type='Resize', scale=(160, 120), backend='pillow'),
            dict(type='RandomCrop', crop_size=(90, 120)),
            dict(type='mmplugins.SplitPanopticMap', num_things_classes=5),
            dict(type='PackDetInputs'),
        ]
    )
    pipeline.transforms[4]._rand_offset = lambda margin: (0, margin[1])  # the right upper corner
    packed = pipeline(sample)['data_samples']
    masks = packed.gt_instances.masks.to_ndarray()
    assert packed.gt_instances.labels.tolist() == [5, 0, 1]
    assert masks.shape == (3, 120, 90)
    expected = np.zeros((3, 120, 90), np.uint8)  # flipped, x = 160 - 2x; then 70 columns cut off on the left
    expected[0, 60:, 10:], expected[1, :20, 70:] = 1, 1
    assert np.array_equal(masks, expected)
    assert np.array_equal(packed.gt_sem_seg.sem_seg[0].numpy(), np.where(expected.any(0), 0, 255))


def test_repr():
    transform = TRANSFORMS.build(dict(type='mmplugins.SplitPanopticMap', num_things_classes=80))
    assert repr(transform) == 'SplitPanopticMap(num_things_classes=80, keep_empty=True)'
