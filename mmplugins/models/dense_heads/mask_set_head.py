"""What makes mmdet's MaskFormer and Mask2Former heads fast and small: bool masks, and all layers in one criterion."""

from abc import abstractmethod
from collections.abc import Sequence
from numbers import Real

import torch
from mmdet.models.losses import CrossEntropyLoss, DiceLoss
from mmdet.models.task_modules.samplers import MaskPseudoSampler
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import InstanceList
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from .mask_criterion import BorrowedLoss, MaskCriterion
from .mask_targets import check_masks, check_sizes, panoptic_targets, participating_pixels

STEPS = ('_loss_by_feat_single', 'get_targets', '_get_targets_single')  # of mmdet's loss, that a subclass may change


class MaskSetHead:
    """To stand before mmdet's MaskFormerHead or Mask2FormerHead among the bases of a class.

    ``loss_by_feat`` goes through ``SetCriterion``. With another sampler than ``MaskPseudoSampler``, or if a subclass
    overrides a step of mmdet's loss, it goes mmdet's own way, and says so once in the log.

    Args:
        *args: What mmdet's head takes.
        ignore_aware: Whether pixels without a label, crowd regions and padding take no part in matching and losses.
        **kwargs: What mmdet's head takes.

    Raises:
        ValueError: ``class_weight`` of ``loss_cls`` is not a list with a number for each class and no-object.
    """

    toolbox: type  # mmdet's head

    def __init__(self, *args, ignore_aware: bool = False, **kwargs) -> None:
        # As ConfigDict: mmdet reads attributes of its configs, and changes some in place.
        super().__init__(*args, **ConfigDict(kwargs))
        self.ignore_aware = ignore_aware
        self.criterion = self.build_criterion() if self.train_cfg else None
        self._told = False

    @abstractmethod
    def build_mask_loss(self, loss_mask: BorrowedLoss | None, loss_dice: BorrowedLoss | None) -> nn.Module:
        """Builds the mask loss.

        Args:
            loss_mask: What to call instead of the built-in loss on points or pixels, or None.
            loss_dice: What to call instead of the built-in dice loss, or None.
        """

    @abstractmethod
    def knows_loss_mask(self) -> bool:
        """Whether the built-in loss on points or pixels is ``self.loss_mask``, up to its weight."""

    def build_criterion(self) -> MaskCriterion:
        """Builds the criterion from what mmdet's constructor built."""
        weights = self.class_weight
        if not isinstance(weights, Sequence) or not all(isinstance(weight, Real) for weight in weights):
            raise ValueError(f'class_weight of loss_cls must be a list of numbers, got {weights!r}')
        if len(weights) != self.num_classes + 1:
            raise ValueError(
                f'class_weight of loss_cls needs {self.num_classes + 1} numbers, one for each of {self.num_classes} '
                f'classes and one for no-object, got {len(weights)}'
            )
        known = {
            'loss_cls': _is_softmax_cross_entropy(self.loss_cls, weights),
            'loss_mask': self.knows_loss_mask(),
            'loss_dice': _is_dice_of_ones(self.loss_dice),
        }
        borrowed = {name: None if known[name] else BorrowedLoss(getattr(self, name)) for name in known}
        self._built_in = [name for name in known if known[name]]
        return MaskCriterion(
            num_classes=self.num_classes,
            assigner=self.assigner,
            class_weight=weights,
            mask_loss=self.build_mask_loss(borrowed['loss_mask'], borrowed['loss_dice']),
            loss_cls=borrowed['loss_cls'],
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

    def loss(self, x: Sequence[Tensor], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Predicts and computes the losses.

        Args:
            x: Features of the backbone or neck, (B, C, h, w) each.
            batch_data_samples: For each image ``gt_instances``, for panoptic data ``gt_sem_seg``, and, used if
                ``ignore_aware``, ``ignored_instances``.

        Returns:
            The losses, see the class.

        Raises:
            ValueError: An image has no masks, or masks of another size than the padded input.
        """
        # Targets first: what they wait for on the device is then not behind the network.
        metas = [sample.metainfo for sample in batch_data_samples]
        sem_segs = [sample.gt_sem_seg if 'gt_sem_seg' in sample else None for sample in batch_data_samples]
        instances = [sample.gt_instances for sample in batch_data_samples]
        check_masks(instances, metas)
        targets = self.preprocess_gt(instances, sem_segs)
        check_sizes(targets, metas)
        options = {}
        if self.ignore_aware:
            options['valid'] = [
                self._valid_pixels(*each) for each in zip(batch_data_samples, targets, metas, strict=True)
            ]
        scores, masks = self(x, batch_data_samples)
        return self.loss_by_feat(scores, masks, targets, metas, **options)

    def _valid_pixels(self, sample: DetDataSample, target: InstanceData, meta: dict) -> Tensor:
        """Tells which pixels of an image take part, bool (H, W)."""
        size = meta.get('batch_input_shape', target.masks.shape[-2:])
        sem_seg = sample.gt_sem_seg.sem_seg if 'gt_sem_seg' in sample else None
        ignored = sample.ignored_instances if 'ignored_instances' in sample else {}
        crowds = ignored.masks if 'masks' in ignored else None
        return participating_pixels(size, target.masks.device, meta, sem_seg, crowds=crowds)

    def loss_by_feat(
        self,
        all_cls_scores: Tensor | Sequence[Tensor],
        all_mask_preds: Tensor | Sequence[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        valid: Sequence[Tensor] | None = None,
        match_coords: Tensor | None = None,
        loss_coords: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Computes the losses of all decoder layers.

        Args:
            all_cls_scores: Logits (L, B, Q, C+1), or a list of layers.
            all_mask_preds: Mask logits (L, B, Q, h, w), or a list of layers.
            batch_gt_instances: For each image ``labels`` (G,) and ``masks`` (G, H, W), bool or 0 and 1.
            batch_img_metas: For each image a dict.
            valid: For each image bool (H, W), False where pixels take no part; None: all do.
            match_coords: See ``SetCriterion``; for tests.
            loss_coords: See ``SetCriterion``; for tests.

        Returns:
            The losses, see the class.
        """
        problem = self._why_not_at_once()
        if problem is not None:
            return self._toolbox_loss(problem, all_cls_scores, all_mask_preds, batch_gt_instances, batch_img_metas)
        targets = [{'labels': one.labels, 'masks': one.masks} for one in batch_gt_instances]
        for target, pixels in zip(targets, valid or (), strict=False):
            target['valid'] = pixels
        self.criterion.assigner = self.assigner
        for name in self._built_in:  # a hook may have changed the weight
            self.criterion.loss_weights[name] = getattr(self, name).loss_weight
        logits = all_cls_scores if isinstance(all_cls_scores, Tensor) else torch.stack(all_cls_scores)
        outputs = {'logits': logits, 'masks': all_mask_preds}
        losses = self.criterion(outputs, targets, batch_img_metas, match_coords, loss_coords)
        return {name: value for name, value in losses.items() if 'loss' in name}

    def _why_not_at_once(self) -> str | None:
        """Says why ``SetCriterion`` would not compute what this head's losses do; None if it would."""
        overridden = [name for name in STEPS if getattr(type(self), name) is not getattr(self.toolbox, name)]
        if overridden:
            return f'{type(self).__name__} overrides {overridden}'
        if type(self.sampler) is not MaskPseudoSampler:
            return f'its sampler is {type(self.sampler).__name__}, not MaskPseudoSampler'
        return None

    def _toolbox_loss(self, problem: str, scores, masks, instances: InstanceList, metas: list[dict]) -> dict:
        """Computes the losses as mmdet does."""
        if not self._told:
            ignoring = '; no pixel is left out' if self.ignore_aware else ''
            print_log(
                f'{type(self).__name__} computes its losses as mmdet does, layer by layer: {problem}{ignoring}',
                'current',
            )
            self._told = True
        instances = [InstanceData(labels=one.labels, masks=one.masks.long()) for one in instances]
        return super().loss_by_feat(scores, masks, instances, metas)


def _is_softmax_cross_entropy(loss: nn.Module, weights: Sequence[float]) -> bool:
    return (
        type(loss) is CrossEntropyLoss
        and not loss.use_sigmoid
        and not loss.use_mask
        and loss.reduction == 'mean'
        and loss.ignore_index is None
        and loss.class_weight is not None
        and list(loss.class_weight) == list(weights)
    )


def _is_dice_of_ones(loss: nn.Module) -> bool:
    settings = ('use_sigmoid', 'activate', 'naive_dice', 'reduction', 'eps')
    return type(loss) is DiceLoss and [getattr(loss, name) for name in settings] == [True, True, True, 'mean', 1.0]
