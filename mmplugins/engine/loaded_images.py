"""What is lost of an image that is loaded as colours of 8 bits: transparency, and the lower bits.

Nothing fails, so that it must be said: a model trains on what transparent pixels hide, or on images that are all dark.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from mmengine.logging import print_log
from PIL import Image

LOADERS = ('LoadImageFromFile', 'LoadClip')  # of mmcv, mmseg, mmdet and mmplugins; subclasses are of their kind
DECODED = 100  # images with an alpha channel that are decoded to find transparent pixels
REMEDY = 'save them as RGB images of 8 bits, stretched and blended as the model is to see them'


def loads_eight_bits(transforms: Iterable[object]) -> bool:
    """Whether a pipeline loads its images as colours of 8 bits; other loaders may keep the file's values."""
    return any(
        getattr(transform, 'color_type', 'color') != 'unchanged'
        and getattr(transform, 'imdecode_backend', 'cv2') != 'tifffile'  # gives the file's values
        and any(kind.__name__ in LOADERS for kind in type(transform).__mro__)  # what imports this needs no toolbox
        for transform in transforms
    )


def lost_by_loading(path: str) -> str:
    """Says what an image loses when it is loaded as colours of 8 bits.

    Args:
        path: A file; one that cannot be opened loses nothing here, loading it tells.

    Returns:
        The loss in words, the same for each image that loses the same; '' if there is none.
    """
    with _unsaid(), Image.open(path) as image:
        return _depth_lost(image) or _alpha_lost(image)
    return ''


@contextmanager
def _unsaid() -> Iterator[None]:
    """Leaves what Pillow warns of, and images that it does not open, to whoever loads the image."""
    with warnings.catch_warnings(), suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        warnings.simplefilter('ignore')
        yield


def _depth_lost(image: Image.Image) -> str:
    """Pillow opens deep colours as colours of 8 bits; only what it tells its decoder names them."""
    settings = image.tile[0][3] if getattr(image, 'tile', None) else ''
    raw = settings[0] if isinstance(settings, tuple) and settings else settings
    deep = image.mode if image.mode.startswith(('I', 'F')) else ''
    if isinstance(raw, str) and ';16' in raw and not raw.startswith('BGR'):  # BGR;16 has 5, 6 and 5 bits
        deep = deep or raw
    return f'more than 8 bits ({deep}), of which loaders keep 8' if deep else ''


def _alpha_lost(image: Image.Image) -> str:
    if not _has_alpha(image) or image.convert('RGBA').getchannel('A').getextrema()[0] == 255:
        return ''
    return 'an alpha channel, which loaders drop: transparent pixels take the colour beneath'


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info  # of one colour, or of a palette's


class LossTeller:
    """Tells in the log of images that lose by loading: of depth once, and of transparency once.

    Args:
        where: The data set, in words.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.told: set[str] = set()
        self.decoded = 0

    def look(self, path: str) -> None:
        """Looks at a file, unless it has told all; at the pixels of the first 100 with an alpha channel."""
        if len(self.told) == 2:
            return
        with _unsaid(), Image.open(path) as image:
            self._tell('depth', _depth_lost(image), path)
            if 'alpha' not in self.told and self.decoded < DECODED and _has_alpha(image):
                self.decoded += 1
                self._tell('alpha', _alpha_lost(image), path)

    def _tell(self, kind: str, loss: str, path: str) -> None:
        if not loss or kind in self.told:
            return
        self.told.add(kind)
        print_log(
            f'data: {self.where}: images have {loss}, such as {path}; {REMEDY}', logger='current', level=logging.WARNING
        )
