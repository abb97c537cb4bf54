"""Follows objects through a video: the mask of the first frame is given, those of all others are found."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS
from mmengine.runner import load_checkpoint
from rich.progress import track

from mmplugins.datasets.transforms.clip_masks import read_object_mask
from mmplugins.engine.launch import UsageError, type_name
from mmplugins.models.segmentors.aot import AOT, track_video

from .outputs import FolderOutput, VideoOutput, is_video
from .sources import Frames


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


def track_objects(
    cfg: Config,
    checkpoint: str,
    source: str,
    mask: str,
    out: str,
    device: str,
    single_object: bool = False,
    fps: float | None = None,
) -> int:
    """Tracks through a video and writes what is found, with a progress bar.

    Args:
        cfg: Config of AOT; its default scope is set.
        checkpoint: Checkpoint file.
        source: Video file, or folder of frames.
        mask: The first frame's mask, a PNG of object numbers.
        out: Video file or folder to write.
        device: As ``torch.device`` takes it.
        single_object: Whether all of the mask that is not 0 is one object.
        fps: Frames a second of a video that is written; None: the source's, or 24.

    Returns:
        The number of frames.

    Raises:
        UsageError: Something of the above cannot be used.
    """
    frames, first_mask = Frames(source), read_mask(mask, single_object)
    first = next(iter(frames), None)
    if first is None:
        raise UsageError(f'{source} has no frame that OpenCV can read')
    if first.shape[:2] != first_mask.shape:
        turned = ', whose pixels count as stored, whatever an EXIF orientation tag says' * (frames.names is not None)
        raise UsageError(
            f'--mask: {mask} is {first_mask.shape}, the first frame{turned}, is {first.shape[:2]} (height, width); '
            "give the mask at the video's size"
        )
    frames.tell_orientation()
    model = load_model(cfg, checkpoint, device)
    output = VideoOutput(out, fps or frames.fps or 24) if is_video(out) else FolderOutput(out)
    current: list[np.ndarray] = []

    def kept() -> Iterator[np.ndarray]:
        for frame in frames:
            current[:] = [frame]
            yield frame

    masks = track_video(model, kept(), first_mask, resizer(cfg, model.network.align_corners))
    index = -1
    try:
        for index, found in enumerate(track(masks, 'tracking', total=frames.count or None)):
            output.write(frames.name(index), current[0], found)
    except ValueError as error:
        raise UsageError(f'{source}: {error}') from error
    finally:
        output.close()
    return index + 1
