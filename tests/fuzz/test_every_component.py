"""Every registered loss, cost, assigner, criterion, head, transform, data set, sampler and metric has a fuzz test."""

import re
from pathlib import Path

import pytest
from hypothesis import settings

from mmplugins.doctor import components
from tests.fuzz.conftest import PROFILE

FUZZED = set(
    re.findall(r"@fuzz\(\s*'(\w+)'", '\n'.join(path.read_text() for path in Path(__file__).parent.glob('test_*.py')))
)
KINDS = ('MODELS', 'TASK_UTILS', 'DATASETS', 'TRANSFORMS', 'DATA_SAMPLERS', 'METRICS')
OTHERS = {  # what has neither a loss of its own nor reads anything of a user's
    'AOT': 'a network; its losses are TopKCrossEntropyLoss and SoftJaccardLoss',
    'ClassMapSegmentor': 'hands the labels of its head on',
    'DilatedMobileNetV2': 'a backbone',
    'EfficientNetLite': 'a backbone',
    'SegTTAModel': 'merges the outputs of a network',
    'VOSDataPreprocessor': 'normalises the clips that PackClip made',
    'WarmupEMA': 'averages weights',
}
NAMES = [name for registry, name, reason in components() if registry in KINDS and reason is None]


def test_components_were_found():
    assert {'OhemCrossEntropyLoss', 'DiceCost', 'SetCriterion', 'LoadClip', 'VOSDataset', 'VOSMetric'} <= {*NAMES}
    assert len(FUZZED) > 40


@pytest.mark.parametrize('name', NAMES)
def test_component_is_fuzzed(name):
    assert (name in FUZZED) != (name in OTHERS), f'give {name} a test with @fuzz({name!r}, ...), as its neighbours have'


def test_nothing_is_excused_that_is_gone():
    assert {*OTHERS} <= {*NAMES} or len(NAMES) < 45
    assert all(OTHERS.values())


def test_the_profile_is_in_force():
    expected = {'normal': 100, 'full': 2000}[PROFILE]
    assert settings.get_profile(settings.get_current_profile_name()).max_examples == expected
