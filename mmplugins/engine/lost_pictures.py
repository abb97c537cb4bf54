"""Pictures of a run that could not be written.

OpenCV's ``imwrite`` says so by what it returns, and mmengine's ``LocalVisBackend`` does not look: on a full disk, or in
a folder that OpenCV cannot open, a run ends as if its pictures were there (onedl-mmengine 0.10.12, OpenCV 4.12).
"""

import logging
import shutil
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend

from mmplugins.engine.whole_files import MEGABYTE


def tell_lost_pictures(runner: Runner) -> None:
    """Has a line in the log name the first picture that could not be written, whoever draws it."""
    for backend in runner.visualizer._vis_backends.values():
        if isinstance(backend, LocalVisBackend):
            backend.add_image = _telling(backend)


def _telling(backend: LocalVisBackend) -> Callable:
    write, told = backend.add_image, False

    @wraps(write)
    def add_image(name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        nonlocal told
        write(name, image, step, **kwargs)
        path = Path(backend._img_save_dir, f'{name}_{step}.png')
        if not told and not path.is_file():
            told = True
            folder = path.parent if path.parent.is_dir() else Path(backend._img_save_dir)
            free = shutil.disk_usage(folder).free / MEGABYTE
            print_log(
                f'the picture {path} cannot be written, nor may others be; its disk has {free:.1f} MB left. Make room, '
                'or choose another folder with --work-dir or --show-dir',
                'current',
                logging.WARNING,
            )

    return add_image
