"""Videos with object masks, in the layouts of DAVIS 2016 and 2017 (Perazzi et al. 2016, Pont-Tuset et al. 2017) and of
YouTube-VOS (Xu et al. 2018).

Follows the released code of AOT (``dataloaders/train_datasets.py`` and ``eval_datasets.py``). Deliberate differences:
faulty files are named before training starts, objects keep the numbers of their files in tests, and the masks of all
annotated frames go to the metric.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import path as osp
from typing import NamedTuple

import numpy as np
from mmengine import fileio
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmplugins.registry import DATASETS

from .clip_source import ClipSource
from .transforms.clip_masks import check_mask_size, objects_of, read_object_mask
from .transforms.image_files import natural_key, open_image, orientation_of
from .video_lists import read_video_list

MAX_LISTED = 20


class Video(NamedTuple):
    """A video's files.

    Attributes:
        name: Of its folders.
        frames: Path of each frame by its name without suffix, in order.
        masks: Path of each mask by the name of its frame.
        new_objects: Numbers of the objects that appear with a frame, by the name of the frame.
        twice: A file of each name that several files of a folder have.
    """

    name: str
    frames: dict[str, str]
    masks: dict[str, str]
    new_objects: dict[str, list[int]]
    twice: list[str]


@DATASETS.register_module()
class VOSDataset(ClipSource, BaseDataset):
    """Videos with masks of their objects. An entry is a video for training, a frame for tests.

    Below ``data_root``, DAVIS has ``ann_file='ImageSets/2017/train.txt'``, a video's name a line (lines of paths, as
    DAVIS 2016 has them, do too), and ``data_prefix=dict(img_path='JPEGImages/480p', seg_map_path='Annotations/480p')``.
    YouTube-VOS has ``ann_file='train/meta.json'``, which lists each object's frames, and ``data_prefix=dict(
    img_path='train/JPEGImages', seg_map_path='train/Annotations')``. There may be more frames in the folders than in
    the JSON, as in YouTube-VOS's ``valid_all_frames``: a test takes all between the first and the last of the JSON,
    training those of the JSON. Masks are palette or grey images: 0 background, 1, 2, ... objects, 255 not valid. Frames
    are in the order of their names, in which numbers compare as numbers.

    Without a JSON, the objects of a test are those of the first frame's mask, as DAVIS has it; ``VOSMetric`` names
    others that appear later. docs/data.md tells all rules about the files.

    For training, an entry is a video: ``video_name``, ``img_path`` and ``seg_map_path``, lists of all annotated frames
    and their masks; ``SampleClip`` draws a clip from it.

    With ``test_mode``, an entry is a frame, all frames of a video in order, one video after the other: ``video_name``,
    ``frame_id``, its index in the video, ``frame_name``, ``num_frames`` of the video, ``img_path`` and
    ``seg_map_path``, lists of one (None without a mask), and ``new_objects``, numbers of the objects that appear here
    and not at the video's first frame. Use ``mmplugins.VideoSampler``.

    Args:
        ann_file: List of videos, .txt as DAVIS has it, or .json as YouTube-VOS has it.
        single_object: Whether all pixels that are not 0 are one object, number 1, as for DAVIS 2016, of which some
            copies have masks of 0 and 255; of grey masks with smooth edges it is those above 127.
        img_suffix: Suffixes of frames, in lower case.
        filter_cfg: Leaves out of training, with dict(min_frames=n), videos with fewer annotated frames; with
            dict(min_object_frames=n), the frames that ``meta.json`` lists for no object but such with fewer than n, and
            videos that have no others.
        check_files: Open the first frame and the first mask of each video at construction; False trusts them, the names
            are matched all the same.
        **kwargs: What mmengine's BaseDataset takes.

    Raises:
        FileNotFoundError: There is no ``ann_file``.
        ValueError: It lists no videos, or is in another layout; or files are at fault: a video without a folder or
            frames, two frames or masks of one name, a first frame without a mask, a first mask that is unreadable, of
            another size, without object numbers or, in a test, without an object, for training any frame without a
            mask or a mask without a frame, or a video with fewer than two annotated frames.
    """

    def __init__(
        self,
        ann_file: str,
        single_object: bool = False,
        img_suffix: Sequence[str] = ('.jpg', '.jpeg', '.png'),
        filter_cfg: dict | None = None,
        check_files: bool = True,
        **kwargs,
    ) -> None:
        self.check_files = check_files
        self.single_object = single_object
        self.img_suffix = (img_suffix,) if isinstance(img_suffix, str) else tuple(img_suffix)
        super().__init__(ann_file=ann_file, filter_cfg=filter_cfg, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Lists and checks the videos; called by mmengine when the data set is initialised.

        Returns:
            One dict a video for training, one a frame for tests.
        """
        if not fileio.isfile(self.ann_file):
            raise FileNotFoundError(
                f'ann_file {self.ann_file} is not there; it lists the videos: give ImageSets/2017/train.txt of DAVIS, '
                'or train/meta.json of YouTube-VOS, and check data_root'
            )
        objects = read_video_list(self.ann_file)
        if not objects:
            raise ValueError(f'ann_file {self.ann_file} lists no videos; give one a line, or meta.json of YouTube-VOS')
        videos, problems = [], []
        for name, appearances in objects.items():
            listed = self._long_enough(appearances)
            if appearances and not listed:
                continue
            video = self._video(name, listed)
            found = self._problems(video, listed)
            problems += found
            if not found:
                videos.append(video)
        if self.check_files:
            problems += self._read_first(videos)
        if problems:
            raise ValueError(self._report(problems))
        entries = []
        for video in videos:
            entries += self._frames(video) if self.test_mode else [self._entry(video, list(video.frames))]
        return entries

    def filter_data(self) -> list[dict]:
        """Removes the videos that ``filter_cfg`` excludes."""
        fewest = (self.filter_cfg or {}).get('min_frames', 0)
        if self.test_mode:
            return self.data_list
        kept = [info for info in self.data_list if len(info['img_path']) >= fewest]
        short = [info['video_name'] for info in kept if len(info['img_path']) < 2]
        if short:
            raise ValueError(
                f'{len(short)} video(s) have fewer than two annotated frames, such as {short[:MAX_LISTED]}; set '
                'filter_cfg=dict(min_frames=2) to train without them'
            )
        return kept

    def _long_enough(self, appearances: dict[int, list[str]]) -> dict[int, list[str]]:
        """Leaves out the objects of a video, with their frames, of which training sees too few."""
        fewest = 0 if self.test_mode else (self.filter_cfg or {}).get('min_object_frames', 0)
        return {number: frames for number, frames in appearances.items() if len(frames) >= fewest}

    def _video(self, name: str, appearances: dict[int, list[str]]) -> Video:
        twice: list[str] = []
        frames = self._files('img_path', name, self.img_suffix, twice)
        masks = self._files('seg_map_path', name, ('.png',), twice)
        new_objects: dict[str, list[int]] = {}
        listed = sorted({frame for seen in appearances.values() for frame in seen}, key=natural_key)
        if listed and self.test_mode:
            first, last = natural_key(listed[0]), natural_key(listed[-1])
            frames, masks = (
                {frame: path for frame, path in files.items() if first <= natural_key(frame) <= last}
                for files in (frames, masks)
            )
            for number, seen in appearances.items():
                appears = min(seen, key=natural_key)
                if appears != listed[0]:
                    new_objects.setdefault(appears, []).append(number)
        elif listed:
            frames = {frame: frames[frame] for frame in listed if frame in frames}
            masks = {frame: masks[frame] for frame in listed if frame in masks}
        return Video(name, frames, masks, new_objects, twice)

    def _files(self, prefix: str, name: str, suffixes: tuple[str, ...], twice: list[str]) -> dict[str, str]:
        """Lists a video's folder: paths by name without suffix, in order; nothing if there is no folder.

        Files of the name of another one go to ``twice``.
        """
        folder = osp.join(self.data_prefix[prefix], name)
        if not fileio.isdir(folder):
            return {}
        files: dict[str, str] = {}
        for file in sorted(fileio.list_dir_or_file(folder, list_dir=False)):
            if file.lower().endswith(suffixes):
                path = osp.join(folder, file)
                if files.setdefault(osp.splitext(file)[0], path) != path:
                    twice.append(path)
        return {frame: files[frame] for frame in sorted(files, key=natural_key)}

    def _problems(self, video: Video, appearances: dict[int, list[str]]) -> list[str]:
        """Says what is wrong with a video."""
        name, frames, masks = video.name, video.frames, video.masks
        folder, mask_folder = (osp.join(self.data_prefix[prefix], name) for prefix in ('img_path', 'seg_map_path'))
        problems = []
        if not frames:
            return [f'{name}: no frames in {folder} that end in one of {self.img_suffix}']
        if video.twice:
            problems.append(
                f'{name}: {len(video.twice)} file(s) with the name of another one, but another suffix, such as '
                f'{video.twice[0]}; remove one of each such pair, or give img_suffix the suffix to use'
            )
        listed = {frame for seen in appearances.values() for frame in seen}
        missing = sorted(listed - frames.keys(), key=natural_key)
        if missing:
            problems.append(f'{name}: {len(missing)} frame(s) of the list are not in {folder}, such as {missing[0]}')
        stray = sorted(masks.keys() - frames.keys(), key=natural_key)
        if stray:
            problems.append(f'{name}: {len(stray)} mask(s) without a frame, such as {masks[stray[0]]}')
        first = next(iter(frames))
        if first not in masks:
            problems.append(
                f'{name}: the first frame {frames[first]} has no mask {osp.join(mask_folder, first)}.png; the masks of '
                'the first frame are what is tracked, so add it, or take the video out of the list'
            )
        without = [frame for frame in frames if frame not in masks and frame != first]
        if without and not self.test_mode:
            problems.append(f'{name}: {len(without)} frame(s) without a mask, such as {frames[without[0]]}')
        problems += [
            f'{name}: object(s) {numbers} appear at {frames[frame]}, which has no mask'
            for frame, numbers in video.new_objects.items()
            if frame in frames and frame not in masks
        ]
        return problems

    def _read_first(self, videos: list[Video]) -> list[str]:
        """Opens the first frame and mask of each video, says what is wrong, and logs which frames have a turn tag."""
        with ThreadPoolExecutor() as pool:
            facts = list(pool.map(self._first_facts, videos))
        tags = {next(iter(video.frames.values())): tag for video, (tag, _) in zip(videos, facts, strict=True)}
        turned = [path for path, tag in tags.items() if tag != 1]
        if turned:
            print_log(
                f'{len(turned)} video(s) of {self.ann_file} have frames with an EXIF orientation tag, such as '
                f'{turned[0]} ({tags[turned[0]]}); it is not applied, as masks have none: they fit if they were drawn '
                'on the pixels as stored. If they were drawn on turned frames, store the frames turned, without the '
                'tag',
                logger='current',
                level=logging.WARNING,
            )
        return [problem for _, problem in facts if problem]

    def _first_facts(self, video: Video) -> tuple[int, str | None]:
        """Reads the orientation tag of a video's first frame, and what is wrong with its mask."""
        first, path = next(iter(video.frames.items()))
        tag = 1
        try:
            with open_image(path) as image:
                size, tag = image.size[::-1], orientation_of(image)
            path = video.masks[first]
            mask = read_object_mask(path, 0 if self.single_object else None)
            check_mask_size(mask, size, video.name, path, video.frames[first])
        except ValueError as error:
            return tag, str(error)
        except (OSError, SyntaxError) as error:  # Pillow raises both on damaged files
            return tag, f'{video.name}: {path} is no image that can be read ({error}); replace it'
        if self.test_mode and not objects_of(mask):
            return tag, (
                f'{video.name}: the mask {path} of the first frame must show an object, its values are '
                f'{np.unique(mask).tolist()}; for masks of 0 and 255 set single_object=True, else take the video out '
                'of the list'
            )
        return tag, None

    def _entry(self, video: Video, names: list[str]) -> dict:
        return dict(
            video_name=video.name,
            img_path=[video.frames[name] for name in names],
            seg_map_path=[video.masks.get(name) for name in names],
            mask_threshold=0 if self.single_object else None,
        )

    def _frames(self, video: Video) -> list[dict]:
        entries = []
        for index, name in enumerate(video.frames):
            appear = [] if self.single_object else sorted(video.new_objects.get(name, []))
            facts = dict(frame_id=index, frame_name=name, num_frames=len(video.frames), new_objects=appear)
            entries.append(self._entry(video, [name]) | facts)
        return entries

    def _report(self, problems: list[str]) -> str:
        listed = '\n  '.join(problems[:MAX_LISTED])
        more = f'\n  ... and {len(problems) - MAX_LISTED} more' if len(problems) > MAX_LISTED else ''
        return (
            f'{len(problems)} problem(s) with the videos of {self.ann_file}:\n  {listed}{more}\n'
            'Mend the files or the list, and check data_prefix'
        )
