"""Dtypes that not every supported version of PyTorch computes in on the CPU."""

import pytest
import torch

from mmplugins.functional.compat import VERSION

FLOAT16 = pytest.param(
    torch.float16,
    marks=pytest.mark.skipif(VERSION < (2, 3), reason='PyTorch 2.1 has no float16 matrix product on the CPU'),
)
