"""Copies videos with masks so that they play backwards: the same frames, another first mask, other motions.

    python tools/dataset_converters/reverse_videos.py data/davis data/davis_backwards --videos camel libby

The folders are those of DAVIS: ``JPEGImages/480p/VIDEO``, ``Annotations/480p/VIDEO``, ``ImageSets/2017/*.txt``. The
last frame of a video gets the name of the first one, and so on; a mask goes with its frame. The lists keep the videos
that are copied.
"""

import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from mmplugins.datasets.transforms.image_files import natural_key, read_lines

FRAMES, MASKS, LISTS = Path('JPEGImages/480p'), Path('Annotations/480p'), Path('ImageSets/2017')


class VideosError(Exception):
    """The videos cannot be reversed; the text says what to change."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(description='Copy videos with masks so that they play backwards.')
    parser.add_argument('data', type=Path, help='folder of DAVIS')
    parser.add_argument('out', type=Path, help='folder to write to; must not exist')
    parser.add_argument('--videos', nargs='+', help='their names; default: all')
    args = parser.parse_args(argv)
    try:
        count = reverse(args.data, args.out, args.videos)
    except VideosError as error:
        sys.exit(f'reverse_videos.py: error: {error}')
    print(f'{count} videos in {args.out}')


def reverse(data: Path, out: Path, videos: Sequence[str] | None = None) -> int:
    """Copies the videos.

    Args:
        data: Folder of DAVIS.
        out: Folder to write to.
        videos: Names; None: all that there are.

    Returns:
        The number of videos.

    Raises:
        VideosError: ``out`` is there, a video is not, or its last frame, which becomes the first, has no mask.
    """
    if out.exists():
        raise VideosError(f'{out} is there; remove it, or give another folder')
    if not (data / FRAMES).is_dir():
        raise VideosError(f'{data / FRAMES} is not there; give the folder of DAVIS, which holds JPEGImages')
    names = sorted(path.name for path in (data / FRAMES).iterdir() if path.is_dir())
    if missing := sorted(set(videos or ()) - set(names)):
        raise VideosError(f'{data / FRAMES} has no video {", ".join(missing)}; it has {", ".join(names)}')
    chosen = list(dict.fromkeys(videos or names))
    copies = [pair for name in chosen for pair in _copies(data, name)]
    for source, place in copies:
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, out / place)
    for source in sorted((data / LISTS).glob('*.txt')):
        if listed := [name for name in read_lines(str(source)) if name in chosen]:
            (out / LISTS).mkdir(parents=True, exist_ok=True)
            (out / LISTS / source.name).write_text('\n'.join(listed) + '\n')
    return len(chosen)


def _copies(data: Path, video: str) -> list[tuple[Path, Path]]:
    """A video's files, and where they go in the new folder."""
    frames, masks = (
        {path.stem: path for path in (data / kind / video).glob('*.*') if path.suffix.lower() in suffixes}
        for kind, suffixes in ((FRAMES, ('.jpg', '.jpeg', '.png')), (MASKS, ('.png',)))
    )
    names = sorted(frames, key=natural_key)
    if not names or names[-1] not in masks:
        raise VideosError(f'{video}: its last frame has no mask, and would be the first one; leave it out of --videos')
    new = dict(zip(names, reversed(names), strict=True))
    pairs = [(path, FRAMES / video / f'{new[name]}{path.suffix}') for name, path in frames.items()]
    return pairs + [(path, MASKS / video / f'{new[name]}{path.suffix}') for name, path in masks.items() if name in new]


if __name__ == '__main__':
    main()
