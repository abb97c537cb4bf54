"""Tests work on small tensors: a second thread waits more than it computes. Child processes get the same."""

import os

os.environ.setdefault('OMP_NUM_THREADS', '1')
