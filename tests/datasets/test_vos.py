import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate, worker_init_fn
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed
from PIL import Image
from torch.utils.data import DataLoader

from mmplugins.hosts import problem_with
from mmplugins.registry import DATASETS, TRANSFORMS
from tests.datasets.videos import SIZE, davis, save_mask, square, write_davis, write_ytvos, ytvos
from tests.locations import ROOT, data_root

needs_mmseg = pytest.mark.skipif(bool(problem_with('mmseg')), reason=str(problem_with('mmseg')))
CLIP = [
    dict(type='mmplugins.SampleClip', length=3, max_gap=2, min_pixels=10),
    dict(type='mmplugins.LoadClip'),
    dict(
        type='TransformBroadcaster',
        mapping=dict(img='img', gt_seg_map='gt_seg_map'),
        auto_remap=True,
        share_random_params=True,
        transforms=[
            dict(
                type='RandomResize', scale=(1000, 24), ratio_range=(0.7, 1.3), keep_ratio=True, interpolation='nearest'
            ),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
    dict(type='mmplugins.RandomCropClip', crop_size=(17, 33), min_pixels=5, pad_value=(0, 0, 0)),
]
TRAIN = [
    *CLIP,
    dict(type='mmplugins.MergeClips', pre_transform=CLIP, prob=0.5, min_pixels=5),
    dict(type='mmplugins.PackClip'),
]
TEST = [
    dict(type='mmplugins.LoadClip'),
    dict(type='mmplugins.ResizeClip'),
    dict(type='mmplugins.LoadClipMasks'),
    dict(type='mmplugins.PackClip'),
]


def moving(number, frames=6, top=4):
    return [square(number, top, 2 + 3 * index) for index in range(frames)]


@pytest.fixture
def two(tmp_path):
    return write_davis(tmp_path, {'cat': moving(1), 'ant': moving(1, 4, top=10)})


# What is listed -------------------------------------------------------------------------------------------------------


def test_videos_for_training_and_frames_for_tests(two):
    videos = DATASETS.build(davis(two))
    assert [videos.get_data_info(i)['video_name'] for i in range(len(videos))] == ['cat', 'ant']
    info = videos.get_data_info(1)
    assert info['img_path'] == [str(two / f'JPEGImages/480p/ant/{i:05d}.png') for i in range(4)]
    assert info['seg_map_path'] == [str(two / f'Annotations/480p/ant/{i:05d}.png') for i in range(4)]

    frames = DATASETS.build(davis(two, test_mode=True))
    infos = [frames.get_data_info(i) for i in range(len(frames))]
    assert [(info['video_name'], info['frame_id']) for info in infos] == [
        *(('cat', i) for i in range(6)),
        *(('ant', i) for i in range(4)),
    ]
    assert [info['frame_name'] for info in infos[6:]] == ['00000', '00001', '00002', '00003']
    assert {info['num_frames'] for info in infos[:6]} == {6}
    assert all(info['new_objects'] == [] for info in infos)


def test_metainfo_has_a_colour_for_each_object(two):
    metainfo = DATASETS.build(davis(two, lazy_init=True)).metainfo
    assert metainfo['classes'][:2] == ('background', 'object 1')
    assert len(metainfo['classes']) == len(metainfo['palette']) == 11


def test_lazy_init_reads_nothing_until_it_must(tmp_path):
    dataset = DATASETS.build(davis(tmp_path, lazy_init=True))
    with pytest.raises(FileNotFoundError, match=r'ImageSets/2017/train\.txt is not there; it lists the videos'):
        dataset.full_init()
    write_davis(tmp_path, {'cat': moving(1)})
    assert len(dataset) == 1


def test_lines_of_paths_as_davis_2016_has_them(two):
    lines = [f'/JPEGImages/480p/cat/{i:05d}.jpg /Annotations/480p/cat/{i:05d}.png' for i in range(6)]
    (two / 'pairs.txt').write_text('\n'.join(lines))
    dataset = DATASETS.build(davis(two, ann_file='pairs.txt'))
    assert [dataset.get_data_info(i)['video_name'] for i in range(len(dataset))] == ['cat']


VIDEO = {'1': ['00000', '00005', '00010'], '3': ['00005', '00010', '00015']}


def test_ytvos_takes_the_frames_of_its_list(tmp_path):
    masks = {frame: square(1, 4, 4) for frame in ('00000', '00005', '00010', '00015')}
    write_ytvos(tmp_path, {'a': VIDEO}, {'a': masks})
    (tmp_path / 'JPEGImages/a/00002.jpg').write_bytes((tmp_path / 'JPEGImages/a/00000.jpg').read_bytes())
    (tmp_path / 'JPEGImages/a/00020.jpg').write_bytes((tmp_path / 'JPEGImages/a/00000.jpg').read_bytes())

    training = DATASETS.build(ytvos(tmp_path))
    assert [path[-9:] for path in training.get_data_info(0)['img_path']] == [f'{frame}.jpg' for frame in sorted(masks)]
    dataset = DATASETS.build(ytvos(tmp_path, test_mode=True))  # all frames between the first and the last
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [info['frame_name'] for info in infos] == ['00000', '00002', '00005', '00010', '00015']
    assert [info['new_objects'] for info in infos] == [[], [], [3], [], []]
    assert infos[1]['seg_map_path'] == [None]
    save_mask(tmp_path / 'Annotations/a/00020.png', square(1, 4, 4))  # of a frame after the last one
    assert len(DATASETS.build(ytvos(tmp_path, test_mode=True))) == 5
    single = DATASETS.build(ytvos(tmp_path, test_mode=True, single_object=True))
    assert single.get_data_info(2)['new_objects'] == []


def test_objects_of_one_frame_bring_no_frames(tmp_path):
    """Object 2 is listed once: its frame 7 is left out, in training, and so is the video that has nothing else."""
    videos = {'a': VIDEO | {'2': ['00007']}, 'b': {'1': ['00000'], '2': ['00005']}, 'c': {'4': ['00001', '00002']}}
    frames = {name: {frame for seen in objects.values() for frame in seen} for name, objects in videos.items()}
    write_ytvos(tmp_path, videos, {name: {frame: square(1, 4, 4) for frame in frames[name]} for name in videos})
    dataset = DATASETS.build(ytvos(tmp_path, filter_cfg=dict(min_object_frames=2)))
    infos = {info['video_name']: info['img_path'] for info in map(dataset.get_data_info, range(len(dataset)))}
    assert {name: [path[-9:-4] for path in paths] for name, paths in infos.items()} == {
        'a': ['00000', '00005', '00010', '00015'],
        'c': ['00001', '00002'],
    }
    everything = DATASETS.build(ytvos(tmp_path))
    assert [len(everything.get_data_info(i)['img_path']) for i in range(3)] == [5, 2, 2]
    tested = DATASETS.build(ytvos(tmp_path, filter_cfg=dict(min_object_frames=2), test_mode=True))
    assert len(tested) == 9


@needs_mmseg
def test_ytvos_gives_new_objects_only_where_they_appear(tmp_path):
    """The mask of frame 5 shows object 1 still: it is compared, not given. Numbers stay those of the file."""
    later = np.maximum(square(1, 2, 2), square(3, 12, 20))
    write_ytvos(tmp_path, {'a': VIDEO}, {'a': {'00000': square(1, 4, 4), '00005': later}})
    dataset = DATASETS.build(ytvos(tmp_path, test_mode=True, pipeline=TEST))
    samples = [item['data_samples'] for item in dataset]
    assert ['ref_sem_seg' in sample for sample in samples] == [True, True, False, False]
    assert ['gt_sem_seg' in sample for sample in samples] == [True, True, False, False]
    assert np.array_equal(samples[0].ref_sem_seg.data[0], square(1, 4, 4))
    assert np.array_equal(samples[1].ref_sem_seg.data[0], square(3, 12, 20))
    assert np.array_equal(samples[1].gt_sem_seg.data[0], later)
    assert [sample.frame_name for sample in samples] == ['00000', '00005', '00010', '00015']


# What is wrong --------------------------------------------------------------------------------------------------------


def test_a_first_frame_without_a_mask(tmp_path):
    write_davis(tmp_path, {'cat': moving(1), 'ant': [None, *moving(1)]})
    for test_mode in (False, True):
        with pytest.raises(
            ValueError,
            match=r'ant: the first frame .*ant/00000\.png has no mask .*Annotations/480p/ant/00000\.png; the masks of '
            r'the first frame are what is tracked, so add it, or take the video out of the list',
        ):
            DATASETS.build(davis(tmp_path, test_mode=test_mode))


def test_all_faulty_videos_are_named(two):
    (two / 'ImageSets/2017/train.txt').write_text('cat\nant\nghost\n')
    (two / 'JPEGImages/480p/ant/00002.png').unlink()
    (two / 'Annotations/480p/cat/00003.png').unlink()
    with pytest.raises(ValueError, match=r'3 problem\(s\) with the videos') as error:
        DATASETS.build(davis(two))
    text = str(error.value)
    assert 'ghost: no frames in' in text
    assert 'ant: 1 mask(s) without a frame, such as' in text
    assert 'cat: 1 frame(s) without a mask, such as' in text
    assert 'Mend the files or the list' in text

    (two / 'ImageSets/2017/train.txt').write_text('cat\n')  # in a test any mask but the first may be missing
    assert len(DATASETS.build(davis(two, test_mode=True))) == 6


def test_a_list_without_videos(two):
    (two / 'ImageSets/2017/train.txt').write_text('\n')
    with pytest.raises(ValueError, match='lists no videos; give one a line'):
        DATASETS.build(davis(two))


def test_ytvos_files_that_are_missing(tmp_path):
    write_ytvos(tmp_path, {'a': VIDEO}, {'a': {'00000': square(1, 4, 4)}})
    with pytest.raises(ValueError, match=r'object\(s\) \[3\] appear at .*00005\.jpg, which has no mask'):
        DATASETS.build(ytvos(tmp_path, test_mode=True))
    (tmp_path / 'JPEGImages/a/00010.jpg').unlink()
    with pytest.raises(ValueError, match=r'a: 1 frame\(s\) of the list are not in .*, such as 00010'):
        DATASETS.build(ytvos(tmp_path, test_mode=True))


def test_videos_of_one_frame(tmp_path):
    write_davis(tmp_path, {'cat': moving(1), 'still': moving(1, 1)})
    with pytest.raises(ValueError, match=r"such as \['still'\]; set filter_cfg=dict\(min_frames=2\)"):
        DATASETS.build(davis(tmp_path))
    assert len(DATASETS.build(davis(tmp_path, filter_cfg=dict(min_frames=2)))) == 1
    assert len(DATASETS.build(davis(tmp_path, test_mode=True))) == 7


@needs_mmseg
def test_a_mask_of_another_size(two):
    save_mask(two / 'Annotations/480p/cat/00000.png', square(1, 0, 0, size=(24, 30)))
    with pytest.raises(ValueError, match=r'video cat: the mask .*00000\.png is \(24, 30\), its frame .* is \(24, 32\)'):
        DATASETS.build(davis(two, test_mode=True, pipeline=TEST))[0]


# What comes out -------------------------------------------------------------------------------------------------------


@needs_mmseg
def test_single_object(tmp_path):
    """Masks of 0 and 255, and of several objects, become one; without the option they are told."""
    full = np.where(square(1, 4, 4) > 0, 255, 0).astype(np.uint8)
    write_davis(tmp_path, {'full': [full] * 3, 'many': [np.maximum(square(1, 4, 4), square(2, 4, 12))] * 3})
    dataset = DATASETS.build(davis(tmp_path, test_mode=True, single_object=True, pipeline=TEST))
    assert np.array_equal(dataset[0]['data_samples'].ref_sem_seg.data[0], full // 255)
    many = dataset[3]['data_samples'].ref_sem_seg.data[0]
    assert np.array_equal(many, (square(1, 4, 4) + square(2, 4, 12)) > 0)
    with pytest.raises(ValueError, match=r'full: the mask .* must show an object, its values are \[0, 255\]; for '):
        DATASETS.build(davis(tmp_path, test_mode=True, pipeline=TEST))[0]
    with pytest.raises(ValueError, match=r'video full: its masks hold no values but 0 and 255.*single_object=True'):
        DATASETS.build(davis(tmp_path, pipeline=TRAIN))[0]


@needs_mmseg
def test_frames_and_masks_move_alike(two):
    """The frames show 20 times the object's number of the file, here 1: whatever was drawn, the masks fit them."""
    dataset = DATASETS.build(davis(two, pipeline=TRAIN))
    set_random_seed(0)
    numbers, moved = [], 0
    for index in range(30):
        item = dataset[index % 2]
        frames, masks = item['inputs'], item['data_samples'].gt_sem_seg.data
        assert frames.shape == (3, 3, 17, 33)
        assert frames.dtype == torch.uint8
        assert masks.shape == (3, 17, 33)
        numbers.append(item['data_samples'].num_objects)
        assert torch.equal((frames[:, 0] == 20), masks > 0)
        assert set(masks[0].unique().tolist()) == set(range(numbers[-1] + 1))
        moved += not torch.equal(masks[0], masks[1])
    assert set(numbers) == {1, 2}  # merged or not
    assert moved > 20


@needs_mmseg
def test_same_seed_same_clips_and_another_with_each_epoch(two):
    """Two workers draw different clips of the same video, the same ones again with the same seed."""

    def clips(seed, workers):
        set_random_seed(seed)
        dataset = DATASETS.build(davis(two, pipeline=TRAIN, indices=[0, 0, 0, 0]))
        loader = DataLoader(
            dataset,
            batch_size=2,
            num_workers=workers,
            collate_fn=pseudo_collate,
            worker_init_fn=lambda worker: worker_init_fn(worker, workers, 0, seed),
        )
        return torch.stack([clip for _ in range(2) for batch in loader for clip in batch['inputs']])

    for workers in (0, 2):
        first = clips(3, workers)
        assert first.shape == (8, 3, 3, 17, 33)
        assert torch.equal(first, clips(3, workers))
        assert not torch.equal(first, clips(4, workers))
        assert len({clip.numpy().tobytes() for clip in first[:4]}) > 1


@needs_mmseg
def test_frames_of_tests_keep_masks_of_their_size(two):
    item = DATASETS.build(davis(two, test_mode=True, pipeline=TEST))[7]
    sample = item['data_samples']
    assert item['inputs'].shape == (1, 3, 17, 33)  # 24 and 32 to the nearest 16 k + 1, halves to the even k
    assert (sample.video_name, sample.frame_id, sample.frame_name, sample.num_frames) == ('ant', 1, '00001', 4)
    assert sample.ori_shape == SIZE
    assert sample.img_path == str(two / 'JPEGImages/480p/ant/00001.png')
    assert np.array_equal(sample.gt_sem_seg.data, moving(1, 4, top=10)[1][None])
    assert 'ref_sem_seg' not in sample


@needs_mmseg
@pytest.mark.parametrize('name', ['davis2017_465x465', 'davis_161x289', 'sample-video_97x129'])
def test_configs_move_the_frames_of_a_clip_alike(name, tmp_path):
    """Of videos that stand still, all frames of a clip are one, merged or not; clips differ from one another."""
    init_default_scope('mmseg')
    config = Config.fromfile(ROOT / f'configs/_base_/datasets/{name}.py')
    masks = [square(1, 2, 3, side=14)] * 3, [square(1, 9, 12, side=14)] * 3
    write_davis(tmp_path, dict(zip('ab', masks, strict=True)))
    dataset = DATASETS.build({**config.train_dataloader.dataset, 'data_root': str(tmp_path)})
    set_random_seed(0)
    clips = [dataset[index % 2] for index in range(12)]
    for clip in clips:
        for frames in (clip['inputs'], clip['data_samples'].gt_sem_seg.data):
            assert frames.shape[0] == 5
            assert frames.shape[-2:] == config.crop_size
            assert torch.equal(frames, frames[:1].expand_as(frames))
    assert len({clip['inputs'].numpy().tobytes() for clip in clips}) == 12
    assert {clip['data_samples'].num_objects for clip in clips} == {1, 2}


@needs_mmseg
def test_config_joins_youtube_vos_and_davis_five_times(tmp_path):
    init_default_scope('mmseg')
    config = Config.fromfile(ROOT / 'configs/_base_/datasets/ytvos2019-davis2017_465x465.py')
    first, second = config.train_dataloader.dataset.datasets
    assert [part.pipeline[0].max_gap for part in (first, second.dataset)] == [3, 12]
    masks = {frame: square(1, 4, 4, side=18) for frame in ('00000', '00005', '00010', '00015')}
    write_ytvos(tmp_path / 'ytvos/train', {'a': VIDEO, 'short': {'1': ['00000']}}, {'a': masks, 'short': masks})
    write_davis(tmp_path / 'davis', {'cat': moving(1), 'ant': moving(1)})
    first.data_root, second.dataset.data_root = str(tmp_path / 'ytvos'), str(tmp_path / 'davis')
    dataset = DATASETS.build(config.train_dataloader.dataset)
    names = [dataset[index]['data_samples'].video_name for index in range(len(dataset))]
    assert names == ['a', *['cat', 'ant'] * 5]


@needs_mmseg
def test_config_keeps_ten_objects():
    """Eight objects of a first frame stay eight in every draw; of twelve, ten."""
    init_default_scope('mmseg')
    config = Config.fromfile(ROOT / 'configs/_base_/datasets/ytvos2019-davis2017_465x465.py')
    crops = [step for step in config.clip_pipeline if step.type == 'mmplugins.RandomCropClip']
    crop = TRANSFORMS.build(crops[0])
    for objects, kept in ((8, 8), (12, 10)):
        mask = np.zeros((465, 465), dtype=np.uint8)
        for number in range(1, objects + 1):
            mask[30 * number : 30 * number + 20, 100:200] = number
        for _ in range(5):
            results = crop(dict(img=[np.zeros((465, 465, 3), dtype=np.float32)], gt_seg_map=[mask]))
            assert results['num_objects'] == kept
            assert np.unique(results['gt_seg_map'][0]).tolist() == list(range(kept + 1))


# Real data ------------------------------------------------------------------------------------------------------------


@needs_mmseg
def test_davis_through_its_config():
    init_default_scope('mmseg')
    root = data_root('davis')
    config = Config.fromfile(ROOT / 'configs/_base_/datasets/davis_161x289.py')
    config.train_dataloader.dataset.data_root = config.val_dataloader.dataset.data_root = str(root)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert len(dataset) == 7
    random.seed(0)
    item = dataset[0]
    assert item['inputs'].shape == (5, 3, 161, 161)
    assert 0.005 < (item['data_samples'].gt_sem_seg.data == 1).float().mean() < 0.5

    config.val_dataloader.update(num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(config.val_dataloader, seed=0)
    assert len(loader) == 90 + 49
    batch = next(iter(loader))
    assert batch['inputs'][0].shape == (1, 3, 161, 289)
    given = batch['data_samples'][0].ref_sem_seg.data[0].numpy()
    with Image.open(root / 'Annotations/480p/camel/00000.png') as image:
        assert np.array_equal(given, np.asarray(image))
