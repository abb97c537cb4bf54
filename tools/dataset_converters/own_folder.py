"""Prepares images and masks of your own for a training: splits them, numbers the classes, writes a config.

    python tools/dataset_converters/own_folder.py --images FOLDER/images --masks FOLDER/masks --out work_dirs/own

Each image has a mask with the same name, a PNG with one number a pixel: the class, or 255 for pixels that do not count.
Where all masks hold 0 and 255 alone, these are background and object. ``--classes`` is a text file of names, a line for
each number that occurs, in ascending order. Every fifth image goes to the validation set.

``OUT`` gets ``images/{train,val}``, ``annotations/{train,val}`` and ``config.py``, which trains the ``--base`` config
on them. Images of more than 512 pixels are made smaller.
"""

import os
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.progress import track

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
LONGEST = 512  # pixels a side
EVERY = 5  # every so many images are for validation
MOST = 64  # classes; more numbers are taken for a photograph
IGNORED = 255
ORIENTATION = 0x0112  # EXIF tag
BASE = Path(__file__).parents[2] / 'configs/fpn-head/fpn-head_efflite0_ohem_1xb4-300_own-folder-192x256.py'


class FolderError(Exception):
    """The folders cannot be used; the text says what to change."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(description='Prepare images and masks of your own for a training.')
    parser.add_argument('--images', type=Path, required=True, help=f'folder of images ({", ".join(IMAGES)})')
    parser.add_argument('--masks', type=Path, required=True, help='folder of masks, PNG, the same names')
    parser.add_argument('--classes', type=Path, help='text file, a name a line; without: names are numbers')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to; must not exist or be ours')
    parser.add_argument('--base', type=Path, default=BASE, help='config to train (default: %(default)s)')
    args = parser.parse_args(argv)
    try:
        pairs = paired(args.images, args.masks)
        values = class_numbers(pairs)
        names = class_names(args.classes, values)
        palette = palette_of(pairs[0][1], values)
        prepare(args.out)
        write_split(pairs, values, args.out)
        write_config(args.base, args.out, names, palette)
    except FolderError as error:
        sys.exit(f'own_folder.py: error: {error}')
    print(f'{len(pairs) - len(pairs[::EVERY])} training and {len(pairs[::EVERY])} validation images')
    print(f'{len(names)} classes: {", ".join(names)}')
    print(args.out / 'config.py')


def paired(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Returns images and masks with the same name, in the names' order.

    Raises:
        FolderError: A folder, an image or a mask is missing, or there are too few.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise FolderError(f'there is no folder {folder}; images/ and masks/ are expected side by side')
    found = {}
    for path in sorted(path for path in images.iterdir() if path.suffix.lower() in IMAGES):
        if path.stem in found:
            raise FolderError(f'{found[path.stem].name} and {path.name} have one name; rename one of them')
        found[path.stem] = path
    labels = {path.stem: path for path in masks.iterdir() if path.suffix.lower() == '.png'}
    if lonely := sorted(found.keys() ^ labels.keys()):
        sides = [f'{name} has no {"mask" if name in found else "image"}' for name in lonely]
        raise FolderError(f'every image needs a PNG mask of its name: {_some(sides)}')
    if len(found) < EVERY:
        raise FolderError(f'at least {EVERY} images with masks are needed, {images} has {len(found)}')
    return [(found[name], labels[name]) for name in sorted(found)]


def class_numbers(pairs: list[tuple[Path, Path]]) -> list[int]:
    """Reads all files; returns the numbers in the masks in ascending order, without 255 where that is not the object.

    Raises:
        FolderError: A file cannot be read, is turned, has another size than its partner, or is no mask.
    """
    wrong, values = [], set()
    for image_path, mask_path in track(pairs, description='checking'):
        try:
            with Image.open(image_path) as image, Image.open(mask_path) as mask:
                turned = image.getexif().get(ORIENTATION, 1) != 1
                sizes, mode, pixels = (image.size, mask.size), mask.mode, np.asarray(mask)
        except (UnidentifiedImageError, OSError) as error:
            wrong.append(f'{image_path.name} or its mask cannot be read ({error})')
            continue
        if turned:
            wrong.append(f'{image_path.name} is turned by its EXIF tag (save it upright)')
        elif sizes[0] != sizes[1]:
            wrong.append(
                f'{image_path.name} is {"x".join(map(str, sizes[0]))}, its mask {"x".join(map(str, sizes[1]))}'
            )
        elif pixels.ndim != 2:
            wrong.append(f'{mask_path.name} has colours (mode {mode}); one number a pixel is expected: mode L, P, 1, I')
        else:
            values |= set(np.unique(pixels.astype(np.int64)).tolist())
    if wrong:
        raise FolderError(_some(wrong))
    if values == {0, IGNORED}:
        return [0, IGNORED]
    values.discard(IGNORED)
    if not 2 <= len(values) <= MOST:
        raise FolderError(
            f'the masks hold {len(values)} different numbers beside 255, 2 to {MOST} classes are expected; masks are '
            'PNGs whose pixels are class numbers, no grey photographs and no smooth edges'
        )
    return sorted(values)


def class_names(path: Path | None, values: list[int]) -> list[str]:
    """Returns a name for each number; those of the file, or the numbers themselves.

    Raises:
        FolderError: The file is missing, or has another number of names.
    """
    if path is None:
        return [f'class {value}' for value in values]
    if not path.is_file():
        raise FolderError(f'there is no file {path}')
    names = [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
    if len(names) != len(values):
        raise FolderError(f'{path} has {len(names)} names, the masks have the numbers {", ".join(map(str, values))}')
    return names


def palette_of(mask: Path, values: list[int]) -> list[list[int]]:
    """Returns a colour for each number: the mask's own where it has a palette, else from a colour wheel."""
    with Image.open(mask) as image:
        own = image.getpalette() if image.mode == 'P' else None
    if own and max(values) * 3 + 3 <= len(own):
        colours = [own[3 * value : 3 * value + 3] for value in values]
        if len({tuple(colour) for colour in colours}) == len(colours):
            return colours
    wheel = Image.new('HSV', (len(values), 1))
    wheel.putdata([(255 * index // len(values), 200, 60 if index == 0 else 230) for index in range(len(values))])
    return np.asarray(wheel.convert('RGB'))[0].tolist()


def prepare(out: Path) -> None:
    """Makes the folder, or empties one of ours.

    Raises:
        FolderError: The folder holds something else.
    """
    if out.exists():
        ours = {'images', 'annotations', 'config.py'}
        if not out.is_dir() or {path.name for path in out.iterdir()} - ours:
            raise FolderError(f'{out} holds something else; give another --out')
        shutil.rmtree(out)
    out.mkdir(parents=True)


def write_split(pairs: list[tuple[Path, Path]], values: list[int], out: Path) -> None:
    """Writes images and label maps as PNG: classes 0, 1, ... in the numbers' order, 255 for what does not count."""
    for number, (image_path, mask_path) in enumerate(track(pairs, description='writing')):
        split = 'train' if number % EVERY else 'val'
        with Image.open(image_path) as image, Image.open(mask_path) as mask:
            image, numbers = image.convert('RGB'), np.asarray(mask)
        indices = np.full(numbers.shape, IGNORED, dtype=np.uint8)
        for index, value in enumerate(values):
            indices[numbers == value] = index
        label = Image.fromarray(indices)
        scale = min(1, LONGEST / max(image.size))
        if scale < 1:
            size = tuple(max(1, round(length * scale)) for length in image.size)
            image = image.resize(size, Image.Resampling.LANCZOS)
            label = label.resize(size, Image.Resampling.NEAREST)
        for kind, picture in (('images', image), ('annotations', label)):
            path = out / kind / split / f'{image_path.stem}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)


def write_config(base: Path, out: Path, names: list[str], palette: list[list[int]]) -> None:
    """Writes ``config.py``, which is the base config with these classes and data."""
    text = f"""# Written by own_folder.py.
_base_ = {os.path.relpath(base, out)!r}
metainfo = dict(
    classes={tuple(names)!r},
    palette={palette!r},
)
data_root = {str(out.resolve())!r}

model = dict(decode_head=dict(num_classes={len(names)}), auxiliary_head=dict(num_classes={len(names)}))
train_dataloader = dict(dataset=dict(metainfo=metainfo, data_root=data_root))
val_dataloader = dict(dataset=dict(metainfo=metainfo, data_root=data_root))
test_dataloader = dict(dataset=dict(metainfo=metainfo, data_root=data_root))
"""
    (out / 'config.py').write_text(text, encoding='utf-8')


def _some(messages: list[str], most: int = 10) -> str:
    rest = f'; and {len(messages) - most} more' if len(messages) > most else ''
    return '; '.join(messages[:most]) + rest


if __name__ == '__main__':
    main()
