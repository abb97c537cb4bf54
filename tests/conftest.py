"""Tests work on small tensors: a second thread waits more than it computes. Child processes get the same."""

import os

os.environ.setdefault('OMP_NUM_THREADS', '1')

import mmplugins  # noqa: F401  first, so that mmcv.ops finds operators where none are compiled
