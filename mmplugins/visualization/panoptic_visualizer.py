"""Pictures of panoptic segmentations with mmdet, also of those without any segment."""

from collections.abc import Sequence

import numpy as np
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import PixelData

from mmplugins.registry import VISUALIZERS


@VISUALIZERS.register_module()
class PanopticVisualizer(DetLocalVisualizer):
    """mmdet's visualizer; where no pixel belongs to a segment, it shows the image, and mmdet's raises.

    A model at the start of its training predicts such segmentations.

    Args:
        *args: What mmdet's DetLocalVisualizer takes.
        **kwargs: Likewise.
    """

    def _draw_panoptic_seg(
        self,
        image: np.ndarray,
        panoptic_seg: PixelData,
        classes: Sequence[str] | None,
        palette: Sequence[tuple[int, int, int]] | None,
    ) -> np.ndarray:
        """Draws a segmentation over an image.

        Args:
            image: RGB, uint8, (H, W, 3).
            panoptic_seg: ``sem_seg`` (1, H, W), ids of segments; the number of classes where there is none.
            classes: Names of the classes.
            palette: A colour for each class.

        Returns:
            The picture, RGB, uint8, (H, W, 3).
        """
        void = len(classes)
        if 'label_names' in panoptic_seg:  # classes that were given as text
            void = panoptic_seg.metainfo.get('ignore_index', len(panoptic_seg.metainfo['label_names']))
        if (panoptic_seg.sem_seg == void).all():
            return image
        return super()._draw_panoptic_seg(image, panoptic_seg, classes, palette)
