"""Pictures of a run, small enough to stand in a page."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, features

WIDEST = 1500  # pixels


def data_uri(path: Path) -> str:
    """Returns a picture as a ``data:`` address: WebP where Pillow writes it, else PNG.

    Raises:
        OSError: The file is no picture.
    """
    with Image.open(path) as image:
        image = image.convert('RGB')
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    kind = 'webp' if features.check('webp') else 'png'
    image.save(buffer, kind, **(dict(quality=88, method=4) if kind == 'webp' else dict(optimize=True)))
    return f'data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}'


def chosen(pictures: Sequence, most: int) -> list:
    """Returns at most so many of some pictures: the first, the last, and others at equal distances."""
    if len(pictures) <= most:
        return list(pictures)
    if most < 2:
        return list(pictures[len(pictures) - most :])
    return [pictures[round(index * (len(pictures) - 1) / (most - 1))] for index in range(most)]
