"""Whether transforms of clips number no more objects than the model of videos has identities."""

import inspect
from collections.abc import Mapping

from mmengine.config import Config

from mmplugins.engine.launch import type_name

from .names import find
from .report import Report, leaves

KEY = 'max_objects'


def check_clips(report: Report, cfg: Config) -> None:
    """Compares ``max_objects`` of the training's transforms with the model's.

    A transform that numbers more fails only in the step that draws such a clip.

    Args:
        report: Takes the findings, check ``clips``.
        cfg: The config; its types are known.
    """
    model, loader = cfg.get('model') or {}, cfg.get('train_dataloader') or {}
    identities = _most_objects(model)
    if identities is None or not isinstance(loader.get('dataset'), Mapping):
        return
    for key, dataset in leaves(loader['dataset'], 'train_dataloader.dataset'):
        for index, transform in enumerate(dataset.get('pipeline') or []):
            numbered = _most_objects(transform)
            if numbered is not None and numbered > identities:
                report.error(
                    'clips',
                    f'{key}.pipeline.{index}: {type_name(transform)} numbers up to {numbered} objects, model.{KEY} is '
                    f'{identities}',
                    f'give both the same {KEY}',
                )


def _most_objects(node: Mapping) -> int | None:
    """``max_objects`` of a config, or the default of its class; None: neither says a number."""
    cls = find(node['type'])[0] if 'type' in node and KEY not in node else None
    default = inspect.signature(cls).parameters.get(KEY) if cls else None
    number = node.get(KEY, default.default if default else None)
    return number if isinstance(number, int) else None
