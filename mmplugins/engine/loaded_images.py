"""What is lost of an image that is loaded as colours of 8 bits: transparency, and the lower bits.

Nothing fails, so that it must be said: a model trains on what transparent pixels hide, or on images that are all dark.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from PIL import Image

LOADERS = ('LoadImageFromFile', 'LoadClip')  # of mmcv, mmseg, mmdet and mmplugins; subclasses are of their kind
LOOKED_AT, SECONDS = 2000, 3.0  # files of a data set, as far as the time reaches: alpha channels must be decoded
BITS_PER_SAMPLE = 258  # tag of TIFF
REMEDY = 'save them as RGB images of 8 bits, stretched and blended as the model is to see them'


def loads_eight_bits(transforms: object) -> bool:
    """Whether transforms, a list or a Compose, load images as colours of 8 bits; other loaders keep their values."""
    return any(
        getattr(transform, 'color_type', 'color') != 'unchanged'
        and getattr(transform, 'imdecode_backend', 'cv2') != 'tifffile'  # gives the file's values
        and any(kind.__name__ in LOADERS for kind in type(transform).__mro__)  # what imports this needs no toolbox
        for transform in _flat(transforms)
    )


def _flat(node: object) -> Iterator[object]:
    """Yields transforms, and those within them: RandomApply, TransformBroadcaster and others of mmcv."""
    if isinstance(node, list | tuple):
        for one in node:
            yield from _flat(one)
    else:
        yield node
        yield from _flat(getattr(node, 'transforms', ()))


def lost_by_loading(path: str) -> str:
    """Says what an image loses when it is loaded as colours of 8 bits.

    Args:
        path: A file. One that Pillow cannot open loses nothing here; loading it tells.

    Returns:
        The loss in words, the same for each image that loses the same; '' if there is none.
    """
    with suppress(Exception), Image.open(path) as image:  # whatever a decoder raises
        return _depth_lost(image) or _alpha_lost(image)
    return ''


def _depth_lost(image: Image.Image) -> str:
    """Pillow opens deep colours as colours of 8 bits; only what it tells its decoder names them."""
    settings = image.tile[0][3] if getattr(image, 'tile', None) else ''
    settings = settings if isinstance(settings, tuple) else (settings,)
    raw = settings[0] if settings else ''
    if image.mode.startswith(('I', 'F')):
        deep = image.mode
    elif isinstance(raw, str) and ';16' in raw and not raw.startswith('BGR'):  # BGR;16 has 5, 6 and 5 bits
        deep = raw
    elif image.format == 'PPM' and len(settings) > 1 and settings[1] > 255:
        deep = f'values up to {settings[1]}'
    elif image.format == 'TIFF' and max(image.tag_v2.get(BITS_PER_SAMPLE, (8,))) > 8:  # with a plane for each colour
        deep = f'{max(image.tag_v2[BITS_PER_SAMPLE])} bits'
    else:
        return ''
    return f'more than 8 bits ({deep}), of which loaders keep 8'


def _alpha_lost(image: Image.Image) -> str:
    alpha = image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info  # of one colour, or of a palette's
    if not alpha or image.convert('RGBA').getchannel('A').getextrema()[0] == 255:
        return ''
    return 'an alpha channel, which loaders do not keep: transparent pixels get a colour that you do not see'


def tell_losses(paths: Sequence[str]) -> list[str]:
    """Looks at image files at even distances, in an order that does not follow that of the files.

    Args:
        paths: All files; 2,000 are looked at, as far as 3 seconds reach.

    Returns:
        A sentence for each loss, with the number of files and one of them.
    """
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), LOOKED_AT)).round().astype(int))
    found: dict[str, list[str]] = {}
    start, looked = time.perf_counter(), 0
    for index in np.random.default_rng(0).permutation(chosen).tolist():
        if loss := lost_by_loading(paths[index]):
            found.setdefault(loss, []).append(paths[index])
        looked += 1
        if time.perf_counter() - start > SECONDS:
            break
    return losses_in_words(found, looked)


def losses_in_words(found: dict[str, list[str]], looked: int) -> list[str]:
    """Puts losses into words: the files of each, and how many were looked at."""
    return [f'{len(files)} of {looked} images have {loss}, such as {min(files)}' for loss, files in found.items()]
