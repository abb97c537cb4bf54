"""Reads lists of videos: text as DAVIS has it, JSON as YouTube-VOS has it."""

import json
import re
from typing import Any

from mmengine import fileio

from .transforms.image_files import read_lines

LAYOUT = (
    'expected the layout of YouTube-VOS, {"videos": {"NAME": {"objects": {"1": {"frames": ["00000", "00005"]}}}}}: '
    'names of frames are those of their files, without suffix, and numbers of objects are the values of the masks'
)
FIRST_PATH = re.compile(r'.*?\.(jpe?g|png|bmp)(?=\s|$)', re.IGNORECASE)


def read_video_list(path: str) -> dict[str, dict[int, list[str]]]:
    """Reads the videos of a list.

    A text file has a name a line, which may hold blanks, or paths as DAVIS 2016 has them: ``/JPEGImages/480p/bear/
    00000.jpg /Annotations/480p/bear/00000.png``. A byte-order mark is no part of a name.

    Args:
        path: The list, JSON if it ends in .json.

    Returns:
        Names of the frames of each object, by the object's number and the video's name; no objects from a text file.
        Objects without frames are left out.

    Raises:
        ValueError: A JSON file has another layout than that of YouTube-VOS.
    """
    if path.lower().endswith('.json'):
        return _read_json(path)
    return {_video_of(line): {} for line in read_lines(path)}


def _video_of(line: str) -> str:
    frame = FIRST_PATH.match(line)
    return frame.group().split('/')[-2] if frame and '/' in frame.group() else line.strip('/')


def _read_json(path: str) -> dict[str, dict[int, list[str]]]:
    try:
        content = json.loads(fileio.get_text(path, encoding='utf-8-sig'))
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is no JSON ({error}); {LAYOUT}') from error
    videos = content.get('videos') if isinstance(content, dict) else None
    if isinstance(videos, list):
        raise ValueError(
            f'{path} has a list of videos, as YouTube-VIS has it, whose masks are in the JSON; {LAYOUT}, and masks are '
            'PNG files. Write them as such, or list the videos in a text file'
        )
    if not isinstance(videos, dict):
        keys = sorted(content)[:5] if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} has no dict 'videos', but {keys}; {LAYOUT}")
    return {name: _objects(video, f'{path}: video {name!r}') for name, video in videos.items()}


def _objects(video: Any, where: str) -> dict[int, list[str]]:
    objects = video.get('objects') if isinstance(video, dict) else None
    if not isinstance(objects, dict):
        keys = sorted(video)[:5] if isinstance(video, dict) else type(video).__name__
        raise ValueError(f"{where} has no dict 'objects', but {keys}; {LAYOUT}")
    found = {}
    for number, entry in objects.items():
        if not (number.isdecimal() and 1 <= int(number) <= 254):
            raise ValueError(f'{where} has an object {number!r}, which is no number from 1 to 254; {LAYOUT}')
        frames = entry.get('frames') if isinstance(entry, dict) else None
        if not isinstance(frames, list):
            keys = sorted(entry)[:5] if isinstance(entry, dict) else type(entry).__name__
            lvos = ', as LVOS has it' if 'frame_range' in keys else ''
            raise ValueError(f"{where}, object {number}, has no list 'frames', but {keys}{lvos}; {LAYOUT}")
        strange = [frame for frame in frames if not isinstance(frame, str)]
        if strange:
            raise ValueError(
                f'{where}, object {number}, has a frame {strange[0]!r}, which is no string; {LAYOUT}, so that leading '
                'zeros count'
            )
        if frames:
            found[int(number)] = frames
    return found
