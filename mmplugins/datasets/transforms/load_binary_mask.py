"""Loads a mask file as labels 0 and 1, or as grey values.

mmseg's LoadAnnotations takes grey values for labels: a 0/255 mask becomes background and pixels that are not valid,
and a JPEG mask any label at all.
"""

import numpy as np
from mmcv.transforms import BaseTransform

from mmplugins.registry import TRANSFORMS

from .image_files import check_not_turned, grey_values, open_image


@TRANSFORMS.register_module()
class LoadBinaryMask(BaseTransform):
    """Loads a mask and thresholds it: 1 (foreground) where its grey value is above the threshold, else 0.

    Colours are turned into grey first; those of a palette that do not tell two parts apart are taken by number, 0 for
    background. An orientation tag of the file is not applied, nor may one turn
    the image: load it with ``color_type='color_ignore_orientation'``. Without ``seg_map_path`` in the results there is
    no mask to load and nothing happens, so that a test pipeline serves mmseg's inferencer too.

    In a test pipeline it belongs after Resize: the metric compares at the mask's own size.

    Required Keys:

    - seg_map_path (optional)
    - img_path, img (optional), to check the orientation of a file on a local disk
    - mask_threshold (optional)

    Added Keys:

    - gt_seg_map (np.uint8), shape (H, W), values 0 and 1, or 0 to 255 with ``grey``
    - seg_fields

    Args:
        threshold: Grey value, 0 to 255. None: the data set's ``mask_threshold``, or 127 if it has none.
        backend_args: Arguments of mmengine's file backend.
        grey: Whether the grey values stay as they are, for ``SoftMask`` at the pipeline's end; no threshold then.

    Raises:
        ValueError: A threshold for grey values; ``reduce_zero_label`` of the data set is set; an image that its
            orientation tag turned; a mask whose alpha channel and colours differ, of more
            pixels than Pillow opens, or of 0 and one value that is not above the threshold.
    """

    def __init__(self, threshold: int | None = None, backend_args: dict | None = None, grey: bool = False) -> None:
        if grey and threshold is not None:
            raise ValueError(f'grey=True keeps the grey values, threshold={threshold} would not; give one of them')
        self.threshold = threshold
        self.grey = grey
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Loads the mask of one sample."""
        path = results.get('seg_map_path')
        if path is None:
            return results
        if results.get('reduce_zero_label'):
            raise ValueError(
                f'{path}: reduce_zero_label of the data set leaves out label 0, which is the background of a binary '
                'mask; set reduce_zero_label=False'
            )
        threshold = results.get('mask_threshold', 127) if self.threshold is None else self.threshold
        check_not_turned(results)
        with open_image(path, self.backend_args) as image:
            mask = grey_values(image, threshold, path)
        largest = int(mask.max(initial=0))
        if 0 < largest <= threshold and ((mask == 0) | (mask == largest)).all():
            raise ValueError(
                f'{path}: all background, its values are 0 and {largest}, the threshold is {threshold}; save it as 0 '
                'and 255, or set threshold=0 (mask_threshold=0 of the data set) if all masks are stored so'
            )
        results['gt_seg_map'] = mask if self.grey else (mask > threshold).astype(np.uint8)
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(threshold={self.threshold}, backend_args={self.backend_args}, grey={self.grey})'
