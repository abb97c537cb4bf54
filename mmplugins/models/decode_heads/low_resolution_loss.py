"""Losses of mmseg's heads from the head's own logits; a map of all classes at the label's size is never made.

mmseg's heads upsample their logits to the size of the label before they compute the losses. Here the losses get
``UpsampledLogits``, and values, gradients and the logged accuracy are those of mmseg.
"""

from functools import cache
from inspect import unwrap

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import Tensor, nn

from mmplugins.functional.checks.labels import NOTHING, check_label_range, check_label_shape, class_weight_of
from mmplugins.functional.device import DeferredReads, full_precision, without_autocast
from mmplugins.functional.pixels.cross_entropy import pixel_cross_entropy, summed_cross_entropy
from mmplugins.functional.pixels.reduction import check_reduction
from mmplugins.functional.upsampled import UpsampledLogits, count_correct
from mmplugins.models.losses.deferred_checks import DeferredChecks
from mmplugins.registry import MODELS


class LowResolutionLoss(DeferredChecks, BaseDecodeHead):
    """What makes a decode head compute its losses from its own logits; ``class MyHead(PSPHead, LowResolutionLoss)``.

    It stands after the head's class, so that a head which computes more than one loss (EncHead, DAHead) does so still,
    and calls this class where it would call mmseg's. See ``LowResolutionLossHead`` for losses and errors.

    Args:
        *args: Arguments of mmseg's BaseDecodeHead.
        **kwargs: Arguments of mmseg's BaseDecodeHead.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        name = type(self).__name__
        if self.sampler is not None:
            raise ValueError(
                f'{name} takes no sampler, which needs the logits at full size, got {type(self.sampler).__name__}; use '
                "loss_decode=dict(type='mmplugins.OhemCrossEntropyLoss', ...), or the plain type of the head"
            )
        for loss in self._losses():
            if not takes_upsampled_logits(loss):
                raise TypeError(
                    f'{name} computes losses from logits of low resolution, and {type(loss).__name__} takes none; use '
                    "mmseg's CrossEntropyLoss without use_sigmoid and use_mask, mmplugins' OhemCrossEntropyLoss, "
                    'TopKCrossEntropyLoss, SoftJaccardLoss, BCEIoULoss, SoftIoULoss or StructureLoss, or the plain '
                    'type of the head'
                )
        if owner := _goes_its_own_way(type(self)):
            raise TypeError(
                f"{name}: {owner.__name__} upsamples its logits and computes its losses by itself, without mmseg's "
                "BaseDecodeHead; use the head's plain type"
            )

    @torch.compiler.disable  # a loop over blocks, and gradients written by hand
    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Computes the losses and the accuracy.

        Args:
            seg_logits: The head's output, (N, C, h, w).
            batch_data_samples: N data samples with ``gt_sem_seg``.

        Returns:
            Losses by name, those of one name added up, and ``acc_seg``, in percent of the valid pixels.
        """
        label = self._stack_batch_gt(batch_data_samples).squeeze(1)  # (N, H, W)
        logits = UpsampledLogits(seg_logits, label.shape[1:], self.align_corners)
        losses = {}
        for loss in self._losses():
            if type(loss) is CrossEntropyLoss:
                value = _mmseg_cross_entropy(loss, logits, label, self.ignore_index, self._reads)
            else:
                value = loss(logits, label, ignore_index=self.ignore_index)
            losses[loss.loss_name] = losses[loss.loss_name] + value if loss.loss_name in losses else value
        losses['acc_seg'] = _accuracy(logits, label, self.ignore_index)
        return losses

    def _losses(self) -> list[nn.Module]:
        return list(self.loss_decode) if isinstance(self.loss_decode, nn.ModuleList) else [self.loss_decode]


@MODELS.register_module()
class LowResolutionLossHead:
    """A decode or auxiliary head of mmseg's that computes its losses from its own logits.

    ``dict(type='mmplugins.LowResolutionLossHead', head='PSPHead', ...)`` is a PSPHead with the same parameters, outputs
    and losses. In a training step the logits are upsampled a block of rows at a time, once for the loss and, but for
    plain cross entropy, once for its gradient, so that a map of (N, C, H, W) and its copies never exist.

    ``loss_decode`` may hold mmseg's CrossEntropyLoss with its softmax and mmplugins' OhemCrossEntropyLoss,
    TopKCrossEntropyLoss, SoftJaccardLoss, and, for one output channel, BCEIoULoss, SoftIoULoss and StructureLoss; or
    any loss with an attribute ``takes_upsampled_logits`` that is true, which is called with ``UpsampledLogits``.

    Differences: a pixel counts for ``acc_seg`` also where another class has the very same logit; labels that are
    neither classes nor ignored are an error that names them; NaN logits may spread over a block of rows.

    Args:
        head: Type of the head, as in a config; or its class, a subclass of mmseg's BaseDecodeHead.
        **kwargs: Arguments of the head.

    Raises:
        TypeError: There is no such head, it computes its losses without mmseg's BaseDecodeHead (PIDHead, DDRHead,
            PointHead, IterativeDecodeHead, heads of mmdet), or one of the losses takes no logits of low resolution.
        ValueError: The head has a sampler.
    """

    def __new__(cls, head: str | type, **kwargs) -> LowResolutionLoss:
        """Builds the head."""
        found = MMSEG_MODELS.get(head) if isinstance(head, str) else head
        if not isinstance(found, type) or not issubclass(found, BaseDecodeHead):
            raise TypeError(
                f"LowResolutionLossHead needs a decode head of mmseg's, got head={head!r}; name a registered subclass "
                "of BaseDecodeHead, such as 'PSPHead' or 'mmplugins.FPNSegmentationHead'"
            )
        return _with_low_resolution_loss(found)(**kwargs)


def takes_upsampled_logits(loss: nn.Module) -> bool:
    """Whether a loss can be computed from logits of low resolution."""
    if type(loss) is CrossEntropyLoss:
        return not (loss.use_sigmoid or loss.use_mask)
    return getattr(loss, 'takes_upsampled_logits', False)


@cache
def _with_low_resolution_loss(head: type) -> type:
    """Returns a subclass of a head that computes its losses from its own logits."""
    if issubclass(head, LowResolutionLoss):
        return head
    members = {'__reduce__': lambda self: (_blank, (head,), self.__dict__), '__module__': __name__}
    return type(f'LowResolutionLoss{head.__name__}', (head, LowResolutionLoss), members)


def _blank(head: type) -> LowResolutionLoss:
    """Makes what a copy or a pickle of a head fills."""
    cls = _with_low_resolution_loss(head)
    return cls.__new__(cls)


def _goes_its_own_way(head: type) -> type | None:
    """Returns the class of a head's that computes its losses without calling ``loss_by_feat`` of the next class."""
    for cls in head.__mro__[: head.__mro__.index(LowResolutionLoss)]:
        code = getattr(unwrap(vars(cls).get('loss_by_feat', cls)), '__code__', None)
        if code is not None and not {'super', 'loss_by_feat'} <= set(code.co_names):
            return cls
    return None


def _mmseg_cross_entropy(
    loss: CrossEntropyLoss, logits: UpsampledLogits, label: Tensor, ignore_index: int | None, reads: DeferredReads
) -> Tensor:
    """Computes what mmseg's CrossEntropyLoss would, with its settings, of the upsampled logits."""
    ignore_index = NOTHING if ignore_index is None else ignore_index
    check_label_shape(logits, label)
    label = check_label_range(label.long(), logits.shape[1], ignore_index, reads)
    logits = full_precision(logits)
    with without_autocast(logits.device):
        share = None
        if loss.class_weight is not None:
            share = class_weight_of(logits.logits.new_tensor(loss.class_weight), label, ignore_index)
        if check_reduction(loss.reduction) == 'none':
            value = pixel_cross_entropy(logits, label, ignore_index)
            return loss.loss_weight * (value if share is None else value * share)
        value = summed_cross_entropy(logits, label, ignore_index, share)
        if loss.reduction == 'mean':
            if share is not None:
                count = share.sum()
            else:
                count = torch.count_nonzero(label != ignore_index) if loss.avg_non_ignore else label.numel()
            value = value / (count + torch.finfo(torch.float32).eps)
    return loss.loss_weight * value


def _accuracy(logits: UpsampledLogits, label: Tensor, ignore_index: int | None) -> Tensor:
    """Computes what mmseg's ``accuracy`` would: the share of the valid pixels that are right, in percent, (1,)."""
    eps = torch.finfo(torch.float32).eps
    valid = label.numel() if ignore_index is None else torch.count_nonzero(label != ignore_index)
    return ((count_correct(logits, label, ignore_index) + eps) * (100 / (valid + eps))).reshape(1)
