"""Tracks objects through a video: the mask of the first frame is given, those of all others are found.

    python tools/vos_demo.py VIDEO --mask FIRST.png --config CONFIG --checkpoint CHECKPOINT --out tracked.mp4
    python tools/vos_demo.py FOLDER --mask FIRST.png --config CONFIG --checkpoint CHECKPOINT --out FOLDER

VIDEO is a file that OpenCV reads, FOLDER holds frames in the order of their names (numbers in them compare as numbers),
whose pixels count as they are stored, whatever an EXIF orientation tag says. FIRST.png has a palette or is grey; its
pixels are object numbers. Frames are resized as the config's test pipeline does it (without one, to a shorter side of
480), read one at a time, and forgotten. To an --out that ends in .mp4, .avi or .mkv goes a video of the objects painted
over the frames; any other is a folder: masks/*.png, palette images, and overlays/*.jpg. Released checkpoints work when
tools/model_converters/aot.py has converted them.
"""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

# Before torch starts its threads; train.py says why.
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, TRANSFORMS
from mmengine.runner import load_checkpoint
from rich.progress import track

from mmplugins.datasets.transforms.clip_masks import read_object_mask
from mmplugins.datasets.transforms.image_files import decode_frame, natural_key
from mmplugins.engine.launch import CfgOptions, UsageError, check_checkpoint, load_config, type_name
from mmplugins.models.segmentors.aot import AOT, track_video
from mmplugins.visualization import paint_objects, write_index_image

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp')
CODECS = {'.mp4': 'mp4v', '.avi': 'MJPG', '.mkv': 'MJPG'}


class Frames:
    """Frames of a video file or a folder, BGR, read one at a time.

    Args:
        source: The file or folder.

    Attributes:
        fps: Frames a second; None if the source does not say.
        count: Number of frames; of a file it is what the container says, and may be 0.
        names: Of the frames of a folder, without suffix; None for a file.

    Raises:
        UsageError: There is nothing, or nothing to be read.
    """

    def __init__(self, source: str) -> None:
        self.path = Path(source)
        self.fps, self.names = None, None
        if self.path.is_dir():
            found = (path for path in self.path.iterdir() if path.suffix.lower() in IMAGES)
            self._files = sorted(found, key=lambda path: natural_key(path.stem))
            twice = [path for before, path in pairwise(self._files) if before.stem == path.stem]
            if twice:
                raise UsageError(
                    f'folder {source} has two frames named {twice[0].stem}, of other suffixes; remove one of each such '
                    f'pair ({len(twice)} in all)'
                )
            if not self._files:
                raise UsageError(f'folder {source} has no frames that end in {", ".join(IMAGES)}')
            self.names, self.count = [path.stem for path in self._files], len(self._files)
            return
        if not self.path.is_file():
            raise UsageError(f'there is no video or folder {source} (in {Path.cwd()})')
        video = cv2.VideoCapture(source)
        if not video.isOpened():
            raise UsageError(f'{source} is no video that OpenCV can read; give another file, or a folder of its frames')
        self.fps, self.count = video.get(cv2.CAP_PROP_FPS) or None, max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
        video.release()

    def name(self, index: int) -> str:
        """Name of a frame, without suffix."""
        return f'{index:05d}' if self.names is None else self.names[index]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Iterates over the frames, uint8, (H, W, 3)."""
        if self.names is not None:
            for path in self._files:
                frame = decode_frame(path.read_bytes())
                if frame is None:
                    raise UsageError(f'{path} is no image that OpenCV can read; replace it')
                yield frame
            return
        video = cv2.VideoCapture(str(self.path))
        try:
            while (read := video.read())[0]:
                yield read[1]
        finally:
            video.release()


class VideoOutput:
    """Writes overlays to a video file, whose size is that of the first frame."""

    def __init__(self, path: str, fps: float) -> None:
        self.path, self.fps = Path(path), fps
        self._writer: cv2.VideoWriter | None = None

    def write(self, name: str, frame: np.ndarray, mask: np.ndarray) -> None:
        """Adds a frame."""
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            codec = cv2.VideoWriter_fourcc(*CODECS[self.path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self.path), codec, self.fps, mask.shape[::-1])
            if not self._writer.isOpened():
                raise UsageError(f'OpenCV cannot write {self.path}; give another suffix, or a folder')
        self._writer.write(paint_objects(frame, mask))

    def close(self) -> None:
        """Finishes the file."""
        if self._writer is not None:
            self._writer.release()


class FolderOutput:
    """Writes index images to ``masks`` and overlays to ``overlays`` in a folder."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def write(self, name: str, frame: np.ndarray, mask: np.ndarray) -> None:
        """Writes both pictures of a frame."""
        write_index_image(self.path / 'masks' / f'{name}.png', mask)
        (self.path / 'overlays').mkdir(exist_ok=True)
        (self.path / 'overlays' / f'{name}.jpg').write_bytes(cv2.imencode('.jpg', paint_objects(frame, mask))[1])

    def close(self) -> None:
        """Does nothing."""


def read_mask(path: str, single_object: bool) -> np.ndarray:
    """Reads the first frame's mask, uint8, (H, W); with ``single_object`` all that is not 0 is object 1.

    Raises:
        UsageError: There is no such file, or its pixels are no object numbers.
    """
    if not Path(path).is_file():
        raise UsageError(f'--mask: there is no file {path} (in {Path.cwd()})')
    try:
        mask = read_object_mask(path, 0 if single_object else None)
    except (ValueError, OSError) as error:
        raise UsageError(
            f'--mask: {error}; --single-object takes all that is not black for one object, of a grey mask with smooth '
            'edges all above 127'
        ) from error
    if not np.isin(mask, (0, 255), invert=True).any():
        raise UsageError(
            f'--mask: {path} shows no object, its values are {np.unique(mask).tolist()}; objects are 1 to 254, and '
            '--single-object takes all that is not 0 for one'
        )
    return mask


def load_model(cfg: Config, checkpoint: str, device: str) -> AOT:
    """Builds the model with its weights.

    Raises:
        UsageError: It is not AOT, or the checkpoint is of another model.
    """
    if type_name(cfg.model) != 'AOT':
        raise UsageError(f'--config: the model must be mmplugins.AOT, got {type_name(cfg.model)}')
    model = MODELS.build(cfg.model).to(device, memory_format=torch.channels_last).eval()  # faster on CPUs
    try:
        load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise UsageError(
            f'--checkpoint: {checkpoint} does not fit the config ({" ".join(lines[:3])[:300]}); convert released '
            'checkpoints with tools/model_converters/aot.py'
        ) from error
    return model


def resizer(cfg: Config, align_corners: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Makes the function that resizes frames as the test pipeline does: all of it but loading and packing."""
    default = [dict(type='mmplugins.ResizeClip', max_short_edge=480, align_corners=align_corners)]
    pipeline = cfg.test_dataloader.dataset.pipeline if 'test_dataloader' in cfg else default
    steps = [step for step in pipeline if type_name(step) not in ('LoadClip', 'LoadClipMasks', 'PackClip')]
    transforms = [TRANSFORMS.build(step) for step in steps]
    in_float = any(step.get('to_float32') for step in pipeline)

    def resize(frame: np.ndarray) -> np.ndarray:
        results = dict(img=[frame.astype(np.float32) if in_float else frame])
        for transform in transforms:
            results = transform(results)
        return results['img'][0]

    return resize


def run(args, cfg: Config) -> int:
    """Tracks through the video; gives the number of frames."""
    frames, mask = Frames(args.source), read_mask(args.mask, args.single_object)
    first = next(iter(frames), None)
    if first is None:
        raise UsageError(f'{args.source} has no frame that OpenCV can read')
    if first.shape[:2] != mask.shape:
        turned = ', whose pixels count as stored, whatever an EXIF orientation tag says' * (frames.names is not None)
        raise UsageError(
            f'--mask: {args.mask} is {mask.shape}, the first frame{turned}, is {first.shape[:2]} (height, width); give '
            "the mask at the video's size"
        )
    model = load_model(cfg, args.checkpoint, args.device)
    if Path(args.out).suffix.lower() in CODECS:
        output = VideoOutput(args.out, args.fps or frames.fps or 24)
    else:
        output = FolderOutput(args.out)
    current: list[np.ndarray] = []

    def kept() -> Iterator[np.ndarray]:
        for frame in frames:
            current[:] = [frame]
            yield frame

    masks = track_video(model, kept(), mask, resizer(cfg, model.network.align_corners))
    index = -1
    try:
        for index, found in enumerate(track(masks, 'tracking', total=frames.count or None)):
            output.write(frames.name(index), current[0], found)
    except ValueError as error:
        raise UsageError(f'{args.source}: {error}') from error
    finally:
        output.close()
    return index + 1


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(description='Track objects through a video.')
    parser.add_argument('source', metavar='VIDEO_OR_FOLDER', help='video file, or folder of frames')
    parser.add_argument('--mask', required=True, help="the first frame's mask: PNG of object numbers")
    parser.add_argument('--config', required=True, help='config file of AOT')
    parser.add_argument('--checkpoint', required=True, help='checkpoint file')
    parser.add_argument('--out', required=True, help='video file (.mp4, .avi, .mkv) or folder to write')
    parser.add_argument('--single-object', action='store_true', help='all of the mask that is not 0 is one object')
    parser.add_argument('--fps', type=float, help="frames/s of the video written (default: the source's, or 24)")
    parser.add_argument('--device', default=get_device(), help='default: %(default)s')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', help='override settings')
    parser.set_defaults(work_dir=None, launcher='none')
    args = parser.parse_args(argv)
    try:
        cfg = load_config(args, __file__)
        check_checkpoint(args.checkpoint, '--checkpoint')
        count = run(args, cfg)
    except UsageError as error:
        sys.exit(f'vos_demo.py: error: {error}')
    print(f'{count} frames tracked, written to {args.out}')


if __name__ == '__main__':
    main()
