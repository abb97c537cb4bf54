"""Checkpoints of released codes: tables of names, and detectron2's pickles. They are written with mmengine."""

from mmplugins.hosts import require_host

require_host('mmengine', 'mmplugins.conversion')
