"""Tiny videos with masks on disk, in the layouts of DAVIS and YouTube-VOS."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 32)
PREFIX = dict(img_path='JPEGImages/480p', seg_map_path='Annotations/480p')


def square(number: int, top: int, left: int, side: int = 8, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Mask with one square of an object's number."""
    mask = np.zeros(size, dtype=np.uint8)
    mask[top : top + side, left : left + side] = number
    return mask


def image_of(mask: np.ndarray) -> np.ndarray:
    """Image from which the mask can be read again: 20 times the object's number, in all channels."""
    return np.repeat(mask[..., None] * 20, 3, axis=2).astype(np.uint8)


def save_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [7] * 759)
    image.save(path)


def save_frame(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def write_davis(root: Path, videos: dict[str, list[np.ndarray]], split: str = 'train') -> Path:
    """Writes masks, and images that show them, as PNG; None leaves a mask out, its frame is grey."""
    for name, masks in videos.items():
        for index, mask in enumerate(masks):
            image = np.full((*SIZE, 3), 90, dtype=np.uint8) if mask is None else image_of(mask)
            save_frame(root / f'JPEGImages/480p/{name}/{index:05d}.png', image)
            if mask is not None:
                save_mask(root / f'Annotations/480p/{name}/{index:05d}.png', mask)
    path = root / f'ImageSets/2017/{split}.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{name}\n' for name in videos))
    return root


def write_ytvos(root: Path, videos: dict[str, dict[str, list[str]]], masks: dict[str, dict[str, np.ndarray]]) -> Path:
    """Writes meta.json of each object's frames, all these frames, and the masks that are given."""
    entries = {}
    for name, objects in videos.items():
        entries[name] = dict(
            objects={number: dict(category='cat', frames=frames) for number, frames in objects.items()}
        )
        for frame in {frame for frames in objects.values() for frame in frames}:
            save_frame(root / f'JPEGImages/{name}/{frame}.jpg', np.full((*SIZE, 3), 90, dtype=np.uint8))
        for frame, mask in masks[name].items():
            save_mask(root / f'Annotations/{name}/{frame}.png', mask)
    (root / 'meta.json').write_text(json.dumps(dict(videos=entries)))
    return root


def davis(root: Path, **settings) -> dict:
    """Config of the data set of ``write_davis``."""
    settings = dict(ann_file='ImageSets/2017/train.txt', data_prefix=PREFIX) | settings
    return dict(type='mmplugins.VOSDataset', data_root=str(root), **settings)


def ytvos(root: Path, **settings) -> dict:
    """Config of the data set of ``write_ytvos``."""
    prefix = dict(img_path='JPEGImages', seg_map_path='Annotations')
    return dict(type='mmplugins.VOSDataset', data_root=str(root), ann_file='meta.json', data_prefix=prefix, **settings)
