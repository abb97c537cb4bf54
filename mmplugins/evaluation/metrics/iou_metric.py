"""mmseg's metric of semantic segmentation, with areas that are counted instead of rounded.

mmseg counts by ``torch.histc`` in float32, which stops at 2^24 = 16,777,216 pixels of a class (a photo has 24 million;
with several threads, at as many in each thread), and adds images in float32, whose totals lose single pixels beyond it.
As of onedl-mmsegmentation 1.4.2, mmsegmentation 1.2.2 and PyTorch 2.13.
"""

from collections.abc import Sequence

from mmseg.evaluation.metrics import IoUMetric as _IoUMetric
from torch import Tensor

from mmplugins.evaluation.functional import class_areas
from mmplugins.registry import METRICS


@METRICS.register_module()
class IoUMetric(_IoUMetric):
    """mIoU, mDice, mFscore and accuracies, in %, of images of any size; several times faster than mmseg's.

    Arguments, data samples and names of the results are those of mmseg's IoUMetric, and so are the values, as long as
    no class has more than 2^24 pixels in all images together.
    """

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Counts the pixels of a batch.

        Args:
            data_batch: Not read.
            data_samples: Of mmseg, as dicts, with ``pred_sem_seg`` and ``gt_sem_seg``, (1, H, W) of integers.

        Raises:
            ValueError: An image has no truth, or one of another size than the prediction; the text names it.
        """
        for sample in () if self.format_only else data_samples:
            image = sample.get('img_path', 'an image')
            if 'gt_sem_seg' not in sample:
                raise ValueError(
                    f'{image} has no gt_sem_seg to measure: give the test pipeline LoadAnnotations, behind Resize, or '
                    'the metric format_only=True'
                )
            predicted, labelled = (tuple(sample[key]['data'].shape[-2:]) for key in ('pred_sem_seg', 'gt_sem_seg'))
            if predicted != labelled:
                raise ValueError(
                    f'{image}: the prediction is {predicted}, the truth {labelled} (height, width); put '
                    "LoadAnnotations behind Resize in the test pipeline, as predictions have the image's own size"
                )
        super().process(data_batch, data_samples)

    @staticmethod
    def intersect_and_union(
        pred_label: Tensor, label: Tensor, num_classes: int, ignore_index: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Counts the pixels of an image by class.

        Args:
            pred_label: Predicted classes, integer, (H, W).
            label: True classes, of the same shape.
            num_classes: C.
            ignore_index: Label of pixels that do not count.

        Returns:
            Areas of intersection, union, prediction and truth, float64 (C,), on the CPU.

        Raises:
            ValueError: The maps have different shapes.
        """
        areas = class_areas(pred_label, label, num_classes, ignore_index)
        intersection, predicted, labelled = (area.cpu().double() for area in areas)
        return intersection, predicted + labelled - intersection, predicted, labelled
