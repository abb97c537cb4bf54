"""Reads files through the pipelines of a config, and has labels, objects and boxes judged."""

import io
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS

from mmplugins.engine.data_errors import inner_datasets
from mmplugins.engine.loaded_images import REMEDY, loads_eight_bits, losses_in_words, lost_by_loading

from .labels import PixelLabels, check_labels
from .objects import Objects, check_categories, check_objects
from .report import Report, cause, leaves, walk

FILES = 200
SECONDS = {'train_dataloader': 3.5, 'val_dataloader': 1.0}  # that are read for, unless a number of files is asked for
SHOWN = 3  # faulty files of a data set


class Looked(NamedTuple):
    """What was read of a data set.

    Attributes:
        pixels: Labels of pixels.
        objects: Objects and boxes.
        samples: The first samples as the pipeline gives them, those with objects first.
        seen: How many files were read, in words.
    """

    pixels: PixelLabels
    objects: Objects
    samples: list[dict]
    seen: str


@contextmanager
def fixed_seed(seed: int = 0) -> Iterator[None]:
    """Draws the same random numbers each time, and leaves the generators as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  which the transforms of the toolboxes draw from
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def check_data(report: Report, cfg: Config, meta: Mapping | None, files: int | None = None) -> list[dict]:
    """Reads files of the training's and the validation's data sets.

    Args:
        report: Takes the findings, checks ``data``, ``labels`` and ``boxes``.
        cfg: The config; its default scope is set.
        meta: What ``check_classes`` gave.
        files: How many files of the training's data set are read, a quarter as many of the validation's; None: 200
            and 50, as far as they are read in 5 s.

    Returns:
        The first samples of the training's data set.
    """
    samples: list[dict] = []
    for name, share in (('train_dataloader', 1), ('val_dataloader', 4)):
        loader = cfg.get(name)
        if not isinstance(loader, Mapping) or not isinstance(loader.get('dataset'), Mapping):
            continue
        key = f'{name}.dataset'
        dataset = _build(report, key, loader)
        if dataset is None:
            continue
        limit = SECONDS[name] if files is None else float('inf')
        found = _look(report, key, dataset, max(1, (files or FILES) // share), limit)
        if name == 'train_dataloader':
            samples = found.samples
        if meta is not None:
            _judge(report, key, cfg, loader, dataset, found, meta)
    return samples


def _build(report: Report, key: str, loader: Mapping) -> object | None:
    try:
        with redirect_stdout(io.StringIO()):  # pycocotools tells what it does
            dataset = DATASETS.build(loader['dataset'])
            count = len(dataset)
    except Exception as error:  # of any data set, for any reason: that is the finding
        if 'need at least one array' not in str(error):  # mmengine's words for a data set without files
            report.error('data', f'{key} cannot be read: {cause(error)}', 'mend what the error names')
            return None
        count = 0
    batch = loader.get('batch_size') or 1
    if count == 0:
        report.error('data', f'{key} has no files', 'look at data_root, data_prefix, ann_file, suffixes and filter_cfg')
        return None
    if loader.get('drop_last') and count < batch:
        report.error(
            'data', f'{key}: {count} files, a batch takes {batch}', 'lower batch_size, or leave out drop_last=True'
        )
    return dataset


def _look(report: Report, key: str, dataset: Sequence, wanted: int, limit: float) -> Looked:
    """Reads files at equal distances, in a fixed order that does not follow that of the files."""
    trained = key.startswith('train')
    total = len(dataset)
    indices = np.unique(np.linspace(0, total - 1, min(wanted, total)).round().astype(int))
    indices = np.random.default_rng(0).permutation(indices)
    pixels, objects = PixelLabels(), Objects()
    samples: list[dict] = []
    faults = read = 0
    reduced: dict[str, list[str]] = {}
    pipelines = [getattr(one, 'pipeline', None) for one in inner_datasets(dataset)]
    eight_bits = all(loads_eight_bits(getattr(pipeline, 'transforms', ())) for pipeline in pipelines)
    # all: a sample does not tell which of joined data sets it is of
    start = time.perf_counter()
    with fixed_seed():
        for index in indices.tolist():
            read += 1
            name = _name(dataset, index)
            if eight_bits and (loss := lost_by_loading(name)):
                reduced.setdefault(loss, []).append(name)
            try:
                sample = dataset[index]
                full = _add(sample, name, pixels, objects, trained)
            except Exception as error:  # of any transform, for any reason: that is the finding
                faults += 1
                if faults <= SHOWN:
                    report.error('data', f'{key}: {name}: {cause(error)}', 'mend the file or the pipeline')
            else:
                if full:
                    samples.insert(0, sample)
                else:
                    samples.append(sample)
                del samples[2:]
            if time.perf_counter() - start > limit:
                break
    if faults > SHOWN:
        report.error('data', f'{key}: {faults} of {read} files fail', 'mend the file or the pipeline')
    elif not faults:
        report.ok('data', f'{key}: {read} of {total} files read, {(time.perf_counter() - start) / read:.3f} s a file')
    for loss in losses_in_words(reduced, read):
        report.warning('data', f'{key}: {loss}', REMEDY)
    seen = f'all {total} files' if read - faults == total else f'{read - faults} of {total} files'
    return Looked(pixels, objects, samples, seen)


def _name(dataset: object, index: int) -> str:
    """Path of an image, or its number."""
    try:
        path = dataset.get_data_info(index).get('img_path')
    except Exception:  # a data set without it
        path = None
    return str(path[0] if isinstance(path, list) and path else path or f'file {index}')


def _add(sample: Mapping, name: str, pixels: PixelLabels, objects: Objects, trained: bool) -> bool:
    """Counts a sample; returns whether it has objects or more than one label.

    Only a sample that is trained on must have its annotations at the size of the image that enters the network.
    """
    data, image = sample['data_samples'], sample['inputs']
    height, width = image.shape[-2:]
    if not trained and 'ori_shape' in data:
        height, width = max(height, data.ori_shape[0]), max(width, data.ori_shape[1])
    full = False
    if 'gt_sem_seg' in data:
        field = data.gt_sem_seg
        labels = np.asarray(field.get('data') if 'data' in field else field.get('sem_seg'))
        channels = {labels.shape[0], labels.shape[-1]} & {3, 4} if image.ndim == 3 and labels.ndim == 3 else set()
        if channels and labels.shape[0] != 1:  # mmseg leaves them last
            raise ValueError(
                f'the label map has {channels.pop()} channels: a coloured PNG, where one of class numbers is needed'
            )
        if trained and labels.shape[-2:] != (height, width) and 'data' in field:
            raise ValueError(f'the label map is {labels.shape[-2:]}, the image {height, width} (height, width)')
        pixels.add(labels)
        full = labels.min() != labels.max()
    if 'gt_instances' in data:
        instances = data.gt_instances
        labels, masks = np.asarray(instances.labels), instances.get('masks')
        objects.add(name, labels, None if masks is None else masks.to_ndarray())
        boxes = instances.get('bboxes')
        if boxes is not None:
            boxes = np.asarray(getattr(boxes, 'tensor', boxes), dtype=np.float64)
            if boxes.ndim == 2 and boxes.shape[1] == 4:  # rotated boxes have five
                objects.add_boxes(name, boxes, (width, height))
        full = len(labels) > 0
    return full


def _judge(
    report: Report, key: str, cfg: Config, loader: Mapping, dataset: object, found: Looked, meta: Mapping
) -> None:
    names = list(meta['classes'])
    if found.objects.images:
        for place, leaf in _parts(dataset, loader['dataset'], key):
            check_categories(report, place, leaf, names)
        check_objects(report, key, found.objects, list(meta.get('thing_classes') or names), found.seen)
    elif found.pixels.count:
        if 'max_objects' in cfg.model:  # videos: labels are numbers of objects, of which a clip may have few
            names = names[: max([1, *(label for label in found.pixels.pixels if label < len(names))]) + 1]
        reduced = any(node.get('reduce_zero_label') for _, node in walk(loader['dataset'], key))
        reduced = reduced or any(getattr(leaf, 'reduce_zero_label', False) for _, leaf in _parts(dataset, {}, key))
        check_labels(report, key, found.pixels, names, ignored_label(cfg), bool(reduced), found.seen)


def _parts(dataset: object, config: Mapping, key: str) -> Iterator[tuple[str, object]]:
    """Yields the data sets that are joined or wrapped, with their keys."""
    inner = getattr(dataset, 'datasets', None)
    if inner is None and hasattr(dataset, 'dataset'):
        inner = [dataset.dataset]
    places = [place for place, _ in leaves(config, key)]
    for index, one in enumerate(inner or []):
        yield from _parts(one, {}, places[index] if index < len(places) else key)
    if not inner:
        yield key, dataset


def ignored_label(cfg: Config) -> int:
    """The label of pixels that do not count: the decode head's ``ignore_index``, else 255."""
    head = (cfg.get('model') or {}).get('decode_head') or {}
    head = head[-1] if isinstance(head, list | tuple) else head
    return head.get('ignore_index', 255)
