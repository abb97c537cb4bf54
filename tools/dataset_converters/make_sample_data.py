"""Makes a small data set of textured shapes, to try a training with nothing to download.

    python tools/dataset_converters/make_sample_data.py data/sample --train 240 --val 60

A ``--kind`` is a function that writes one sort of annotations of scenes (see ``sample_scenes.py``). A new kind
(instance, panoptic, video) is one more such function in ``KINDS``: it can go through the objects' masks, or move the
poses from frame to frame.

Scene i of a split depends on the seed, the split and i alone, so a larger data set begins with the smaller one.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track
from sample_scenes import CLASSES, RARE, Scene, draw_scene, render

SPLITS = ('train', 'val')


# Kinds of annotation --------------------------------------------------------------------------------------------------


def write_semantic(out: Path, split: str, scenes: Iterator[tuple[str, Scene]]) -> None:
    """Writes ``images/{split}/*.png`` and palette label images ``annotations/{split}/*.png``, as mmseg reads them."""
    for name, scene in scenes:
        rendering = render(scene)
        save_image(out / 'images' / split / f'{name}.png', rendering.image)
        save_palette_image(out / 'annotations' / split / f'{name}.png', rendering.semantic)


def write_camouflage(out: Path, split: str, scenes: Iterator[tuple[str, Scene]]) -> None:
    """Writes ``train/Imgs/*.png``, masks of 0 and 255 ``train/GT/*.png``, and ``test/`` for the validation images.

    That is the layout in which camouflaged objects are distributed and ``mmplugins.BinaryMaskDataset`` reads them.
    """
    folder = out / ('test' if split == 'val' else split)
    for name, scene in scenes:
        rendering = render(camouflage(scene))
        save_image(folder / 'Imgs' / f'{name}.png', rendering.image)
        save_image(folder / 'GT' / f'{name}.png', rendering.masks.any(axis=0).astype(np.uint8) * 255)


def camouflage(scene: Scene) -> Scene:
    """Leaves one or two shapes of a scene and gives them nearly the background's texture.

    Pattern and period are the background's, the pattern is turned and the colours are a little lighter or darker.

    Args:
        scene: The scene.

    Returns:
        A scene of the same size, background and noise.
    """
    rng = np.random.default_rng([scene.noise_seed, 1])
    shapes = [thing for thing in scene.things if thing.class_name != RARE]
    hidden = []
    for thing in shapes[: rng.integers(1, 3)]:
        shift = (0.05 + 0.05 * rng.random()) * (1.0 if rng.random() < 0.5 else -1.0)
        colours = tuple(tuple(value + shift for value in colour) for colour in scene.background.colours)
        angle = scene.background.angle + 0.5 + rng.random()
        texture = replace(scene.background, colours=colours, angle=angle, seed=int(rng.integers(2**31)))
        hidden.append(replace(thing, texture=texture))
    return replace(scene, things=tuple(hidden))


KINDS: dict[str, Callable[[Path, str, Iterator[tuple[str, Scene]]], None]] = {
    'semantic': write_semantic,
    'camouflage': write_camouflage,
}


def save_image(path: Path, image: np.ndarray) -> None:
    """Writes an image, uint8, shape (H, W, 3) for RGB or (H, W) for grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def save_palette_image(path: Path, index: np.ndarray) -> None:
    """Writes an index image, uint8, shape (H, W), that viewers show in the classes' colours; 255 is black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(index)
    colours = [value for colour in CLASSES.values() for value in colour]
    image.putpalette(colours + [0] * (768 - len(colours)))
    image.save(path)


# Command line ---------------------------------------------------------------------------------------------------------


def parse_size(text: str) -> tuple[int, int]:
    """Reads '96x128' as height and width."""
    height, cross, width = text.lower().partition('x')
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels, such as 96x128, got '{text}'")
    size = int(height), int(width)
    if not all(32 <= side <= 4096 for side in size):
        raise argparse.ArgumentTypeError(f"each side must be 32 to 4096 pixels, got '{text}'")
    return size


def parse_count(text: str) -> int:
    """Reads a number of images."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of images, at least 1, got '{text}'")
    return int(text)


def parse_seed(text: str) -> int:
    """Reads a seed."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or above, got '{text}'")
    return int(text)


def prepare_folder(out: Path, overwrite: bool) -> None:
    """Makes sure that a folder is empty or new; removes nothing that this tool did not write.

    Args:
        out: The folder.
        overwrite: Whether earlier sample data in it may go.

    Raises:
        ValueError: It holds something.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"'{out}' is a file; give a folder")
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise ValueError(f"'{out}' is not empty; give another folder, or --overwrite to make its data anew")
        if not (out / 'sample.json').is_file():
            raise ValueError(f"'{out}' holds no sample.json, so it was not made by this tool; give another folder")
        for folder in ('images', 'annotations', 'train', 'test'):
            shutil.rmtree(out / folder, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)


def scenes_of_split(seed: int, split: str, count: int, size: tuple[int, int]) -> Iterator[tuple[str, Scene]]:
    """Yields name and scene of each image of a split, with a progress bar.

    Args:
        seed: Seed of the data set.
        split: One of ``SPLITS``.
        count: Number of images.
        size: Height and width of the images in pixels.

    Yields:
        Name without suffix, and scene.
    """
    for i in track(range(count), description=f'{split:>6}'):
        yield f'{i:05d}', draw_scene(np.random.default_rng([seed, SPLITS.index(split), i]), *size)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description='Makes a small data set of textured shapes.')
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write to')
    parser.add_argument('--kind', choices=KINDS, default='semantic', help='kind of annotations (default: semantic)')
    parser.add_argument('--train', type=parse_count, default=240, metavar='N', help='training images (default: 240)')
    parser.add_argument('--val', type=parse_count, default=60, metavar='M', help='validation images (default: 60)')
    parser.add_argument('--size', type=parse_size, default=(96, 128), metavar='HxW', help='in pixels (default: 96x128)')
    parser.add_argument('--seed', type=parse_seed, default=0, metavar='S', help='same seed, same pixels (default: 0)')
    parser.add_argument('--overwrite', action='store_true', help='replace sample data that is in OUT')
    args = parser.parse_args()
    try:
        prepare_folder(args.out, args.overwrite)
    except ValueError as error:
        parser.error(str(error))
    settings = dict(kind=args.kind, train=args.train, val=args.val, size=args.size, seed=args.seed, classes=CLASSES)
    (args.out / 'sample.json').write_text(json.dumps(settings, indent=2) + '\n')
    for split, count in zip(SPLITS, (args.train, args.val), strict=True):
        KINDS[args.kind](args.out, split, scenes_of_split(args.seed, split, count, args.size))
    print(f'{args.train} training and {args.val} validation images ({args.kind}) are in {args.out}')


if __name__ == '__main__':
    main()
