"""Packs a clip into what AOT takes (see ``mmplugins.AOT``)."""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData

from mmplugins.hosts import require_host
from mmplugins.registry import TRANSFORMS

from .clip_masks import objects_of


@TRANSFORMS.register_module()
class PackClip(BaseTransform):
    """Packs frames, masks and facts of a clip of training, or of a frame of a test.

    A sample with ``new_objects`` is a frame of a test: its mask, at the original size, is ``gt_sem_seg``, and on the
    video's first frame it is ``ref_sem_seg`` too. On a later one ``ref_sem_seg`` holds the new objects only, if any.

    Required Keys:

    - img (list of np.uint8 or np.float32, shape (H, W, 3))
    - gt_seg_map (list of np.uint8, shape (H, W), or None)
    - num_objects, in training
    - new_objects (list of int), frame_id, in tests

    Packed Keys:

    - inputs: uint8 or float32, as the frames are, shape (T, 3, H, W)
    - data_samples: SegDataSample with ``gt_sem_seg``, int64, (T, H, W), and in tests ``ref_sem_seg``

    Args:
        meta_keys: What goes into the metainfo, if it is there.

    Raises:
        ImportError: mmsegmentation is not installed.
        ValueError: The objects of a clip are not numbered, or a given mask shows none of its objects.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = (
            *('video_name', 'frame_id', 'frame_name', 'num_frames', 'num_objects'),
            *('img_path', 'ori_shape', 'img_shape'),
        ),
    ) -> None:
        require_host('mmseg', type(self).__name__)
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Packs one sample."""
        from mmseg.structures import SegDataSample  # here: the other transforms need no mmseg

        sample = SegDataSample(metainfo={key: results[key] for key in self.meta_keys if key in results})
        if 'new_objects' in results:
            sample.set_data(self._test_fields(results))
            sample.set_metainfo(dict(img_path=results['img_path'][0]))
        else:
            if 'num_objects' not in results:
                raise ValueError('objects must be numbered from 1; put mmplugins.RandomCropClip before PackClip')
            sample.gt_sem_seg = _pixels(np.stack(results['gt_seg_map']))
        frames = np.stack(results['img']).transpose(0, 3, 1, 2)  # (T, 3, H, W)
        return dict(inputs=torch.from_numpy(np.ascontiguousarray(frames)), data_samples=sample)

    def _test_fields(self, results: dict) -> dict[str, PixelData]:
        masks = results['gt_seg_map']
        if masks[0] is None:
            return {}
        mask = np.stack(masks)
        fields = dict(gt_sem_seg=_pixels(mask))
        first = results['frame_id'] == 0
        if first or results['new_objects']:
            given = mask if first else np.where(np.isin(mask, results['new_objects']), mask, 0)
            if not objects_of(given):
                wanted = 'an object' if first else f'one of the objects {results["new_objects"]} that it introduces'
                raise ValueError(
                    f'video {results["video_name"]}: the mask {results["seg_map_path"][0]} must show {wanted}, its '
                    f'values are {np.unique(mask).tolist()}; for masks of 0 and 255 set single_object=True'
                )
            fields['ref_sem_seg'] = _pixels(given)
        return fields

    def __repr__(self) -> str:
        return f'{type(self).__name__}(meta_keys={self.meta_keys})'


def _pixels(mask: np.ndarray) -> PixelData:
    return PixelData(data=torch.from_numpy(mask.astype(np.int64)))
