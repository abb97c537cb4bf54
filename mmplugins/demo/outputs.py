"""Where predictions go: a video file of pictures, or a folder."""

from pathlib import Path

import cv2
import numpy as np

from mmplugins.engine.launch import UsageError
from mmplugins.visualization import paint_objects, write_index_image

CODECS = {'.mp4': 'mp4v', '.avi': 'MJPG', '.mkv': 'MJPG'}


def is_video(path: str) -> bool:
    """Whether a path to write names a video file."""
    return Path(path).suffix.lower() in CODECS


class VideoFile:
    """Writes pictures to a video file, whose size is that of the first one.

    Args:
        path: The file, of one of the suffixes in ``CODECS``.
        fps: Frames a second.
    """

    def __init__(self, path: str, fps: float) -> None:
        self.path, self.fps = Path(path), fps
        self._writer: cv2.VideoWriter | None = None

    def add(self, picture: np.ndarray) -> None:
        """Adds a picture, BGR, uint8, (H, W, 3).

        Raises:
            UsageError: OpenCV cannot write such a file.
        """
        height, width = picture.shape[:2]
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            codec = cv2.VideoWriter_fourcc(*CODECS[self.path.suffix.lower()])
            self._size = (width, height)
            self._writer = cv2.VideoWriter(str(self.path), codec, self.fps, self._size)
            if not self._writer.isOpened():
                raise UsageError(f'OpenCV cannot write {self.path}; give another suffix, or a folder')
        if (width, height) != self._size:  # OpenCV would leave it out
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(picture)

    def close(self) -> None:
        """Finishes the file."""
        if self._writer is not None:
            self._writer.release()


class VideoOutput(VideoFile):
    """Writes frames with their objects painted over to a video file."""

    def write(self, name: str, frame: np.ndarray, mask: np.ndarray) -> None:
        """Adds a frame."""
        self.add(paint_objects(frame, mask))


class FolderOutput:
    """Writes index images to ``masks`` and overlays to ``overlays`` in a folder."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def write(self, name: str, frame: np.ndarray, mask: np.ndarray) -> None:
        """Writes both pictures of a frame."""
        write_index_image(self.path / 'masks' / f'{name}.png', mask)
        (self.path / 'overlays').mkdir(exist_ok=True)
        (self.path / 'overlays' / f'{name}.jpg').write_bytes(cv2.imencode('.jpg', paint_objects(frame, mask))[1])

    def close(self) -> None:
        """Does nothing."""
