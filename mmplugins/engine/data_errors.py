"""Names the file of a sample that cannot be loaded, and tells before a training what is wrong with lists of files.

It stands where a runner builds its data loaders, so that it holds for the data sets of any toolbox: those of mmplugins
check their files themselves, others read them when they are needed, often in a worker and hours after the start.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from functools import wraps
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.logging import print_log
from mmengine.runner import Runner
from PIL import Image

from mmplugins.engine.loaded_images import REMEDY as SAVE_AS_COLOURS
from mmplugins.engine.loaded_images import loads_eight_bits, tell_losses

CHECKED_ENTRIES = 2000  # of a data set whose files are looked for; the others are named when they are read
LARGE_FILE = 64 * 2**20  # bytes of an annotation file from which on it is not read a second time
SLACK = 1.0  # pixels that a box may reach beyond its image
NAMES_A_FILE = re.compile(r'\S\.(png|jpe?g|bmp|tiff?|webp|json|txt|npy)\b', re.IGNORECASE)
REMEDY = (
    'Mend or remove the file (python -m mmplugins.doctor CONFIG --data reads files before a run); --resume goes on '
    'from the last checkpoint'
)

NO_ENTRIES = (
    'it has no entries; look at data_root, data_prefix, ann_file and suffixes, and at filter_cfg, which leaves out '
    'images without objects of the classes'
)


class FileFault(ValueError):
    """Files or annotations are at fault; the text names the file and the remedy."""

    @property
    def short(self) -> str:
        """The text alone: PyTorch raises the error of a worker anew, with the worker's traceback before the text."""
        return str(self).rpartition(f'{type(self).__name__}: ')[2].strip()


class DataSetError(FileFault):
    """A data set cannot be used; the text names its key in the config, too."""


class SampleError(FileFault):
    """A sample cannot be loaded."""


class NamingPipeline(Compose):
    """A data set's pipeline whose errors are SampleErrors, and which looks at annotations as they are loaded.

    Args:
        pipeline: The pipeline; its transforms are taken as they are.
        labels: Labels of pixels that may occur, beside 255; None: any.
        trained: Whether a label map must have its image's size.
    """

    def __init__(self, pipeline: Compose, labels: frozenset[int] | None, trained: bool) -> None:
        super().__init__(None)
        self.transforms = pipeline.transforms
        self.labels, self.trained = labels, trained

    def __call__(self, data: dict) -> dict | None:
        """Applies the transforms in turn; None where one of them drops the sample."""
        paths = _paths(data)
        for transform in self.transforms:
            try:
                data = transform(data)
                if isinstance(data, Mapping):
                    self._look(transform, data)
            except SampleError:
                raise
            except Exception as error:  # of any transform, for any reason: the file must be named
                raise SampleError(_text(error, type(transform).__name__, paths)) from error
            if data is None:
                return None
        return data

    def _look(self, transform: object, data: Mapping) -> None:
        shape, listed = data.get('ori_shape'), (data.get('height'), data.get('width'))
        if 'img' in data and shape is not None and None not in listed and tuple(shape[:2]) != listed:
            turned = ', or its orientation tag turns it' * (tuple(shape[1::-1]) == listed)
            raise ValueError(
                f'the image is {tuple(shape[:2])}, the annotation file says {listed} (height, width), so that its '
                f'boxes and masks belong to another image, or to another size of this one{turned}'
            )
        label = data.get('gt_seg_map')
        # mmcv's or one of its kind, by name: what imports this needs no toolbox
        loaded = any(kind.__name__ == 'LoadAnnotations' for kind in type(transform).__mro__)
        if not loaded or not isinstance(label, np.ndarray):
            return
        if label.ndim != 2:
            raise ValueError(f'the label map has {label.shape[-1]} channels: colours, where class numbers are needed')
        if self.trained and shape is not None and label.shape != tuple(shape[:2]):
            raise ValueError(f'the label map is {label.shape}, its image {tuple(shape[:2])} (height, width)')
        _check_depth(data.get('seg_map_path'))
        if self.labels is not None:
            wrong = sorted(set(np.flatnonzero(np.bincount(label.ravel())).tolist()) - self.labels - {255})
            if wrong:
                raise ValueError(f'the label map has the labels {wrong[:10]}, but there are {len(self.labels)} classes')


def _check_depth(path: str | None) -> None:
    """Raises ValueError for a label map of 16 bits with values above 255, which loaders cut off at 8 bits."""
    if not path or not Path(path).is_file():
        return
    try:
        with Image.open(path) as image:
            largest = np.asarray(image).max(initial=0) if image.mode.startswith('I') else 0
    except Image.DecompressionBombError:  # more pixels than Pillow opens; OpenCV may
        return
    if largest > 255:
        raise ValueError(
            f'the label map has 16 bits and values up to {largest}, of which the loader keeps the lower 8; save it as '
            'an 8-bit image'
        )


def _paths(data: Mapping) -> list[str]:
    """The files of a sample; of a clip the first of each kind."""
    return [path for key in ('img_path', 'seg_map_path') for path in _all(data.get(key))[:1]]


def _all(path: object) -> list[str]:
    """A path, or those of a clip, which may have none for some frames."""
    return [str(one) for one in (path if isinstance(path, list | tuple) else [path]) if one]


def _text(error: Exception, step: str, paths: list[str]) -> str:
    empty = [path for path in paths if Path(path).is_file() and not Path(path).stat().st_size]
    if empty:
        return f'{step}: {" and ".join(empty)} has 0 bytes. {REMEDY}'
    cause = ' '.join(str(error).split()) or 'no reason given'
    kind = '' if type(error) in (ValueError, AssertionError) else f'{type(error).__name__}: '
    named = bool(NAMES_A_FILE.search(cause)) or not paths
    where = '' if named else f'{" with ".join(paths)}: '
    return f'{where}{step}: {kind}{cause.rstrip(".")}. {REMEDY}'


def name_files(runner: Runner, cfg: Config) -> None:
    """Has a runner build data loaders whose errors name files, and check their data sets at once.

    1. A data set that cannot be built, has no entries, or lists files that are not there is a DataSetError.
    2. So is one in COCO's format whose file lacks classes of the config. Boxes outside their image are told in the log.
    3. Images that lose transparency or depth when they are loaded are told in the log: how many, and one of them.
    4. The pipelines of the innermost data sets become ``NamingPipeline``.

    Args:
        runner: Changed in place, before it builds a loader.
        cfg: Its config.
    """
    build = runner.build_dataloader

    @wraps(build)
    def build_and_check(dataloader: object, *args: object, **kwargs: object) -> object:
        config = dataloader if isinstance(dataloader, Mapping) else {}
        key = next((key for key, value in cfg.items() if key.endswith('_dataloader') and value == dataloader), 'loader')
        described = ', '.join(f'{name} {value}' for name, value in _files_of(config.get('dataset') or {}))
        try:
            loader = build(dataloader, *args, **kwargs)
        except (OSError, ValueError, TypeError, IndexError, KeyError, AssertionError, ZeroDivisionError) as error:
            if not described or not _of_files(error):
                raise
            raise DataSetError(f'{key}.dataset ({described}): {_cause(error)}') from error
        dataset = getattr(loader, 'dataset', None)
        for leaf in inner_datasets(dataset):
            _check(leaf, f'{key}.dataset', described)
            pipeline = getattr(leaf, 'pipeline', None)
            if type(pipeline) is Compose:
                leaf.pipeline = NamingPipeline(pipeline, _labels(leaf, cfg), not getattr(leaf, 'test_mode', False))
        return loader

    runner.build_dataloader = build_and_check


def _files_of(node: object) -> Iterator[tuple[str, str]]:
    """Yields where a data set's config looks for files."""
    if isinstance(node, list | tuple):
        for one in node:
            yield from _files_of(one)
    elif isinstance(node, Mapping):
        yield from ((name, node[name]) for name in ('data_root', 'ann_file', 'data_prefix') if node.get(name))
        for name in ('dataset', 'datasets'):
            yield from _files_of(node.get(name))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and those that it came of: mmengine's registry raises another one on top."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_files(error: Exception) -> bool:
    """Whether an error may come from files; the others are misspelt types and arguments."""
    wrapped = any(isinstance(one, json.JSONDecodeError) for one in _chain(error))
    return wrapped or not (isinstance(error, TypeError) or 'registry' in str(error))


def _cause(error: Exception) -> str:
    for one in _chain(error):
        if isinstance(one, json.JSONDecodeError):
            return f'the annotation file is no JSON ({one}): empty or cut off? Copy it again'
    if 'need at least one array' in str(error):  # mmengine's words for a data set without entries
        return NO_ENTRIES
    if isinstance(error, KeyError):
        return f'the annotation file lacks {error}, a key or the id of a category or an image that its entries refer to'
    return f'{type(error).__name__}: {error}'


def inner_datasets(dataset: object) -> Iterator[object]:
    """Yields the data sets that one joins, repeats or mixes; itself if none."""
    inner = getattr(dataset, 'datasets', None)
    if inner is None and hasattr(dataset, 'dataset'):
        inner = [dataset.dataset]
    if inner is None:
        yield dataset
    for one in inner or []:
        yield from inner_datasets(one)


def _labels(dataset: object, cfg: Config) -> frozenset[int] | None:
    """Labels of pixels that may occur; None for data sets without label maps of classes."""
    head = (cfg.get('model') or {}).get('decode_head')
    head = head[-1] if isinstance(head, list | tuple) and head else head
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if not isinstance(head, Mapping) or not classes:
        return None
    count = max(len(classes), head.get('num_classes') or 0)
    return frozenset([*range(count), *([head['ignore_index']] if 'ignore_index' in head else [])])


def _check(dataset: object, key: str, described: str) -> None:
    if not hasattr(dataset, 'get_data_info'):
        return
    if len(dataset) == 0:
        raise DataSetError(f'{key} ({described}): {NO_ENTRIES}')
    chosen = np.linspace(0, len(dataset) - 1, min(len(dataset), CHECKED_ENTRIES)).round().astype(int)
    infos = [dataset.get_data_info(index) for index in chosen.tolist()]
    for name in ('img_path', 'seg_map_path'):
        paths = [info.get(name) for info in infos]
        paths = [path for path in paths if isinstance(path, str) and '://' not in path]
        missing = [] if getattr(dataset, 'backend_args', None) else [p for p in paths if not Path(p).exists()]
        if missing:
            raise DataSetError(
                f'{key} ({described}): {len(missing)} of {len(paths)} files of {name} are not there, such as '
                f'{missing[0]}; check data_root, data_prefix and the suffixes, or take them out of the list'
            )
    if loads_eight_bits(getattr(getattr(dataset, 'pipeline', None), 'transforms', ())):
        files = [path for info in infos for path in _all(info.get('img_path'))]  # of a video all its frames
        for loss in tell_losses(files):
            print_log(f'data: {key}: {loss}; {SAVE_AS_COLOURS}', logger='current', level=logging.WARNING)
    _check_coco(dataset, key)


def _check_coco(dataset: object, key: str) -> None:
    path, names = getattr(dataset, 'ann_file', None), (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if not hasattr(dataset, 'cat_ids') or not isinstance(path, str) or not names or not Path(path).is_file():
        return
    if Path(path).stat().st_size > LARGE_FILE and len(dataset.cat_ids) == len(names):
        return
    content = json.loads(Path(path).read_text())
    known = [one['name'] for one in content.get('categories', [])]
    missing = [name for name in names if name not in known]
    if missing:
        raise DataSetError(
            f'{key}: {path} has no category {", ".join(map(repr, missing[:5]))}; it has '
            f'{", ".join(map(repr, known[:12]))}. Spell metainfo.classes as the file does, leave out what it lacks: '
            'the labels after it would belong to other classes'
        )
    images = {image['id']: image for image in content.get('images', [])}
    beyond, total = [], 0
    for annotation in content.get('annotations', []):
        image = images.get(annotation.get('image_id'))
        for part in annotation.get('segments_info', [annotation]):
            if image is None or len(part.get('bbox') or ()) != 4:
                continue
            total += 1
            x, y, width, height = part['bbox']
            over = max(-x, -y, x + width - image['width'], y + height - image['height'])
            if over > SLACK:
                beyond.append((over, image['file_name'], part['bbox'], (image['width'], image['height'])))
    if beyond:
        _, name, box, size = max(beyond)
        print_log(
            f'data: {key}: {len(beyond)} of {total} boxes of {path} reach beyond their image by more than {SLACK:.0f} '
            f'pixel, most of all {box} (x, y, width, height) in {name}, which is {size} (width, height); mmdetection '
            'leaves out those that lie outside as a whole, and trains the others as they are. Are they of another '
            'resolution, or corners in place of sizes? Else cut them at the border',
            logger='current',
            level=logging.WARNING,
        )
