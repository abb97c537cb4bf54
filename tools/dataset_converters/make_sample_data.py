"""Makes a small data set of textured shapes, to try a training with nothing to download.

    python tools/dataset_converters/make_sample_data.py data/sample --train 240 --val 60

A ``--kind`` is a function that writes one sort of annotations of scenes (see ``sample_scenes.py``). A new kind is one
more such function in ``KINDS``: it can go through the objects' masks, or move the poses from frame to frame.

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
from sample_scenes import CLASSES, RARE, Rendering, Scene, Thing, draw_scene, render

SPLITS = ('train', 'val')
STUFF = 'background'  # its category comes after those of the shapes, which are things
CATEGORIES = {name: i for i, name in enumerate([*(name for name in CLASSES if name != STUFF), STUFF], start=1)}
FRAMES = 16  # of a video
ENTRANCE = 4, 8  # frames at which an object that enters later is still outside, and at its place
CROWDED = 3  # in every so many scenes, shapes of one class are a crowd, annotated as one


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


def write_instance(out: Path, split: str, scenes: Iterator[tuple[str, Scene]]) -> None:
    """Writes ``images/{split}/*.png`` and ``annotations/instances_{split}.json`` in COCO's format, masks as RLE."""
    images, annotations = [], []
    for number, (name, scene) in enumerate(scenes, start=1):
        rendering = render(scene)
        save_image(out / 'images' / split / f'{name}.png', rendering.image)
        images.append(image_entry(number, name, scene))
        for class_name, mask, crowd in objects(rendering, crowds=number % CROWDED == 0):
            annotation = dict(id=len(annotations) + 1, image_id=number, segmentation=run_lengths(mask))
            annotations.append(annotation | segment_entry(class_name, mask, crowd))
    categories = [category for category in category_entries() if category['isthing']]
    write_json(out / 'annotations' / f'instances_{split}.json', images, annotations, categories)


def write_panoptic(out: Path, split: str, scenes: Iterator[tuple[str, Scene]]) -> None:
    """Writes ``images/{split}/*.png``, ``annotations/panoptic_{split}/*.png`` and its JSON in COCO's panoptic format.

    Shapes are things, the background is stuff, and the ribbon around visible outlines is void.
    """
    images, annotations = [], []
    for number, (name, scene) in enumerate(scenes, start=1):
        rendering = render(scene)
        save_image(out / 'images' / split / f'{name}.png', rendering.image)
        images.append(image_entry(number, name, scene))
        segments = [*objects(rendering, crowds=number % CROWDED == 0), (STUFF, ~rendering.masks.any(axis=0), False)]
        png, entries = np.zeros((scene.height, scene.width, 3), dtype=np.uint8), []
        for index, (class_name, mask, crowd) in enumerate(segments):
            mask = mask & ~rendering.unlabelled
            if not mask.any():
                continue
            red, green, blue = CLASSES[class_name]
            png[mask] = red ^ index, green, blue  # a colour near the class's, another for each segment
            entries.append(dict(id=(red ^ index) + 256 * green + 65536 * blue) | segment_entry(class_name, mask, crowd))
        save_image(out / 'annotations' / f'panoptic_{split}' / f'{name}.png', png)
        annotations.append(dict(image_id=number, file_name=f'{name}.png', segments_info=entries))
    write_json(out / 'annotations' / f'panoptic_{split}.json', images, annotations, category_entries())


def write_video(out: Path, split: str, scenes: Iterator[tuple[str, Scene]]) -> None:
    """Writes videos of moving shapes in the layout of DAVIS, with frames as PNG: ``JPEGImages/480p/{video}/*.png``,
    palette images ``Annotations/480p/{video}/*.png`` and the list ``ImageSets/2017/{split}.txt``.

    In some videos an object enters later. DAVIS has none such, so they are not in the list, but in
    ``meta_{split}.json``, which has all videos in the format of YouTube-VOS.
    """
    listed, videos = [], {}
    for number, scene in scenes:
        name = f'{split}-{number}'
        things, frames = moving(scene)
        seen: dict[int, list[str]] = {index: [] for index in range(1, len(things) + 1)}
        for index, frame in enumerate(frames):
            rendering = render(frame)
            mask = np.zeros((scene.height, scene.width), dtype=np.uint8)
            for position, part in enumerate(rendering.masks, start=1):
                mask[part] = position
                if part.any():
                    seen[position].append(f'{index:05d}')
            save_image(out / 'JPEGImages/480p' / name / f'{index:05d}.png', rendering.image)
            save_palette_image(out / 'Annotations/480p' / name / f'{index:05d}.png', mask)
        entries = {
            str(index): dict(category=things[index - 1].class_name, frames=names)
            for index, names in seen.items()
            if names  # one that enters behind another may never be seen
        }
        videos[name] = dict(objects=entries)
        if all(entry['frames'][0] == '00000' for entry in entries.values()):
            listed.append(name)
    path = out / 'ImageSets/2017' / f'{split}.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{name}\n' for name in listed))
    (out / f'meta_{split}.json').write_text(json.dumps(dict(videos=videos)) + '\n')


def moving(scene: Scene) -> tuple[tuple[Thing, ...], list[Scene]]:
    """Moves the shapes of a scene, each at its own even speed and turn, and sometimes lets one enter later.

    Args:
        scene: The first frame. Shapes of which nothing much is seen in it are left out.

    Returns:
        The shapes, farthest first, and the frames.
    """
    rng = np.random.default_rng([scene.noise_seed, 2])
    unit = min(scene.height, scene.width)
    rendering = render(scene)
    visible = [thing for thing, mask in zip(rendering.things, rendering.masks, strict=True) if mask.mean() > 0.005]
    speeds = [(unit * (0.04 * rng.random(2) - 0.02), 0.1 * rng.random() - 0.05) for _ in visible]
    late = int(rng.integers(len(visible))) if len(visible) > 1 and rng.random() < 0.25 else None
    frames = []
    for index in range(FRAMES):
        things = []
        for number, (thing, ((dx, dy), turn)) in enumerate(zip(visible, speeds, strict=True)):
            pose = thing.pose
            x, y = pose.x + index * dx, pose.y + index * dy
            if number == late:  # from the left
                left = pose.x + 2 * unit
                x -= left * max(0.0, min(1.0, (ENTRANCE[1] - index) / (ENTRANCE[1] - ENTRANCE[0])))
            things.append(replace(thing, pose=replace(pose, x=x, y=y, angle=pose.angle + index * turn)))
        frames.append(replace(scene, things=tuple(things), noise_seed=scene.noise_seed + index))
    return tuple(visible), frames


def objects(rendering: Rendering, crowds: bool) -> list[tuple[str, np.ndarray, bool]]:
    """Lists the visible objects of a rendering.

    Args:
        rendering: The scene as arrays.
        crowds: Whether shapes of one class are joined to a crowd.

    Returns:
        Class, mask, bool (H, W), and whether it is a crowd.
    """
    names = [thing.class_name for thing in rendering.things]
    found = []
    for index, (name, mask) in enumerate(zip(names, rendering.masks, strict=True)):
        if crowds and names.count(name) > 1:
            if names.index(name) != index:
                continue  # it is in the crowd of the first one
            mask = rendering.masks[[other == name for other in names]].any(axis=0)
        if mask.any():
            found.append((name, mask, crowds and names.count(name) > 1))
    return found


def run_lengths(mask: np.ndarray) -> dict:
    """Gives a mask, bool (H, W), as COCO's run lengths: down the columns, beginning with zeros."""
    pixels = np.concatenate([[False], mask.T.ravel()])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    return dict(size=list(mask.shape), counts=np.diff([0, *changes, mask.size]).tolist())


def image_entry(number: int, name: str, scene: Scene) -> dict:
    """Gives an image's entry in COCO's format."""
    return dict(id=number, file_name=f'{name}.png', height=scene.height, width=scene.width)


def segment_entry(class_name: str, mask: np.ndarray, crowd: bool) -> dict:
    """Gives what instances and panoptic segments have in common in COCO's format; the mask, bool (H, W), has pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return dict(
        category_id=CATEGORIES[class_name], area=int(mask.sum()), bbox=[int(side) for side in box], iscrowd=int(crowd)
    )


def category_entries() -> list[dict]:
    """Gives all categories in COCO's panoptic format."""
    return [dict(id=i, name=name, isthing=int(name != STUFF), color=CLASSES[name]) for name, i in CATEGORIES.items()]


def write_json(path: Path, images: list[dict], annotations: list[dict], categories: list[dict]) -> None:
    """Writes annotations in COCO's format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = dict(info={}, licenses=[], images=images, annotations=annotations, categories=categories)
    path.write_text(json.dumps(content) + '\n')


KINDS: dict[str, Callable[[Path, str, Iterator[tuple[str, Scene]]], None]] = {
    'semantic': write_semantic,
    'camouflage': write_camouflage,
    'instance': write_instance,
    'panoptic': write_panoptic,
    'video': write_video,
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
        for folder in ('images', 'annotations', 'train', 'test', 'JPEGImages', 'Annotations', 'ImageSets'):
            shutil.rmtree(out / folder, ignore_errors=True)
        for split in SPLITS:
            (out / f'meta_{split}.json').unlink(missing_ok=True)
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
    parser.add_argument('--train', type=parse_count, default=240, metavar='N', help='training items (default: 240)')
    parser.add_argument('--val', type=parse_count, default=60, metavar='M', help='validation items (default: 60)')
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
    what = 'videos' if args.kind == 'video' else 'images'
    print(f'{args.train} training and {args.val} validation {what} ({args.kind}) are in {args.out}')
    if args.kind == 'video':
        listed = [len((args.out / f'ImageSets/2017/{split}.txt').read_text().split()) for split in SPLITS]
        print(
            f'{listed[0]} and {listed[1]} of them are listed in ImageSets/2017; in the others an object enters later, '
            'and only meta_*.json lists them'
        )


if __name__ == '__main__':
    main()
