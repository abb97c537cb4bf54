"""A small config of each family; docs/reliability.md tells what came of all configs."""

import pickle

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmplugins.hosts import problem_with

if problem_with('mmseg'):
    pytest.skip(str(problem_with('mmseg')), allow_module_level=True)

from tests import test_configs
from tests.reliability.paths_and_copies import PATHS, difference, problem_of_copies, problem_of_paths
from tests.reliability.ranks import batch_of, build_model
from tests.test_configs import load
from tests.test_mixed_precision import FAMILIES


@pytest.mark.slow
@pytest.mark.parametrize('name', FAMILIES)
def test_a_step_is_the_same_on_both_paths_and_of_copies(name, tmp_path):
    cfg = load(PATHS[name])
    samples = batch_of(cfg, tmp_path, rank=0)
    model = build_model(cfg)
    assert problem_of_copies(model, samples) == ''
    assert problem_of_paths(model, samples) == ''


@pytest.mark.parametrize('name', FAMILIES)
def test_a_pickled_pipeline_gives_the_same_samples(name, tmp_path, monkeypatch):
    """Workers that are spawned get the pipeline pickled."""
    cfg, compose = load(PATHS[name]), test_configs.Compose
    expected = batch_of(cfg, tmp_path / 'a', rank=0)
    monkeypatch.setattr(test_configs, 'Compose', lambda steps: pickle.loads(pickle.dumps(compose(steps))))
    for sample, again in zip(expected, batch_of(cfg, tmp_path / 'a', rank=0), strict=True):
        assert torch.equal(again['inputs'], sample['inputs'])
        assert flat(again['data_samples']) == flat(sample['data_samples'])


def flat(value: object) -> object:
    """A data sample as what == compares: arrays as bytes, and what wraps them as what is in it."""
    if isinstance(value, BaseDataElement):
        return {name: flat(one) for name, one in value.all_items()}
    value = getattr(value, 'tensor', getattr(value, 'masks', value))  # boxes, masks
    return (value.shape, np.asarray(value).tobytes()) if isinstance(value, Tensor | np.ndarray) else value


def test_what_differs_is_named():
    same = {'a': torch.tensor([1.0, 2.0]), 'b': torch.tensor(1e-9)}
    assert difference({**same, 'b': torch.tensor(2e-9)}, same, 1e-2) == ''  # next to 2, both are nothing
    assert difference({**same, 'a': torch.tensor([1.0, 2.1])}, same, 1e-2).startswith('a differs by 0.1')
    assert difference({**same, 'a': torch.tensor([1.0, float('nan')])}, same, 1.0).startswith('a differs by nan')
    assert difference({'a': same['a']}, same, 0) == "names differ: ['b']"
