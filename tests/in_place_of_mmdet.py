"""A pytest plugin that puts our classes where mmdet's of the same task are, so that mmdet's own tests test ours.

    PYTHONPATH=. python -m pytest -p tests.in_place_of_mmdet <mmdet>/tests/test_models/test_detectors/test_detr.py

Classes are replaced in mmdet's registries, so that its configs build ours, and in its modules.
"""

import sys
from collections import Counter
from pathlib import Path

import mmplugins  # noqa: F401  isort: skip  first, so that mmdet finds operators where none are compiled

import mmdet.models
import mmdet.testing
import mmdet.testing._utils
from mmdet.registry import MODELS, TASK_UTILS

from mmplugins.models import dense_heads
from mmplugins.models.task_modules import match_costs
from mmplugins.models.task_modules.assigners import BatchHungarianAssigner

COSTS = ('BBoxL1Cost', 'ClassificationCost', 'CrossEntropyLossCost', 'DiceCost', 'FocalLossCost', 'IoUCost')
HEADS = ('DETRHead',)
BUILT: Counter = Counter()


def pytest_configure(config):
    """Replaces the classes before any test module is imported."""
    put_in_place()


def pytest_terminal_summary(terminalreporter):
    """Says which of our classes were built, for a test to see that they were."""
    terminalreporter.write_line(f'built in place of mmdet: {sorted(BUILT)}')


def put_in_place() -> None:
    """Replaces mmdet's classes by ours, once."""
    replace(TASK_UTILS, 'HungarianAssigner', BatchHungarianAssigner)
    for name in COSTS:
        replace(TASK_UTILS, name, getattr(match_costs, name))
    for name in HEADS:
        replace(MODELS, name, getattr(dense_heads, name))
    mmdet.testing._utils._get_config_directory = config_directory
    mmdet.testing.get_detector_cfg = mmdet.testing._utils.get_detector_cfg = without_download(
        mmdet.testing._utils.get_detector_cfg
    )


def replace(registry, name: str, ours: type) -> None:
    """Replaces a class of mmdet in a registry and in all modules that hold it but the one that defines it.

    What derives from mmdet's class, ours or mmdet's, goes on doing so; its own code compares classes by that name.
    """
    theirs = registry.module_dict[name]
    registry.module_dict[name] = ours
    ours.__init__ = counting(ours.__init__, ours.__name__)
    for module in [module for key, module in sys.modules.items() if key.split('.')[0] == 'mmdet']:
        if module.__name__ == theirs.__module__:
            continue
        for key, value in list(vars(module).items()):
            if value is theirs:
                setattr(module, key, ours)


def counting(init, name: str):
    """Gives a constructor that also counts under a name."""

    def __init__(self, *args, **kwargs):
        BUILT[name] += 1
        init(self, *args, **kwargs)

    return __init__


def config_directory() -> str:
    """Folder of mmdet's configs as installed; its tests look for a checkout."""
    return str(Path(mmdet.__file__).parent / '.mim' / 'configs')


def without_download(get_detector_cfg):
    """Gives a function that leaves out the pretrained weights of a config's backbone."""

    def get(name: str):
        model = get_detector_cfg(name)
        model.backbone.init_cfg = None
        return model

    return get
