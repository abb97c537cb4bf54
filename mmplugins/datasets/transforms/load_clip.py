"""Loads the frames of a clip, and the masks that belong to frames.

In mmcv a sample is one image; here the keys ``img`` and ``gt_seg_map`` hold lists, one entry a frame, and
``TransformBroadcaster`` of mmcv applies any of its transforms to all frames alike.
"""

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio

from mmplugins.registry import TRANSFORMS

from .clip_masks import check_mask_size, read_object_mask
from .image_files import decode_frame


@TRANSFORMS.register_module()
class LoadClip(BaseTransform):
    """Loads the frames of a clip with OpenCV. Their pixels count as they are stored, as those of masks do: an EXIF
    orientation tag turns nothing.

    Required Keys:

    - img_path (list of str), the frames
    - video_name
    - gt_seg_map, seg_map_path (optional), as ``SampleClip`` returns them, to compare sizes

    Added Keys:

    - img (list of np.uint8 or np.float32, shape (H, W, 3), BGR, 0 to 255)
    - ori_shape, (H, W)
    - img_shape, (H, W)

    Args:
        backend_args: Arguments of mmengine's file backend.
        to_float32: Whether frames become float32, so that a cubic resize keeps its overshoot.

    Raises:
        ValueError: A file is no image, frames differ in size, or a mask has another size than its frame.
    """

    def __init__(self, backend_args: dict | None = None, to_float32: bool = False) -> None:
        self.backend_args = backend_args
        self.to_float32 = to_float32

    def transform(self, results: dict) -> dict:
        """Loads one clip."""
        paths, video = results['img_path'], results['video_name']
        frames = []
        for path in paths:
            frame = decode_frame(fileio.get(path, backend_args=self.backend_args))
            if frame is None:
                raise ValueError(f'video {video}: {path} is no image that can be read; replace it')
            frames.append(frame.astype(np.float32) if self.to_float32 else frame)
        size = frames[0].shape[:2]
        for path, frame in zip(paths, frames, strict=True):
            if frame.shape[:2] != size:
                raise ValueError(
                    f'video {video}: the frame {path} is {frame.shape[:2]}, {paths[0]} is {size} (height, width); '
                    'frames of a video must be of one size'
                )
        for index, mask in enumerate(results.get('gt_seg_map', ())):
            check_mask_size(mask, size, video, results['seg_map_path'][index], paths[index])
        results['img'] = frames
        results['ori_shape'] = results['img_shape'] = size
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(backend_args={self.backend_args}, to_float32={self.to_float32})'


@TRANSFORMS.register_module()
class LoadClipMasks(BaseTransform):
    """Loads the masks of a clip's frames, at their own size, where there are any.

    In a test pipeline it belongs after the resize: masks are given, and predictions compared, at the original size.

    Required Keys:

    - seg_map_path (list of str or None), one entry a frame
    - img_path, ori_shape, video_name
    - mask_threshold (optional), see ``read_object_mask``

    Added Keys:

    - gt_seg_map (list of np.uint8, shape (H, W), or None)
    - seg_fields

    Args:
        backend_args: Arguments of mmengine's file backend.

    Raises:
        ValueError: A mask has another size than its frame, or no object numbers.
    """

    def __init__(self, backend_args: dict | None = None) -> None:
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Loads the masks of one clip."""
        masks = []
        for path, frame_path in zip(results['seg_map_path'], results['img_path'], strict=True):
            mask = None
            if path is not None:
                mask = read_object_mask(path, results.get('mask_threshold'), self.backend_args)
                check_mask_size(mask, tuple(results['ori_shape'][:2]), results['video_name'], path, frame_path)
            masks.append(mask)
        results['gt_seg_map'] = masks
        results['seg_fields'] = ['gt_seg_map']
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(backend_args={self.backend_args})'
