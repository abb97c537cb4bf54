"""Small image files for the fuzz tests, in one folder that each test fills anew."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that lasts as long as a case; hypothesis calls a test many times, and pytest's lasts for all."""
    path = Path(tempfile.mkdtemp(prefix='fuzz'))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def save(array: np.ndarray, path: Path, mode: str | None = None, **options) -> str:
    """Writes an image and returns its path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return str(path)


def palette_image(numbers: np.ndarray, path: Path) -> str:
    """Writes object numbers with a palette of colours, in which the number alone tells objects apart."""
    image = Image.fromarray(numbers.astype(np.uint8), 'P')
    image.putpalette([value for index in range(256) for value in ((37 * index) % 256, (91 * index) % 256, index)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return str(path)
