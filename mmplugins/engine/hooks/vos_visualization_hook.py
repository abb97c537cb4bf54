"""Draws predicted objects over the frames of test videos; ``tools/test.py --show-dir`` switches it on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine import fileio
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmplugins.registry import HOOKS
from mmplugins.visualization import paint_objects


@HOOKS.register_module()
class VOSVisualizationHook(Hook):
    """Writes ``<test_out_dir>/<video_name>/<frame_name>.jpg``: each frame of a test with its predicted objects.

    It reads data samples of single frames, with ``pred_sem_seg``, (1, H, W), and ``img_path``, ``video_name`` and
    ``frame_name`` in the metainfo. Nothing is drawn in validations.

    Args:
        draw: Whether anything is done.
        test_out_dir: The folder.
        backend_args: Arguments of mmengine's file backend, for the frames.

    Raises:
        ValueError: There is something to draw, but no folder.
    """

    def __init__(self, draw: bool = False, test_out_dir: str | None = None, backend_args: dict | None = None) -> None:
        if draw and test_out_dir is None:
            raise ValueError('draw=True needs a folder for the pictures; set test_out_dir')
        self.draw = draw
        self.test_out_dir = test_out_dir
        self.backend_args = backend_args

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence | None = None
    ) -> None:
        """Draws the frames of one iteration."""
        for sample in outputs if self.draw else ():
            encoded = np.frombuffer(fileio.get(sample.img_path, backend_args=self.backend_args), np.uint8)
            frame = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)  # as LoadClip loads it
            mask = sample.pred_sem_seg.data[0].cpu().numpy()
            painted = paint_objects(frame, mask)
            path = Path(self.test_out_dir, sample.video_name, f'{sample.frame_name}.jpg')
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode('.jpg', painted)[1].tobytes())
