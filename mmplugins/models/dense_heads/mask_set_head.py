"""What makes mmdet's MaskFormer and Mask2Former heads fast and small: bool masks, and all layers in one criterion."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Real

import torch
from mmdet.models.task_modules.samplers import MaskPseudoSampler
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.models.losses.averages import MaskHeadAverages
from mmplugins.models.losses.set_criterion import SetCriterion
from mmplugins.models.losses.toolbox import BorrowedLoss, class_weights

from .mask_targets import check_masks, check_sizes, panoptic_targets, valid_pixels
from .set_head import SetHead


class MaskSetHead(SetHead):
    """To stand before mmdet's MaskFormerHead or Mask2FormerHead among the bases of a class.

    With another sampler than ``MaskPseudoSampler`` the losses go mmdet's own way; see the base class.

    Args:
        *args: What mmdet's head takes.
        ignore_aware: Whether pixels without a label, crowd regions and padding are ignored in matching and losses.
        **kwargs: What mmdet's head takes.

    Raises:
        ValueError: ``class_weight`` of ``loss_cls`` is not a list with a number for each class and no-object.
    """

    steps = ('_loss_by_feat_single', 'get_targets', '_get_targets_single')

    def __init__(self, *args, ignore_aware: bool = False, **kwargs) -> None:
        # As ConfigDict: mmdet reads attributes of its configs, and changes some in place.
        super().__init__(*args, **ConfigDict(kwargs))
        self.ignore_aware = ignore_aware
        self.criterion = self.build_criterion() if self.train_cfg else None

    @abstractmethod
    def build_mask_loss(self, loss_mask: BorrowedLoss | None, loss_dice: BorrowedLoss | None) -> nn.Module:
        """Builds the mask loss.

        Args:
            loss_mask: What to call instead of the built-in loss on points or pixels, or None.
            loss_dice: What to call instead of the built-in dice loss, or None.
        """

    def build_criterion(self) -> SetCriterion:
        """Builds the criterion from what mmdet's constructor built."""
        weights = self.class_weight
        if not isinstance(weights, Sequence) or not all(isinstance(weight, Real) for weight in weights):
            raise ValueError(f'class_weight of loss_cls must be a list of numbers, got {weights!r}')
        weights = class_weights(weights, self.num_classes)
        self._built_in = self.built_in_losses(loss_cls={'class_weight': list(self.class_weight)})
        borrowed = {name: None if name in self._built_in else BorrowedLoss(getattr(self, name)) for name in self.equal}
        return SetCriterion(
            num_classes=self.num_classes,
            assigner=self.assigner,
            losses=('labels', 'masks'),
            mask_loss=self.build_mask_loss(borrowed['loss_mask'], borrowed['loss_dice']),
            class_weight=weights,
            loss_cls=borrowed['loss_cls'],
            averages=MaskHeadAverages(),
        )

    def preprocess_gt(
        self, batch_gt_instances: InstanceList, batch_gt_semantic_segs: Sequence[PixelData | None]
    ) -> InstanceList:
        """Joins things and stuff.

        Args:
            batch_gt_instances: For each image ``labels`` (G,) and ``masks``, mmdet's or a tensor (G, H, W).
            batch_gt_semantic_segs: For each image ``sem_seg`` (1, H, W), or None.

        Returns:
            For each image ``labels`` and ``masks``, bool (n, H, W).
        """
        sem_segs = [None if seg is None else seg.sem_seg for seg in batch_gt_semantic_segs]
        return panoptic_targets(batch_gt_instances, sem_segs, self.num_things_classes, self.num_stuff_classes)

    def targets(self, batch_data_samples: SampleList) -> list[dict[str, Tensor]]:
        """Returns the targets of the criterion.

        Args:
            batch_data_samples: For each image ``gt_instances``, for panoptic data ``gt_sem_seg``, and, used if
                ``ignore_aware``, ``ignored_instances``.

        Returns:
            For each image ``labels`` (G,), ``masks``, bool (G, H, W), and, if ``ignore_aware``, ``valid``, bool (H, W).

        Raises:
            ValueError: An image has no masks, or masks of another size than the padded input.
        """
        segs = [sample.gt_sem_seg if 'gt_sem_seg' in sample else None for sample in batch_data_samples]
        instances, metas = zip(*((sample.gt_instances, sample.metainfo) for sample in batch_data_samples), strict=True)
        check_masks(instances, metas)
        instances = self.preprocess_gt(instances, segs)
        check_sizes(instances, metas)
        targets = [{'labels': one.labels, 'masks': one.masks} for one in instances]
        if self.ignore_aware:
            for sample, target, seg in zip(batch_data_samples, targets, segs, strict=True):
                ignored = sample.ignored_instances if 'ignored_instances' in sample else {}
                target['valid'] = valid_pixels(
                    sample.metainfo.get('batch_input_shape', target['masks'].shape[-2:]),
                    target['masks'].device,
                    sample.metainfo,
                    None if seg is None else seg.sem_seg,
                    crowds=ignored.masks if 'masks' in ignored else None,
                )
        return targets

    def loss(self, x: Sequence[Tensor], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Predicts and computes the losses.

        Args:
            x: Features of the backbone or neck, (B, C, h, w) each.
            batch_data_samples: See ``targets``.

        Returns:
            The losses, see the class.
        """
        # Targets first: what they wait for on the device is then not behind the network.
        targets = self.targets(batch_data_samples)
        scores, masks = self(x, batch_data_samples)
        return self.loss_by_feat(scores, masks, targets, [sample.metainfo for sample in batch_data_samples])

    def loss_by_feat(
        self,
        all_cls_scores: Tensor | Sequence[Tensor],
        all_mask_preds: Tensor | Sequence[Tensor],
        batch_gt_instances: InstanceList | Sequence[Mapping[str, Tensor]],
        batch_img_metas: list[dict],
        match_coords: Tensor | None = None,
        loss_coords: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Computes the losses of all decoder layers.

        Args:
            all_cls_scores: Logits (L, B, Q, C+1), or a list of layers.
            all_mask_preds: Mask logits (L, B, Q, h, w), or a list of layers.
            batch_gt_instances: For each image ``labels`` (G,) and ``masks`` (G, H, W), bool or 0 and 1, in mmdet's
                InstanceData; or what ``targets`` returns.
            batch_img_metas: For each image a dict.
            match_coords: See ``SetCriterion``; for tests.
            loss_coords: See ``SetCriterion``; for tests.

        Returns:
            The losses, see the class.
        """
        targets = [
            one if isinstance(one, Mapping) else {'labels': one.labels, 'masks': one.masks}
            for one in batch_gt_instances
        ]
        problem = self.why_toolbox()
        if problem is not None:
            self.tell_once(problem + ('; no pixel is ignored' if self.ignore_aware else ''))
            instances = [InstanceData(labels=one['labels'], masks=one['masks'].long()) for one in targets]
            return super().loss_by_feat(all_cls_scores, all_mask_preds, instances, batch_img_metas)
        self.update_criterion(self._built_in)
        logits = all_cls_scores if isinstance(all_cls_scores, Tensor) else torch.stack(all_cls_scores)
        outputs = {'logits': logits, 'masks': all_mask_preds}
        return self.criterion(outputs, targets, batch_img_metas, match_coords, loss_coords)

    def predict(self, x: Sequence[Tensor], batch_data_samples: SampleList) -> tuple[Tensor, UpsampledLogits]:
        """Predicts what a fusion head makes results of.

        Args:
            x: Features of the backbone or neck, (B, C, h, w) each.
            batch_data_samples: For each image ``batch_input_shape``, the size of the padded input.

        Returns:
            Logits (B, Q, C+1), and mask logits of the head's own resolution that stand for those of the padded input,
            (B, Q, H, W): our fusion head upsamples what it needs, mmdet's gets an image's masks upsampled when it
            comes to it, and ``full()`` upsamples all.
        """
        scores, masks = self(x, batch_data_samples)
        return scores[-1], UpsampledLogits(masks[-1], batch_data_samples[0].metainfo['batch_input_shape'])

    def why_toolbox(self) -> str | None:
        """Returns why ``SetCriterion`` would not compute what this head's losses do; None if it would."""
        if type(self.sampler) is not MaskPseudoSampler:
            return f'its sampler is {type(self.sampler).__name__}, not MaskPseudoSampler'
        return super().why_toolbox()
