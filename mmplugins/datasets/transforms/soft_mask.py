"""Turns a packed grey mask into a soft target.

PFNet's released training (datasets.py, train.py) reads masks as grey images and divides them by 255; nothing thresholds
them. mmseg's PackSegInputs makes integers of all label maps, so that the division has to come after it.
"""

import torch
from mmcv.transforms import BaseTransform

from mmplugins.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SoftMask(BaseTransform):
    """Divides the grey values of a packed mask by 255; the last step of a training pipeline.

    ``LoadBinaryMask`` with ``grey=True`` loads such a mask. Images must not be padded afterwards: a batch of one size
    only, as padding of masks is 255, which is no soft target.

    Required Keys:

    - data_samples, with ``gt_sem_seg`` (1, H, W), integer, 0 to 255

    Modified Keys:

    - data_samples: ``gt_sem_seg`` becomes float32, 0 to 1

    Raises:
        ValueError: There is no packed mask, or it is not of integers between 0 and 255.
    """

    def transform(self, results: dict) -> dict:
        """Converts the mask of one sample."""
        packed = results.get('data_samples')
        if packed is None or 'gt_sem_seg' not in packed:
            raise ValueError('SoftMask takes packed masks: put it after PackSegInputs, and load a mask before')
        mask = packed.gt_sem_seg.data
        if mask.is_floating_point() or mask.min() < 0 or mask.max() > 255:
            raise ValueError(
                f'SoftMask takes grey values, integers from 0 to 255, got {mask.dtype} from {mask.min().item()} to '
                f'{mask.max().item()}; load the mask by LoadBinaryMask with grey=True'
            )
        packed.gt_sem_seg.data = mask.to(torch.float32) / 255
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
