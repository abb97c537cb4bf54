"""The validation split as a training sees its data, without chance: what a validation loss is computed on.

A validation pipeline does not do: as a rule it loads the annotations behind ``Resize``, so that metrics see the truth
at its own size, and packs no more than metrics need.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

from mmengine.registry import TRANSFORMS

# Random transforms that say so neither by their name nor by mmcv's cache_randomness, and those that mix in another
# image.
RANDOM = (
    *('PhotoMetricDistortion', 'Albu', 'CutOut', 'InstaBoost', 'Mosaic', 'MixUp', 'CachedMosaic', 'CachedMixUp'),
    *('CopyPaste', 'MergeClips', 'BioMedicalGaussianNoise', 'BioMedicalGaussianBlur'),
)
# These draw too, but give the model what it takes: a clip, of a size. They are seeded instead.
NEEDED = ('SampleClip', 'RandomCropClip', 'SyntheticClip')


class DataError(ValueError):
    """A loader cannot be derived from a config; the text says what to give instead."""


def validation_loader(cfg: Mapping, pipeline: Sequence[Mapping] | None = None) -> dict:
    """Derives a loader of the validation split for losses.

    1. ``val_dataloader`` of the config, with a sampler that goes through the data in order.
    2. Its data set with ``test_mode=False`` and no ``filter_cfg``: every file, with annotations as for training.
    3. Its pipeline: ``deterministic_pipeline`` of the training's (see ``training_pipeline``) and the validation's.

    Args:
        cfg: A config with ``train_dataloader`` and ``val_dataloader``.
        pipeline: Instead of step 3.

    Returns:
        The config of the loader.

    Raises:
        DataError: The config has not both loaders as dicts, or training data sets with different pipelines.
    """
    missing = [key for key in ('train_dataloader', 'val_dataloader') if not isinstance(cfg.get(key), Mapping)]
    if missing:
        raise DataError(
            f'the config has no {" and no ".join(missing)} as a dict, which the loader of the validation loss is '
            'derived from; give the hook dataloader=dict(batch_size=..., dataset=..., sampler=...)'
        )
    loader = deepcopy(_plain(cfg['val_dataloader']))  # step 1
    for key in ('batch_sampler', 'shuffle'):
        loader.pop(key, None)
    loader['sampler'] = {'type': 'DefaultSampler', 'shuffle': False}
    if pipeline is None:
        first = next(_datasets(deepcopy(loader['dataset'])))
        training = training_pipeline(cfg['train_dataloader']['dataset'], first.get('data_root'))
        pipeline = deterministic_pipeline(training, first.get('pipeline') or [])
    found = list(_datasets(loader['dataset']))
    for dataset in found:  # step 2
        if 'test_mode' in dataset:
            dataset['test_mode'] = False
        if 'filter_cfg' in dataset:
            dataset['filter_cfg'] = None
        dataset['pipeline'] = deepcopy([_plain(transform) for transform in pipeline])
    return loader


def training_pipeline(dataset: Mapping, root: str | None = None) -> list[dict]:
    """Joins the pipelines of a training data set, those of a wrapped one first.

    Args:
        dataset: Its config.
        root: ``data_root`` of the validation data; of several data sets with different pipelines, the one that lies
            there is taken.

    Raises:
        DataError: There is none, or the data sets that are joined have different ones, and not one lies there.
    """
    if 'datasets' in dataset:
        inner = [training_pipeline(one, root) for one in dataset['datasets']]
        if any(one != inner[0] for one in inner):
            roots = [next(_datasets(deepcopy(one))).get('data_root') for one in dataset['datasets']]
            there = [root is not None and one == root for one in roots]
            inner = [one for one, is_there in zip(inner, there, strict=True) if is_there]
        if len(inner) == 0 or any(one != inner[0] for one in inner):
            raise DataError(
                'the training data sets have different pipelines, and the validation loss needs one: give the hook '
                'pipeline=[...] or dataloader=dict(...)'
            )
        inner = inner[0]
    else:
        inner = training_pipeline(dataset['dataset'], root) if isinstance(dataset.get('dataset'), Mapping) else []
    found = [*inner, *(_plain(transform) for transform in dataset.get('pipeline') or ())]
    if not found:
        raise DataError(
            f'the training data set {dataset.get("type")} has no pipeline in its config, which that of the validation '
            'loss is derived from; give the hook pipeline=[...] or dataloader=dict(...)'
        )
    return found


def deterministic_pipeline(training: Sequence[Mapping], validation: Sequence[Mapping]) -> list[dict]:
    """Takes chance out of a training pipeline.

    1. Random transforms are left out: those that mmcv knows to draw, whose name says so, and those of ``RANDOM``.
    2. Where the first random resizing was, images are resized as in the validation, and the annotations with them.
    3. Transforms that would drop an image without objects keep it.
    4. What is drawn all the same (``NEEDED``, transforms that are unknown here) is drawn alike at each validation,
       as the hook seeds.

    Args:
        training: Configs of the transforms.
        validation: Likewise; for its resizing.

    Returns:
        The configs that stay.
    """
    resizing = [
        deepcopy(_plain(one)) for one in validation if 'Resize' in type_of(one) and not type_of(one).endswith('Clip')
    ]
    kept = []
    for transform in training:
        transform = deepcopy(_plain(transform))
        if is_random(transform):  # step 1
            if _resizes(transform):
                kept += resizing  # step 2
                resizing = []
            continue
        if isinstance(transform.get('transforms'), list) and 'mapping' in transform:  # TransformBroadcaster, KeyMapper
            transform['transforms'] = [one for one in transform['transforms'] if not is_random(one)]
            if not transform['transforms']:
                continue
        if type_of(transform) == 'FilterAnnotations':  # step 3
            transform['keep_empty'] = False
        kept.append(transform)
    return kept


def is_random(transform: Mapping) -> bool:
    """Whether a transform, by its config, draws numbers and can be left out."""
    name = type_of(transform)
    if name in NEEDED:
        return False
    if 'Random' in name or name in RANDOM:
        return True
    cls = transform['type']
    if isinstance(cls, str):
        with TRANSFORMS.switch_scope_and_registry(None) as registry:  # of the run's toolbox
            cls = registry.get(cls)
    return bool(getattr(cls, '_methods_with_randomness', None))


def type_of(transform: Mapping) -> str:
    """Name of a transform's type, without its scope."""
    kind = transform['type']
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__


def _resizes(node: object) -> bool:
    """Whether a transform, or one inside it, resizes."""
    if isinstance(node, Mapping):
        named = 'type' in node and any(part in type_of(node) for part in ('Resize', 'Affine'))
        return named or any(_resizes(value) for value in node.values())
    return isinstance(node, list | tuple) and any(_resizes(value) for value in node)


def _datasets(node: Mapping) -> Iterator[dict]:
    """Yields the innermost data sets; wrappers lose pipelines of their own, which mix images."""
    inner = [*(node.get('datasets') or ()), *([node['dataset']] if isinstance(node.get('dataset'), Mapping) else ())]
    if not inner:
        yield node
    else:
        if 'pipeline' in node:
            node['pipeline'] = []
        for child in inner:
            yield from _datasets(child)


def _plain(node: object) -> object:
    """Copies the dicts and lists of a config as plain ones, which may hold keys that a ConfigDict would look up."""
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items()}
    return type(node)(_plain(value) for value in node) if type(node) in (list, tuple) else node
