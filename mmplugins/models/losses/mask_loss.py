"""What the losses on masks share: the call, the layers of a set criterion, and losses given as configs."""

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmplugins.functional.checks.labels import check_floating
from mmplugins.functional.checks.masks import MaskLogits
from mmplugins.functional.device import without_autocast
from mmplugins.functional.masks.inputs import MaskInputs, mask_inputs
from mmplugins.functional.sets.pairs import MatchedPairs, pack_pairs
from mmplugins.registry import MODELS

from .deferred_checks import DeferredChecks
from .toolbox import equal_weight

Losses = tuple[Tensor, Tensor]
Compared = Mapping[str, Tensor | None]  # ``pred`` (l, Q, P) logits, ``gt`` (l, G, P), ``valid`` bool (l, P) or None


class MatchInputs(Sequence):
    """What the mask costs compare, for each image; made when it is asked for, some layers at a time, and not kept.

    Args:
        images: Number of images.
        open_image: Takes the index of an image and returns a function that makes what is compared in some layers, a
            slice. It is called again when another image has been asked for.
    """

    def __init__(self, images: int, open_image: Callable[[int], Callable[[slice], Compared]]) -> None:
        self._images = images
        self._open = open_image
        self._last: tuple[int, Callable[[slice], Compared]] | None = None

    def __len__(self) -> int:
        return self._images

    def __getitem__(self, image: int) -> Compared:
        return self.part(range(len(self))[image], slice(None))

    @torch.no_grad()
    def part(self, image: int, layers: slice) -> Compared:
        """Returns what is compared in an image in some layers."""
        if self._last is None or self._last[0] != image:
            self._last = None  # before the next is made
            self._last = image, self._open(image)
        return self._last[1](layers)


class BaseMaskLoss(DeferredChecks, nn.Module, metaclass=ABCMeta):
    """Base class of the losses between mask logits and the masks of objects.

    Losses of mmdet that the built-in ones equal up to ``loss_weight`` are not called: the built-in ones compute them.

    Args:
        loss_mask: A registered loss's config, or a module, instead of the built-in one; called as mmdet's heads do.
        loss_dice: Likewise.

    Attributes:
        mask_weight: Factor of the built-in loss instead of ``loss_mask``; None: ``loss_mask`` is called.
        dice_weight: Likewise.
    """

    built_in: str  # key in the table of equal losses

    def __init__(self, loss_mask: dict | nn.Module | None = None, loss_dice: dict | nn.Module | None = None) -> None:
        super().__init__()
        self.loss_mask = MODELS.build(loss_mask) if isinstance(loss_mask, dict) else loss_mask
        self.loss_dice = MODELS.build(loss_dice) if isinstance(loss_dice, dict) else loss_dice
        self.mask_weight = 1.0 if loss_mask is None else equal_weight(self.loss_mask, self.built_in)
        self.dice_weight = 1.0 if loss_dice is None else equal_weight(self.loss_dice, 'dice')

    def inputs(
        self, mask_logits: MaskLogits, masks: Sequence[Tensor], valid: Sequence[Tensor | None] | None = None
    ) -> MaskInputs:
        """Checks mask logits and masks for ``match_inputs`` and ``layer_losses``, once a step.

        Args:
            mask_logits: (L, B, Q, h, w), or a list of L tensors (B, Q, h, w), which saves a copy where layers come
                apart.
            masks: (G, H, W) of each image, bool, integer 0 and 1, or floating in [0, 1]; never copied at full size.
            valid: For each image bool (H, W), False for ignored pixels, or None.

        Raises:
            ValueError: Shapes do not fit, or masks hold other values (on CUDA at one of the next calls).
            TypeError: Logits that are not floating.
        """
        return mask_inputs(mask_logits, masks, valid, self._reads)

    def single_layer(
        self,
        mask_logits: Tensor,
        masks: Tensor,
        avg_factor: Tensor | float | None,
        point_coords: Tensor | None,
        valid: Tensor | None,
        **kwargs,
    ) -> dict[str, Tensor]:
        """Computes the losses of M logit maps and their masks; see the subclasses' ``forward``."""
        check_floating('mask_logits', mask_logits)
        if mask_logits.dim() != 3 or masks.dim() != 3 or len(mask_logits) != len(masks):
            raise ValueError(
                'expected mask logits (M, h, w) and as many masks (M, H, W), got '
                f'{tuple(mask_logits.shape)} and {tuple(masks.shape)}; take the matched ones of both'
            )
        number, every = len(masks), torch.arange(len(masks))
        valid = valid if number else None
        if valid is not None and valid.dim() == 3:  # a map each: M images of one mask
            inputs = self.inputs(mask_logits[None, :, None], masks.split(1), valid.unbind())
            pairs = pack_pairs([[(every[:1] * 0, every[:1] * 0)] * number], 1, [1] * number, masks.device)
        else:
            inputs = self.inputs(mask_logits[None, None], [masks], None if valid is None else [valid])
            pairs = pack_pairs([[(every, every)]], number, [number], masks.device)
        coords = None if point_coords is None else [point_coords]
        avg_factor = max(number, 1) if avg_factor is None else avg_factor
        losses = self.layer_losses(inputs, pairs, avg_factor, coords, **kwargs)
        return {name: value[0] for name, value in losses.items()}

    @abstractmethod
    def match_inputs(self, inputs: MaskInputs, match_coords: Tensor | None = None) -> MatchInputs:
        """Returns what the mask costs compare.

        Args:
            inputs: What ``inputs`` returned.
            match_coords: Points x,y in 0 to 1, (L, B, P, 2); for losses on points.

        Returns:
            For each image ``pred`` (L, Q, P) logits, ``gt`` (L, G, P) and ``valid`` bool (L, P), or None.
        """

    def layer_losses(
        self,
        inputs: MaskInputs,
        pairs: MatchedPairs,
        avg_factor: Tensor | float,
        point_coords: Sequence[Tensor] | None = None,
        **kwargs,
    ) -> dict[str, Tensor]:
        """Computes the losses of the matched pairs of every decoder layer.

        Args:
            inputs: What ``inputs`` returned.
            pairs: The matched pairs, of as many layers and images.
            avg_factor: What the sum over a layer's pairs is divided by, as in mmdet with float32's epsilon added.
            point_coords: For each layer points x,y in 0 to 1, (M, P, 2), a row for each pair, ordered as the pairs;
                None: the loss chooses. Only for losses on points.
            **kwargs: What the loss takes beside; see its ``pair_losses``.

        Returns:
            ``loss_mask`` and ``loss_dice``, (L,) each; 0 and attached to the logits in a layer without pairs.

        Raises:
            ValueError: The pairs or points do not fit the logits.
        """
        if [len(counts) for counts in pairs.counts] != [len(inputs.masks)] * len(inputs.layers):
            raise ValueError(
                f'expected pairs of {len(inputs.layers)} layers with {len(inputs.masks)} images each, got '
                f'{[len(counts) for counts in pairs.counts]} images'
            )
        with without_autocast(inputs.device):
            losses = self.pair_losses(inputs, pairs, avg_factor, point_coords, **kwargs)
        return dict(zip(('loss_mask', 'loss_dice'), losses, strict=True))

    @abstractmethod
    def pair_losses(
        self,
        inputs: MaskInputs,
        pairs: MatchedPairs,
        avg_factor: Tensor | float,
        point_coords: Sequence[Tensor] | None,
    ) -> Losses:
        """Computes both losses of every layer, (L,) each; takes what ``layer_losses`` takes, checked."""


def mean_over(value: Tensor, avg_factor: Tensor | float) -> Tensor:
    """Divides the sum of a value of each pair, (M,); as in mmdet with float32's epsilon, so that 0 is allowed."""
    return value.sum() / (avg_factor + torch.finfo(torch.float32).eps)
