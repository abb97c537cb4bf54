"""Warnings of the toolboxes that say nothing to the user of our tools: hidden, each with its reason.

docs/reliability.md, 'Warnings of a run', lists these and those that are shown. Started with ``python -W default`` (or
any other ``-W`` or ``PYTHONWARNINGS``) the tools hide nothing.
"""

import logging
import re
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from itertools import product

from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import nn

# Beginnings of Python's warnings, regular expressions.
PYTHON = (
    # mmseg's resize, at any size that is not a multiple plus 1: it resizes right all the same
    'When align_corners=True, the output would more aligned',
    # mmseg's SegVisualizationHook: pictures are drawn with --show-dir only
    'The draw is False, it means that the hook for visualization',
    # mmdet: another package that evaluates boxes; our configs use CocoMetric
    'faster_coco_eval is not installed',
    # mmdet's points of a grid; it means the order that PyTorch takes by default
    'torch.meshgrid: in an upcoming release',
    # PyTorch 2.13: mmengine passes it on GPUs, and we do as mmengine on the CPU; its meaning is as before
    '`broadcast_buffers` is deprecated',
    # mmengine's visualizer without a folder: the demo writes the pictures itself
    "Failed to add <class 'mmengine.visualization.vis_backend.LocalVisBackend'>",
)
# Beginnings of lines of the log, regular expressions.
LOG = (
    # mmengine's own CheckpointHook calls what mmengine deprecates
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    # keys of mmseg's metrics, mIoU for one, are to have no prefix
    'The prefix is not set in metric class',
    # mmengine's inferencer looks for collate functions in the toolbox's registry, then in its own, where they are
    'Failed to search registry with scope "mm(seg|det)" in the "function" registry tree',
)
# mmdet's CLRNet, which is imported with all of mmdet; a config of it needs this line.
LINE_NMS = 'Line NMS is not compiled'
FROZEN = re.compile(r'(\S+) is skipped since its requires_grad=False$')


class KnownWarnings(logging.Filter):
    """Leaves the lines of ``LOG`` out of a log, and tells of frozen parameters once instead of a line for each.

    Args:
        model: The model, whose frozen parameters are counted when the first one is told of; None: those lines stay.
        line_nms: Whether the line that CLRNet cannot work is written.
    """

    def __init__(self, model: nn.Module | None = None, line_nms: bool = True) -> None:
        super().__init__()
        self.model = model
        self.hidden = LOG if line_nms else (*LOG, LINE_NMS)
        self._told = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Says whether a line is written; changes the first one about a frozen parameter in place."""
        if record.levelno != logging.WARNING:
            return True
        text = record.getMessage()
        if self.model is not None and FROZEN.match(text):
            if self._told:
                return False
            self._told = True
            frozen = [parameter.requires_grad for parameter in self.model.parameters()].count(False)
            record.msg, record.args = f'{frozen} parameters are frozen (requires_grad=False) and are not trained.', ()
            record.levelno, record.levelname = logging.INFO, 'INFO'
            return True
        return not any(re.match(beginning, text) for beginning in self.hidden)


def hide_known_warnings(cfg: Config, logger: logging.Logger | None = None, model: nn.Module | None = None) -> None:
    """Hides the warnings of this module from now on, unless Python was told which warnings to show.

    Args:
        cfg: The config of the run.
        logger: Whose lines are left out; None: mmengine's current one.
        model: As ``KnownWarnings``.
    """
    if sys.warnoptions:
        return
    for beginning, category in product(PYTHON, (UserWarning, FutureWarning)):
        warnings.filterwarnings('ignore', message=beginning, category=category)
    logger = logger or MMLogger.get_current_instance()
    for known in [known for known in logger.filters if isinstance(known, KnownWarnings)]:
        logger.removeFilter(known)
    logger.addFilter(KnownWarnings(model, line_nms=_needs_line_nms(cfg)))


def import_toolbox_before_the_runner(cfg: Config) -> None:
    """Imports mmdet's models, so that what they log comes before the runner's log, whose lines cannot be hidden yet.

    Both mmsegmentation and mmdetection import them anyway. Nothing is done for another default scope, for a config of
    CLRNet, or where it cannot be imported: what needs it will say so.
    """
    if sys.warnoptions or cfg.get('default_scope') not in ('mmseg', 'mmdet') or _needs_line_nms(cfg):
        return
    if find_spec('mmdet') is None:
        return
    with suppress(ImportError, AssertionError):  # a toolbox asserts the versions of those below it
        import_module('mmdet.models')


def _needs_line_nms(cfg: Config) -> bool:
    return 'CLRHead' in str(cfg.get('model'))
