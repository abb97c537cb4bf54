"""Every config is complete: it loads, all that it names is built, and one small step runs."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import MessageHub
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DATA_SAMPLERS, EVALUATOR, HOOKS, MODELS, TRANSFORMS, VISUALIZERS, init_default_scope
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.structures import InstanceData, PixelData
from PIL import Image
from torch.nn.functional import interpolate

from mmplugins.engine.launch import UsageError, check_data
from mmplugins.functional.segment_images import segment_image
from tests.toolboxes import need_those_of

ROOT = Path(__file__).parents[1]
CONFIGS = [
    pytest.param(path, id=path.relative_to(ROOT / 'configs').as_posix())
    for path in sorted((ROOT / 'configs').rglob('*.py'))
    if '_base_' not in path.parts
]
SCOPES = {param.id: Config.fromfile(param.values[0]).default_scope for param in CONFIGS}
VIDEO_SEGMENTORS = [param for param in CONFIGS if Config.fromfile(param.values[0]).model.type == 'mmplugins.AOT']
SEGMENTORS = [param for param in CONFIGS if SCOPES[param.id] == 'mmseg' and param not in VIDEO_SEGMENTORS]
MASK_DETECTORS = [param for param in CONFIGS if 'panoptic_head' in Config.fromfile(param.values[0]).model]
DETECTORS = [param for param in CONFIGS if SCOPES[param.id] == 'mmdet' and param not in MASK_DETECTORS]
SIZE = 65  # pixels a side of what enters the network


def load(path: Path) -> Config:
    cfg = Config.fromfile(path)
    need_those_of(cfg.default_scope, cfg.model)
    init_default_scope(cfg.default_scope)
    return cfg


def test_there_are_configs():
    assert len(SEGMENTORS) >= 10
    assert len(DETECTORS) >= 4
    assert len(MASK_DETECTORS) >= 6
    assert len(VIDEO_SEGMENTORS) >= 11
    assert len(CONFIGS) == len(SEGMENTORS) + len(DETECTORS) + len(MASK_DETECTORS) + len(VIDEO_SEGMENTORS)


def transforms(node):
    """Yields the configs of the transforms of a pipeline, those inside of others included."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ():
        yield from transforms(child)


@pytest.mark.parametrize('path', MASK_DETECTORS)
def test_objects_that_a_crop_cuts_off_are_left_out(path):
    """A crop leaves objects whose box reaches into it and whose mask does not; they would be learned as empty.

    ``RasterizeInstances`` leaves them out by itself. The full-scale panoptic configs keep them,
    as the released code does.
    """
    dataset = Config.fromfile(path).train_dataloader.dataset
    types = [step.get('type') for step in transforms(dataset.pipeline)]
    if 'RandomCrop' in types and not {'mmplugins.RasterizeInstances', 'mmplugins.SplitPanopticMap'} & {*types}:
        (step,) = [step for step in dataset.pipeline if step.type == 'FilterAnnotations']
        assert step.by_mask
        assert types.index('FilterAnnotations') > types.index('RandomCrop')


@pytest.mark.parametrize('path', CONFIGS)
def test_names_and_custom_imports(path):
    cfg = Config.fromfile(path)
    assert cfg.custom_imports == dict(imports=['mmplugins'], allow_failed_imports=False)
    # <model>_<backbone>[_<what>]_<n>xb<m>-<schedule>_<dataset>-<size>
    parts = path.stem.split('_')
    assert len(parts) >= 4
    assert parts[0] == path.parent.name
    gpus, batch = parts[-2].split('-')[0].split('xb')
    assert int(gpus) >= 1
    assert cfg.train_dataloader.batch_size == int(batch)


@pytest.mark.parametrize('path', CONFIGS)
def test_log_and_pictures_fit_the_schedule_and_the_toolbox(path):
    cfg = Config.fromfile(path)
    assert cfg.log_processor.by_epoch is (cfg.train_cfg.type == 'EpochBasedTrainLoop')
    hook = {'mmseg': 'SegVisualizationHook', 'mmdet': 'DetVisualizationHook'}[cfg.default_scope]
    if cfg.model.type == 'mmplugins.AOT':
        hook = 'mmplugins.VOSVisualizationHook'
    assert cfg.default_hooks.visualization == dict(type=hook)
    assert cfg.default_hooks.checkpoint.get('save_best') != 'auto'  # the first measure, which is aAcc beside mIoU


@pytest.mark.parametrize('path', CONFIGS)
def test_everything_named_is_built(path, tmp_path):
    cfg = load(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert DATA_SAMPLERS.get(loader.sampler.type) is not None
        for config in loader.dataset.get('datasets', [loader.dataset]):  # those of a ConcatDataset
            dataset = ROOT_DATASETS.build({**config, 'lazy_init': True})
            assert len(dataset.metainfo['classes']) == num_classes(cfg)
            assert len(dataset.metainfo['palette']) == num_classes(cfg)
    for metrics, loader in ((cfg.val_evaluator, cfg.val_dataloader), (cfg.test_evaluator, cfg.test_dataloader)):
        metrics = [metrics] if isinstance(metrics, dict) else metrics
        metrics = [{**metric, **annotations_of(metric, loader.dataset, tmp_path)} for metric in metrics]
        EVALUATOR.build(dict(type='Evaluator', metrics=metrics))
    VISUALIZERS.build({**cfg.visualizer, 'name': path.stem, 'save_dir': str(tmp_path)})  # hooks take the current one
    for hook in [*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])]:
        HOOKS.build(hook)
    end = max(scheduler.end for scheduler in cfg.param_scheduler)
    length = cfg.train_cfg.get('max_iters', cfg.train_cfg.get('max_epochs'))
    # a PolyLR whose last step still has a rate ends one step later; tests/test_recipes.py has the rates
    assert end - length in ((0, 1) if cfg.param_scheduler[-1].type == 'PolyLR' else (0,))


def annotations_of(metric: dict, dataset: dict, folder: Path) -> dict:
    """Checks that a metric reads the annotations of the data set, and gives it others, as it reads them when built."""
    if 'ann_file' not in metric:
        return {}
    if metric['type'] == 'mmplugins.CocoPanopticMetric':
        assert metric['ann_file'] == dataset.data_root + dataset.ann_file
        assert metric['seg_prefix'] == dataset.data_root + dataset.data_prefix.seg
        (folder / 'panoptic.json').write_text('{"categories": [], "annotations": []}')
        return dict(ann_file=str(folder / 'panoptic.json'))
    # the instances of panoptic images are in another file
    assert metric['ann_file'] == dataset.data_root + dataset.ann_file.replace('panoptic', 'instances')
    return dict(ann_file=None)


@pytest.mark.parametrize('path', CONFIGS)
def test_missing_data_is_named(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load(path)
    with pytest.raises(UsageError, match='there is no such folder'):
        check_data(cfg, 'train_dataloader')


@pytest.mark.slow
@pytest.mark.parametrize('path', SEGMENTORS)
def test_one_step_of_a_segmentor(path, tmp_path):
    cfg = load(path)
    samples = [packed_sample(cfg, tmp_path, seed) for seed in range(2)]  # two: BN over a 1x1 map needs them
    cfg.model.data_preprocessor.size = (SIZE, SIZE)  # else it pads to the crop
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
    one_step(model, samples)

    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(pseudo_collate(samples), training=False)
        predictions = model(**data, mode='predict')
    assert predictions[0].pred_sem_seg.data.shape[1:] == (SIZE, SIZE)


@pytest.mark.slow
@pytest.mark.parametrize('path', VIDEO_SEGMENTORS)
def test_one_step_of_a_video_segmentor(path, tmp_path):
    """Of a clip of each kind that the training takes; then two frames of a video, through the test's pipeline."""
    cfg = load(path)
    video = Video(tmp_path)
    datasets = leaves(cfg.train_dataloader.dataset)
    samples = [packed_clip(datasets[i % len(datasets)], video) for i in range(2)]
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model).train()
    log = one_step(model, samples, (2, 5, 3, SIZE, SIZE))
    assert {'loss_topk', 'loss_jaccard', 'ref.loss_topk', 'ref.loss_jaccard'} <= log.keys()

    model.eval()
    for frame in range(2):
        sample = packed_frame(cfg, video, frame)
        assert ('ref_sem_seg' in sample['data_samples']) == (frame == 0)
        with torch.no_grad():
            data = model.data_preprocessor(pseudo_collate([sample]), training=False)
            (prediction,) = model(**data, mode='predict')
        assert prediction.pred_sem_seg.data.shape == prediction.gt_sem_seg.data.shape == (1, 200, 300)
        if frame == 0:
            assert torch.equal(prediction.pred_sem_seg.data, prediction.gt_sem_seg.data)


@pytest.mark.slow
@pytest.mark.parametrize('path', DETECTORS)
def test_one_step_of_a_detector(path, tmp_path):
    """Of two images of different sizes, the second has no objects."""
    cfg = load(path)
    samples = [packed_detection_sample(cfg, tmp_path, seed, objects) for seed, objects in enumerate((3, 0))]
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model).train()
    log = one_step(model, samples)
    assert {'class_error', 'cardinality_error'} <= log.keys()

    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(pseudo_collate(samples), training=False)
        found = [sample.pred_instances for sample in model(**data, mode='predict')]
    assert [len(instances) for instances in found] == [min(cfg.model.num_queries, cfg.model.test_cfg.max_per_img)] * 2
    for instances, sample in zip(found, samples, strict=True):
        height, width = sample['data_samples'].img_shape
        assert instances.bboxes.min() >= 0
        assert (instances.bboxes.amax(0) <= torch.tensor([width, height, width, height])).all()
        assert instances.labels.max() < num_classes(cfg)


@pytest.mark.slow
@pytest.mark.parametrize('path', MASK_DETECTORS)
def test_one_step_of_a_detector_of_masks(path, tmp_path):
    """Of two images of different sizes, the first has a crowd, the second no objects."""
    cfg = load(path)
    samples = [packed_mask_sample(cfg, tmp_path, seed) for seed in range(2)]
    cfg.model.backbone.init_cfg = None
    cfg.model.data_preprocessor.update(batch_augments=None, pad_size_divisor=1)
    model = MODELS.build(cfg.model).train()
    one_step(model, samples)

    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(pseudo_collate(samples), training=False)
        found = model(**data, mode='predict')
    for prediction, sample in zip(found, samples, strict=True):
        size = sample['data_samples'].ori_shape
        if cfg.model.test_cfg.panoptic_on:
            segments = prediction.pred_panoptic_seg.sem_seg
            assert segments.shape == (1, *size)
            assert (segments % 1000).max() <= num_classes(cfg)
        if cfg.model.test_cfg.instance_on:
            assert prediction.pred_instances.masks.shape[1:] == size
            assert (prediction.pred_instances.labels < cfg.model.panoptic_head.num_things_classes).all()


def one_step(model, samples, shape=(2, 3, SIZE, SIZE)) -> dict:
    """Loss and gradients of a training step; returns what would be logged."""
    data = model.data_preprocessor(pseudo_collate(samples), training=True)
    assert data['inputs'].shape == shape
    MessageHub.get_current_instance().update_info('iter', 0)  # as the runner does
    losses = model(**data, mode='loss')
    total, log = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert total > 0
    assert len([name for name in log if 'loss' in name]) >= 3  # total, main, auxiliary
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    return log


def num_classes(cfg: Config) -> int:
    """Number of classes of a segmentor's or a detector's head."""
    if head := cfg.model.get('panoptic_head'):
        return head.num_things_classes + head.num_stuff_classes
    if 'max_objects' in cfg.model:
        return cfg.model.max_objects + 1
    return (cfg.model.get('decode_head') or cfg.model.bbox_head).num_classes


def pipeline_of(cfg: Config) -> Compose:
    return Compose([TRANSFORMS.build(step) for step in cfg.train_dataloader.dataset.pipeline])


def packed_sample(cfg: Config, folder: Path, seed: int) -> dict:
    """A random image and label through the config's training pipeline, cut to a small size."""
    rng = np.random.default_rng(seed)
    image, label = folder / f'{seed}.png', folder / f'{seed}_label.png'
    Image.fromarray(rng.integers(0, 255, (200, 300, 3), dtype=np.uint8)).save(image)
    labels = rng.integers(0, num_classes(cfg), (200, 300), dtype=np.uint8)
    steps = cfg.train_dataloader.dataset.pipeline
    binary = any(step['type'] == 'mmplugins.LoadBinaryMask' for step in steps)  # whose files are 0 and 255
    Image.fromarray(labels * np.uint8(255) if binary else labels).save(label)
    reduce = any(step.get('reduce_zero_label') for step in steps)  # ADE20K's 0: no class
    info = dict(img_path=str(image), seg_map_path=str(label), seg_fields=[], label_map=None, reduce_zero_label=reduce)
    sample = pipeline_of(cfg)(info)
    sample['inputs'] = sample['inputs'][:, :SIZE, :SIZE]
    semantic = sample['data_samples'].gt_sem_seg.data[:, :SIZE, :SIZE]
    sample['data_samples'].set_data(dict(gt_sem_seg=PixelData(data=semantic)))
    shape = dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE))
    sample['data_samples'].set_metainfo(shape)
    return sample


def packed_detection_sample(cfg: Config, folder: Path, seed: int, objects: int) -> dict:
    """A random image with boxes through the config's training pipeline, resized; those of even seeds are square."""
    rng = np.random.default_rng(seed)
    image = folder / f'{seed}.png'
    Image.fromarray(rng.integers(0, 255, (200, 300, 3), dtype=np.uint8)).save(image)
    boxes = [
        dict(bbox=[20.0, 30.0, 280.0, 170.0], bbox_label=i % num_classes(cfg), ignore_flag=0) for i in range(objects)
    ]
    info = dict(img_path=str(image), img_id=seed, height=200, width=300, instances=boxes)
    sample = pipeline_of(cfg)(info)
    before, size = sample['inputs'].shape[1:], (SIZE - 16 * (seed % 2), SIZE)
    sample['inputs'] = interpolate(sample['inputs'][None].float(), size)[0]
    scale = torch.tensor([size[1] / before[1], size[0] / before[0]] * 2)
    instances = sample['data_samples'].gt_instances
    instances.bboxes = torch.as_tensor(getattr(instances.bboxes, 'tensor', instances.bboxes)) * scale
    assert len(instances) == objects
    sample['data_samples'].set_metainfo(dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    return sample


def packed_mask_sample(cfg: Config, folder: Path, seed: int) -> dict:
    """A random image with masks through the config's training pipeline, resized; with an odd seed, flat and empty."""
    rng = np.random.default_rng(seed)
    height, width, things = 200, 300, cfg.model.panoptic_head.num_things_classes
    Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / f'{seed}.png')
    corners = [(20, 30, 140, 170), (150, 20, 280, 180), (0, 0, 60, 25)]  # left, top, right, bottom; the last is a crowd
    entries = [
        dict(bbox=list(map(float, box)), bbox_label=i % things, ignore_flag=int(i == 2))
        for i, box in enumerate(corners)
    ]
    info = dict(img_path=str(folder / f'{seed}.png'), img_id=seed, height=height, width=width)
    if cfg.train_dataloader.dataset.type == 'CocoPanopticDataset':  # which leaves crowds out of the instances
        ids = np.full((height, width), 9)
        for i, (left, top, right, bottom) in enumerate(corners):
            ids[top:bottom, left:right] = i + 1
        Image.fromarray(segment_image(ids)).save(folder / f'{seed}_segments.png')
        segments = [dict(id=i + 1, category=i % things, is_thing=i < 2) for i in range(3)]
        segments.append(dict(id=9, category=things, is_thing=False))
        info.update(instances=entries[:2], segments_info=segments, seg_map_path=str(folder / f'{seed}_segments.png'))
    else:
        for entry, (left, top, right, bottom) in zip(entries, corners, strict=True):
            entry['mask'] = [[left, top, right, top, right, bottom, left, bottom]]
        info.update(instances=entries)
    sample = None
    while sample is None:  # a crop is drawn again if it leaves boxes, but no pixel of a mask
        sample = pipeline_of(cfg)(copy.deepcopy(info))
    data, size = sample['data_samples'], (SIZE - 16 * (seed % 2), SIZE)
    sample['inputs'] = interpolate(sample['inputs'][None].float(), size)[0]
    for name in ('gt_instances', 'ignored_instances'):
        instances = data.get(name)
        if 'masks' not in instances:  # crowds of a panoptic map are in gt_sem_seg
            assert name == 'ignored_instances'
            continue
        kept = slice(0, 0) if seed % 2 else slice(None)
        data.set_field(InstanceData(masks=instances.masks.resize(size)[kept], labels=instances.labels[kept]), name)
    assert data.gt_instances.masks.masks.dtype == np.uint8
    if 'gt_sem_seg' in data:
        semantic = data.gt_sem_seg.sem_seg
        assert semantic.dtype == torch.uint8
        data.gt_sem_seg = PixelData(sem_seg=interpolate(semantic[None], size)[0])
    data.set_metainfo(dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    return sample


def leaves(config: dict) -> list[dict]:
    """Returns the data sets that a config joins or repeats."""
    inner = config.get('datasets') or [config[key] for key in ('dataset',) if key in config]
    return [leaf for one in inner for leaf in leaves(one)] if inner else [config]


class Video:
    """A data set of one video of 30 random frames, taken for two; two objects are wherever one looks."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        mask = np.resize(np.repeat([1, 2, 0], 24), 300).astype(np.uint8)  # stripes
        self.info = dict(video_name='stripes', img_path=[], seg_map_path=[], mask_threshold=None, sample_idx=0)
        for index in range(30):
            frame, label = folder / f'{index:05d}.jpg', folder / f'{index:05d}.png'
            Image.fromarray(rng.integers(0, 255, (200, 300, 3), dtype=np.uint8)).save(frame)
            Image.fromarray(np.tile(mask, (200, 1))).save(label)
            self.info['img_path'].append(str(frame))
            self.info['seg_map_path'].append(str(label))

    def __len__(self) -> int:
        return 2

    def get_data_info(self, index: int) -> dict:
        return copy.deepcopy(self.info) | dict(dataset=self)


def packed_clip(dataset: dict, video: Video) -> dict:
    """A clip through the data set's training pipeline, cut to a small size."""
    info = video.get_data_info(0)
    if dataset.type == 'mmplugins.StaticVOSDataset':
        info.update(img_path=info['img_path'][:1], seg_map_path=info['seg_map_path'][:1])
        video.info = {key: value for key, value in info.items() if key != 'dataset'}  # for the second one of a merge
    sample = Compose([TRANSFORMS.build(step) for step in dataset.pipeline])(info)
    crop = (slice(None), slice(None, SIZE), slice(None, SIZE))
    sample['inputs'] = sample['inputs'][(slice(None), *crop)]
    truth = sample['data_samples'].gt_sem_seg.data
    assert truth[0].unique().tolist()[-1] == sample['data_samples'].num_objects
    sample['data_samples'].gt_sem_seg = PixelData(data=truth[crop])
    return sample


def packed_frame(cfg: Config, video: Video, index: int) -> dict:
    """A frame through the test pipeline, with a small input."""
    info = video.get_data_info(0) | dict(frame_id=index, frame_name=f'{index:05d}', num_frames=2, new_objects=[])
    for key in ('img_path', 'seg_map_path'):
        info[key] = [video.info[key][0]]
    sample = Compose([TRANSFORMS.build(step) for step in cfg.test_dataloader.dataset.pipeline])(info)
    height, width = sample['inputs'].shape[-2:]
    assert height % 16 == width % 16 == 1
    sample['inputs'] = sample['inputs'][..., :SIZE, :SIZE]
    return sample
