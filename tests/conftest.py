"""Tests work on small tensors: a second thread waits more than it computes. Child processes get the same."""

import os
from contextlib import nullcontext

import pytest

os.environ.setdefault('OMP_NUM_THREADS', '1')

import mmplugins  # noqa: F401  first, so that mmcv.ops finds operators where none are compiled


@pytest.fixture(params=['cpu', 'plain'])
def each_path(request):
    """Runs a test with the CPU's own kernels, and on the plain path, which is what a GPU executes."""
    from mmplugins.functional.device import plain_path

    with plain_path() if request.param == 'plain' else nullcontext():
        yield request.param


@pytest.fixture(autouse=True)
def default_scope():
    """Keeps the default scope that a test or its Runner sets from the tests after it."""
    from mmengine.registry import DefaultScope

    before = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)
