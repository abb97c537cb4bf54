"""Test-time augmentation for mmseg's segmentors, with one merged map that everything reads.

Follows mmseg's ``SegTTAModel``: the mean of the augmentations' probabilities. Deliberate differences: ``seg_logits``
are the merged map too, where mmseg leaves those of the last augmentation; the maps of a head of one channel have had
their sigmoid when they come here, and mmseg takes it again, so that all is foreground; scores of mask classification,
which are no logits, are averaged as they are, as Mask2Former's released code does (``SemanticSegmentorWithTTA``).
"""

from collections.abc import Sequence

import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import Mask2FormerHead, MaskFormerHead
from mmseg.models.segmentors import SegTTAModel as ToolboxSegTTAModel
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList
from torch import Tensor

from mmplugins.registry import MODELS


@MODELS.register_module()
class SegTTAModel(ToolboxSegTTAModel):
    """Averages the predictions of an image's augmentations: ``tta_model = dict(type='mmplugins.SegTTAModel')``.

    The merged data sample is the first augmentation's, with

    - ``seg_logits``, (C, H, W), as a test without augmentation has them: of a head with one channel the mean
      probability of the foreground; of mask classification (MaskFormer, Mask2Former) the mean scores; of other heads
      the logarithm of the mean softmax, whose softmax is that mean.
    - ``pred_sem_seg``, (1, H, W): where the probability is above the head's ``threshold``, or the class of the
      largest score.

    Load the labels behind the flips and resizes of ``TestTimeAug``, as mmseg's configs do.

    Args:
        **kwargs: What mmengine's BaseTTAModel takes: ``module``, the segmentor, and ``data_preprocessor``.

    Raises:
        ValueError: In ``merge_preds``: the augmentations' maps differ in size, or there are none (ClassMapSegmentor).
    """

    def merge_preds(self, data_samples_list: Sequence[SampleList]) -> SampleList:
        """Merges the predictions of each image.

        Args:
            data_samples_list: For each image the data samples of its augmentations, ``seg_logits`` (C, H, W) of the
                image's own size and not flipped, as EncoderDecoder gives them.

        Returns:
            For each image a data sample.
        """
        return [self._merge(samples) for samples in data_samples_list]

    def _merge(self, samples: SampleList) -> SegDataSample:
        merged, head = samples[0], self.module.decode_head
        if not all('seg_logits' in sample for sample in samples):
            raise ValueError(
                f'augmentations are merged by their seg_logits, which {type(self.module).__name__} does not predict; '
                "set model.type='EncoderDecoder' in the config"
            )
        shapes = [tuple(sample.seg_logits.data.shape) for sample in samples]
        if len(set(shapes)) > 1:
            raise ValueError(
                f'the augmentations of {merged.get("img_path")} give maps of {shapes}; they must have the size of the '
                "image: keep 'ori_shape' in the meta_keys of PackSegInputs as it was read"
            )
        logits = self.module.out_channels > 1 and not isinstance(head, MaskFormerHead | Mask2FormerHead)
        mean = _mean([sample.seg_logits.data for sample in samples], softmax=logits)  # (C, H, W)
        if self.module.out_channels == 1:
            label = (mean > head.threshold).to(mean)
        else:
            label = mean.argmax(0, keepdim=True)
        if logits:
            mean = mean.clamp(min=torch.finfo(mean.dtype).tiny).log()
        merged.set_data({'seg_logits': PixelData(data=mean), 'pred_sem_seg': PixelData(data=label)})
        return merged


def _mean(maps: Sequence[Tensor], softmax: bool) -> Tensor:
    """Averages maps (C, H, W), or their softmax, in float32."""
    total = 0
    for each in maps:
        total = total + (each.float().softmax(0) if softmax else each.float())
    return total / len(maps)
