"""Tracks the objects of a video outside of a test: frames in, masks out, one by one."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from .segmentor import AOT


def track_video(
    model: AOT, frames: Iterable[np.ndarray], mask: np.ndarray, resize: Callable[[np.ndarray], np.ndarray]
) -> Iterator[np.ndarray]:
    """Tracks the objects of the first frame through a video.

    Memory does not grow with the video, unless ``test_cfg`` of the model has a ``gap`` and no ``max_stored``.

    Args:
        model: In evaluation mode; its ``test_cfg`` counts.
        frames: BGR, uint8, each (H, W, 3), all of one size; read one at a time.
        mask: Object of each pixel of the first frame, uint8, shape (H, W): 0 background, 255 ignored.
        resize: Resizes a frame to the size of the network's input.

    Yields:
        The mask of each frame, the first included, uint8, shape (H, W).

    Raises:
        ValueError: The mask has no object or is of another size than the first frame, or frames differ in size.

    Examples:
        >>> def segment(model, frames, mask):
        ...     resize = TRANSFORMS.build(dict(type='mmplugins.ResizeClip', max_short_edge=480))
        ...     for mask in track_video(model, frames, mask, lambda frame: resize(dict(img=[frame]))['img'][0]):
        ...         yield mask
    """
    if not np.isin(mask, (0, 255), invert=True).any():
        raise ValueError(f'the mask shows no object, its values are {np.unique(mask).tolist()}; objects are 1 to 254')
    for index, frame in enumerate(frames):
        if frame.shape[:2] != mask.shape:
            whose = 'the mask' if index == 0 else 'the frames before'
            raise ValueError(f'frame {index} is {frame.shape[:2]}, {whose} {mask.shape} (height, width)')
        sample = SegDataSample(metainfo=dict(frame_id=index, ori_shape=mask.shape))
        if index == 0:
            sample.ref_sem_seg = PixelData(data=torch.from_numpy(mask.astype(np.int64))[None])
        image = torch.from_numpy(np.ascontiguousarray(resize(frame).transpose(2, 0, 1)))  # (3, h, w)
        (result,) = model.test_step(dict(inputs=[image[None]], data_samples=[sample]))
        yield result.pred_sem_seg.data[0].cpu().numpy()
