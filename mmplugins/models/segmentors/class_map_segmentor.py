"""mmseg's EncoderDecoder for mask transformers, with predictions of labels alone.

mmseg keeps the scores of all classes of every image at its original size, ``seg_logits``: 12 GB for 150 classes and 20
megapixels. Metrics and pictures read the labels. Deliberate differences from ``EncoderDecoder``: there are no
``seg_logits``; labels may differ from its where the scores of two classes are equal to six digits.
"""

from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from mmseg.utils import OptSampleList, SampleList
from torch import Tensor

from mmplugins.functional.masks.class_maps import find_classes
from mmplugins.functional.masks.resized import ResizedMasks
from mmplugins.registry import MODELS


@MODELS.register_module()
class ClassMapSegmentor(EncoderDecoder):
    """Predicts ``pred_sem_seg``, int64 (1, H, W), and no ``seg_logits``; in training it is EncoderDecoder.

    Args:
        *args: What mmseg's EncoderDecoder takes.
        **kwargs: What mmseg's EncoderDecoder takes; ``decode_head`` is ``mmplugins.Mask2FormerSegHead`` or
            ``mmplugins.MaskFormerSegHead``, and ``test_cfg`` has mode 'whole'.

    Raises:
        ValueError: The head is another one, or aligns corners, or the mode is 'slide'.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        name, head = type(self).__name__, self.decode_head
        if not hasattr(head, 'predict_queries') or head.align_corners:
            raise ValueError(
                f'{name} needs a decode_head of type mmplugins.Mask2FormerSegHead or mmplugins.MaskFormerSegHead with '
                f'align_corners=False, got {type(head).__name__} with align_corners={head.align_corners}; take '
                'EncoderDecoder for it'
            )
        if (self.test_cfg or {}).get('mode', 'whole') != 'whole':
            raise ValueError(
                f"{name} sees an image as a whole, got the mode {self.test_cfg['mode']!r}; set test_cfg.mode='whole' "
                'or take EncoderDecoder, which adds up the scores of slides'
            )

    def predict(self, inputs: Tensor, data_samples: OptSampleList = None) -> SampleList:
        """Predicts the labels of a batch.

        Args:
            inputs: Images, (N, 3, H, W).
            data_samples: For each image what mmseg's pipeline says of its size; None: images as they are.

        Returns:
            For each image its data sample with ``pred_sem_seg``.
        """
        if data_samples is None:
            shape = tuple(inputs.shape[2:])
            meta = {'ori_shape': shape, 'img_shape': shape, 'pad_shape': shape}
            data_samples = [SegDataSample(metainfo=meta) for _ in inputs]
        metas = [sample.metainfo for sample in data_samples]
        scores, masks = self.decode_head.predict_queries(self.extract_feat(inputs), metas, self.test_cfg)
        for share, logits, sample in zip(scores, masks.logits, data_samples, strict=True):
            meta = sample.metainfo
            left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
            kept = slice(top, masks.size[0] - bottom), slice(left, masks.size[1] - right)
            resized = ResizedMasks(logits, [(masks.size, masks.size)])
            labels = find_classes(resized, share, kept, tuple(meta['ori_shape'][:2]))
            if meta.get('flip'):
                labels = labels.flip(1 if meta['flip_direction'] == 'horizontal' else 0)
            sample.set_data({'pred_sem_seg': PixelData(data=labels[None])})
        return data_samples
