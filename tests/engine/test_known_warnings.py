"""Warnings of the toolboxes that are hidden, and those that are not; runs without any are in tests/tools/."""

import logging
import sys
import warnings

import pytest
import torch
from mmengine.config import Config

from mmplugins.engine import known_warnings
from mmplugins.engine.known_warnings import KnownWarnings, hide_known_warnings, import_toolbox_before_the_runner

PLAIN = Config(dict(default_scope='mmseg', model=dict(type='EncoderDecoder')))
LANES = Config(dict(default_scope='mmdet', model=dict(bbox_head=dict(type='CLRHead'))))
HIDDEN = [
    'Line NMS is not compiled. Most likely when installing the package cuda was not available.',
    '"FileClient" will be deprecated in future. Please use io functions',
    '"HardDiskBackend" is the alias of "LocalBackend" and the former will be deprecated in future.',
    'The prefix is not set in metric class IoUMetric.',
    'Failed to search registry with scope "mmseg" in the "function" registry tree. As a workaround, the current',
]
SHOWN = [
    'The model and loaded state dict do not match exactly',
    'Failed to search registry with scope "mmseg" in the "model" registry tree. As a workaround, the current',
    'backbone is duplicate. It is skipped since bypass_duplicate=True',
]


@pytest.fixture(autouse=True)
def python_shows_its_defaults(monkeypatch):
    monkeypatch.setattr(sys, 'warnoptions', [])
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter('always')
        yield shown


@pytest.fixture
def log():
    """A logger, and the lines that it writes."""
    lines = []
    handler = logging.Handler()
    handler.emit = lines.append
    logger = logging.Logger('mmengine')
    logger.addHandler(handler)
    return logger, lines


def model():
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    layers[0].requires_grad_(False)
    return layers


def test_lines_of_the_log(log):
    logger, lines = log
    hide_known_warnings(PLAIN, logger)
    for text in HIDDEN + SHOWN:
        logger.warning(text)
    logger.info(HIDDEN[0])
    logger.error(HIDDEN[0])
    assert [line.getMessage() for line in lines] == [*SHOWN, HIDDEN[0], HIDDEN[0]]


def test_frozen_parameters_are_told_once(log):
    logger, lines = log
    hide_known_warnings(PLAIN, logger, model())
    for name in ('0.weight', '0.bias'):
        logger.warning(f'{name} is skipped since its requires_grad=False')
    assert [line.getMessage() for line in lines] == [
        '2 parameters are frozen (requires_grad=False) and are not trained.'
    ]
    assert lines[0].levelname == 'INFO'


def test_frozen_parameters_of_an_unknown_model_are_named(log):
    logger, lines = log
    hide_known_warnings(PLAIN, logger)
    logger.warning('0.weight is skipped since its requires_grad=False')
    assert [line.levelname for line in lines] == ['WARNING']


def test_a_second_call_takes_the_place_of_the_first(log):
    logger, _ = log
    hide_known_warnings(PLAIN, logger)
    hide_known_warnings(PLAIN, logger, model())
    assert [type(known) for known in logger.filters] == [KnownWarnings]
    assert logger.filters[0].model is not None


def test_python_warnings(python_shows_its_defaults, log):
    hide_known_warnings(PLAIN, log[0])
    warnings.warn('When align_corners=True, the output would more aligned if input size (3, 3) is `x+1`', stacklevel=1)
    warnings.warn('When align_corners=True, another one', stacklevel=1)
    warnings.warn('faster_coco_eval is not installed', DeprecationWarning, stacklevel=1)
    warnings.warn('`broadcast_buffers` is deprecated. Use `forward_sync_buffers`', FutureWarning, stacklevel=1)
    assert [str(one.message) for one in python_shows_its_defaults] == [
        'When align_corners=True, another one',
        'faster_coco_eval is not installed',
    ]


def test_nothing_is_hidden_where_python_is_told_what_to_show(python_shows_its_defaults, log, monkeypatch):
    monkeypatch.setattr(sys, 'warnoptions', ['default'])
    logger, lines = log
    hide_known_warnings(PLAIN, logger)
    logger.warning(HIDDEN[0])
    warnings.warn('The draw is False, it means that the hook for visualization will not', stacklevel=1)
    assert len(lines) == len(python_shows_its_defaults) == 1


def test_a_config_of_lanes_is_told_that_it_cannot_work(log):
    logger, lines = log
    hide_known_warnings(LANES, logger)
    logger.warning(HIDDEN[0])
    assert len(lines) == 1


@pytest.mark.parametrize('cfg', [Config(dict(default_scope='mmengine')), LANES], ids=['another toolbox', 'lanes'])
def test_mmdet_is_not_imported_for(cfg, monkeypatch):
    monkeypatch.setattr(known_warnings, 'import_module', pytest.fail)
    import_toolbox_before_the_runner(cfg)


def test_a_toolbox_that_cannot_be_imported_is_left_to_what_needs_it(monkeypatch):
    asked = []

    def refuse(name):
        asked.append(name)
        raise AssertionError(f'{name}: MMCV==9.9 is used but incompatible')

    monkeypatch.setattr(known_warnings, 'find_spec', lambda name: object())
    monkeypatch.setattr(known_warnings, 'import_module', refuse)
    import_toolbox_before_the_runner(PLAIN)
    assert asked == ['mmdet.models']
