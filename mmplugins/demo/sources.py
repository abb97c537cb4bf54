"""What is predicted: an image, the images of a folder, or the frames of a video file or a folder."""

import logging
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from mmengine.logging import print_log

from mmplugins.datasets.transforms.image_files import decode_frame, natural_key, open_image, orientation_of
from mmplugins.engine.launch import UsageError

FRAMES = ('.jpg', '.jpeg', '.png', '.bmp')
IMAGES = (*FRAMES, '.tif', '.tiff', '.webp', '.ppm', '.pgm')


class Frames:
    """Frames of a video file or a folder, BGR, read one at a time.

    Args:
        source: The file or folder.

    Attributes:
        fps: Frames a second; None if the source does not say.
        count: Number of frames; of a file it is what the container says, and may be 0.
        names: Of the frames of a folder, without suffix; None for a file.

    Raises:
        UsageError: There is nothing, or nothing to be read.
    """

    def __init__(self, source: str) -> None:
        self.path = Path(source)
        self.fps, self.names = None, None
        if self.path.is_dir():
            self._files = image_files(self.path, FRAMES, 'frames')
            twice = [path for before, path in pairwise(self._files) if before.stem == path.stem]
            if twice:
                raise UsageError(
                    f'folder {source} has two frames named {twice[0].stem}, of other suffixes; remove one of each such '
                    f'pair ({len(twice)} in all)'
                )
            self.names, self.count = [path.stem for path in self._files], len(self._files)
            return
        if not self.path.is_file():
            raise UsageError(f'there is no video or folder {source} (in {Path.cwd()})')
        video = cv2.VideoCapture(source)
        if not video.isOpened():
            raise UsageError(f'{source} is no video that OpenCV can read; give another file, or a folder of its frames')
        self.fps, self.count = video.get(cv2.CAP_PROP_FPS) or None, max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
        video.release()

    def name(self, index: int) -> str:
        """Name of a frame, without suffix."""
        return f'{index:05d}' if self.names is None else self.names[index]

    def tell_orientation(self) -> None:
        """Logs that an orientation tag of the first frame is not applied, if it has one."""
        if self.names is None:
            return
        with open_image(str(self._files[0])) as image:
            tag = orientation_of(image)
        if tag != 1:
            print_log(
                f'{self._files[0]} has the EXIF orientation tag {tag}, which is not applied: the mask must be drawn on '
                'the pixels as stored, and the results are those pixels. Else store the frames turned, without the tag',
                'current',
                logging.WARNING,
            )

    def __iter__(self) -> Iterator[np.ndarray]:
        """Iterates over the frames, uint8, (H, W, 3)."""
        if self.names is not None:
            for path in self._files:
                frame = decode_frame(path.read_bytes())
                if frame is None:
                    raise UsageError(f'{path} is no image that OpenCV can read; replace it')
                yield frame
            return
        video = cv2.VideoCapture(str(self.path))
        try:
            while (read := video.read())[0]:
                yield read[1]
        finally:
            video.release()


class Inputs:
    """Images one by one: a file, those of a folder, or the frames of a video file.

    Args:
        source: The file or folder.

    Attributes:
        count: Number of images; of a video it is what the container says, and may be 0.
        fps: Frames a second of a video; None otherwise.

    Raises:
        UsageError: There is nothing, or nothing to be read.
    """

    def __init__(self, source: str) -> None:
        path = Path(source)
        self.fps, self._video = None, None
        if path.is_dir():
            self._files = image_files(path, IMAGES, 'images')
        elif not path.is_file():
            raise UsageError(f'there is no image, folder or video {source} (in {Path.cwd()})')
        elif path.suffix.lower() in IMAGES:
            self._files = [path]
        else:
            try:
                self._video = Frames(source)
            except UsageError as error:
                raise UsageError(
                    f'{source} is neither a video that OpenCV can read nor an image ({", ".join(IMAGES)})'
                ) from error
            self.fps = self._video.fps
        self.count = self._video.count if self._video is not None else len(self._files)

    def __iter__(self) -> Iterator[tuple[str, str | np.ndarray]]:
        """Iterates over names and images: the path of a file, or a frame, BGR, uint8, (H, W, 3)."""
        if self._video is not None:
            for index, frame in enumerate(self._video):
                yield self._video.name(index), frame
            return
        stems = [path.stem for path in self._files]
        for path in self._files:
            yield (path.stem if stems.count(path.stem) == 1 else path.name.replace('.', '_')), str(path)


def image_files(folder: Path, suffixes: tuple[str, ...], what: str) -> list[Path]:
    """Files of a folder with these suffixes, in the order of their names; numbers compare as numbers.

    Raises:
        UsageError: There are none.
    """
    found = sorted(
        (path for path in folder.iterdir() if path.suffix.lower() in suffixes), key=lambda path: natural_key(path.stem)
    )
    if not found:
        raise UsageError(f'folder {folder} has no {what} that end in {", ".join(suffixes)}')
    return found
