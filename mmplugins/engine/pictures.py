"""Pictures of a run: written, or an error.

mmengine's ``LocalVisBackend`` writes them with OpenCV's ``imwrite`` and does not look at what it returns; on a nearly
full disk ``imwrite`` says that all is well and leaves half a file. A run ended as if its pictures were there
(onedl-mmengine 0.10.12, OpenCV 4.12).
"""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend


def write_pictures_or_raise(runner: Runner) -> None:
    """Has the pictures of a run written by ``write_picture``; backends that write in a way of their own are left alone.

    Args:
        runner: Its visualizer's local backends are changed in place.
    """
    for backend in runner.visualizer._vis_backends.values():
        if type(backend).add_image is LocalVisBackend.add_image:
            backend.add_image = partial(write_picture, backend)


def write_picture(backend: LocalVisBackend, name: str, image: np.ndarray, step: int = 0, **_: object) -> None:
    """Writes a picture where ``LocalVisBackend.add_image`` does.

    Args:
        backend: The backend.
        name: Of the picture; the file is ``NAME_STEP.png``.
        image: RGB, uint8 (H, W, 3).
        step: Number of the iteration.

    Raises:
        OSError: It cannot be written; ``filename`` is its path.
    """
    backend.experiment  # noqa: B018 (makes the folders, and their names)
    path = Path(backend._img_save_dir, f'{name}_{step}.png')
    data = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
