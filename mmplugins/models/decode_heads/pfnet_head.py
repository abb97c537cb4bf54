"""PFNet's decoder: a positioning module, then focus modules that mend its map step by step.

Paper: PFNet, 'Camouflaged Object Segmentation with Distraction Mining' (CVPR 2021). Released code: PFNet.py
(``Positioning``, ``Focus``, ``Context_Exploration_Block``) and train.py for the losses.

Deliberate differences: a map is resized to the size of the features that it meets, where the released code doubles
it, so that the input need not be a multiple of 32; any backbone with four stages will do.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmplugins.registry import MODELS

from .pfnet_modules import Focus, Positioning, conv_norm_act

_MAPS = ('positioning', 'focus3', 'focus2', 'focus1')  # in the order in which they are made


@MODELS.register_module()
class PFNetHead(BaseDecodeHead):
    """Positioning and focus head with deep supervision inside.

    1. Features of four stages are reduced to ``channels`` by a 3x3 convolution.
    2. Positioning: channel and spatial attention on the deepest features, and a first map.
    3. Three focus modules, deep to shallow, remove false foreground and add missed foreground, and give a map each.
    4. In training all four maps, resized to the label, have a loss: ``loss_positioning`` the first, ``loss_decode``
       the others, each times its entry in ``map_weights``. The log has them as ``positioning.loss_*``,
       ``focus3.loss_*``, ``focus2.loss_*``, ``focus1.loss_*``, weighted, so that they add up to the loss. There is
       no ``acc_seg``.
    5. In inference the last map alone comes out; ``forward_maps`` and ``predict_maps`` give the four.

    Args:
        in_channels: Channels of the four stages, shallow to deep.
        channels: Channels after the reduction, shallow to deep, each a multiple of 8; or an integer for the
            shallowest, doubled from stage to stage.
        num_classes: 2, as mmseg counts background.
        out_channels: 1, a logit of the foreground.
        threshold: Probability above which a pixel is foreground.
        loss_decode: Loss of the focus maps, a config or a list of them; None: ``StructureLoss``, variant 'released'.
        loss_positioning: Loss of the positioning map, a config or a list of them; None: ``BCEIoULoss``.
        map_weights: Weights of positioning, focus3, focus2 and focus1.
        in_index: Which of the backbone's outputs are the four stages.
        input_transform: 'multiple_select'; nothing else makes sense.
        dropout_ratio: 0; the paper's decoder has none.
        norm_cfg: Normalisation; None: batch norm. Convolutions before it keep their bias, as in released checkpoints.
        act_cfg: Activation; None: ReLU.
        align_corners: How maps are resized.
        init_cfg: None: PyTorch's own initialisation, as the released code.
        **kwargs: Other arguments of mmseg's BaseDecodeHead: ``conv_cfg``, ``ignore_index``.

    Raises:
        ValueError: Settings that do not fit one another.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (256, 512, 1024, 2048),
        channels: int | Sequence[int] = (64, 128, 256, 512),
        *,
        num_classes: int = 2,
        out_channels: int = 1,
        threshold: float = 0.5,
        loss_decode: dict | Sequence[dict] | None = None,
        loss_positioning: dict | Sequence[dict] | None = None,
        map_weights: Sequence[float] = (1.0, 1.0, 2.0, 4.0),
        in_index: Sequence[int] = (0, 1, 2, 3),
        input_transform: str = 'multiple_select',
        dropout_ratio: float = 0.0,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        align_corners: bool = True,
        init_cfg: dict | list | None = None,
        **kwargs,
    ) -> None:
        channels = _four_channels(in_channels, channels, in_index)
        if (num_classes, out_channels, dropout_ratio, input_transform) != (2, 1, 0, 'multiple_select'):
            raise ValueError(
                'PFNetHead gives one map of four stages, without dropout: it needs num_classes=2, out_channels=1, '
                f"dropout_ratio=0 and input_transform='multiple_select', got num_classes={num_classes}, "
                f'out_channels={out_channels}, dropout_ratio={dropout_ratio}, input_transform={input_transform!r}'
            )
        if len(map_weights) != len(_MAPS):
            raise ValueError(f'map_weights needs one weight for each of {_MAPS}, got {tuple(map_weights)}')
        super().__init__(
            list(in_channels),
            channels[0],
            num_classes=num_classes,
            out_channels=out_channels,
            threshold=threshold,
            dropout_ratio=dropout_ratio,
            in_index=list(in_index),
            input_transform=input_transform,
            loss_decode=loss_decode or dict(type='mmplugins.StructureLoss', variant='released'),
            norm_cfg=norm_cfg or dict(type='BN', requires_grad=True),
            act_cfg=act_cfg or dict(type='ReLU', inplace=True),
            align_corners=align_corners,
            init_cfg=init_cfg,
            **kwargs,
        )
        if self.sampler is not None:
            raise ValueError('PFNetHead takes no sampler; its losses weight the pixels')
        del self.conv_seg  # the maps come from the modules below
        self.map_weights = tuple(map_weights)
        loss_positioning = loss_positioning or dict(type='mmplugins.BCEIoULoss')
        self.loss_positioning = nn.ModuleList(MODELS.build(loss) for loss in _as_list(loss_positioning))

        cfgs = dict(conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        self.reduce = nn.ModuleList(conv_norm_act(i, c, 3, **cfgs) for i, c in zip(in_channels, channels, strict=True))
        self.positioning = Positioning(channels[3])
        self.focus = nn.ModuleList(
            Focus(channels[stage], channels[stage + 1], align_corners, **cfgs) for stage in range(3)
        )

    def forward_maps(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Computes the four maps.

        Args:
            inputs: The backbone's features, each (N, C, h, w).

        Returns:
            Logits (N, 1, h, w) of positioning, focus3, focus2 and focus1, each of its stage's size.
        """
        features = [reduce(x) for reduce, x in zip(self.reduce, self._transform_inputs(inputs), strict=True)]
        higher, logits = self.positioning(features[3])
        maps = [logits]
        for stage in (2, 1, 0):
            higher, logits = self.focus[stage](features[stage], higher, logits)
            maps.append(logits)
        return tuple(maps)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Computes the last map, logits (N, 1, h, w) of the first stage's size."""
        return self.forward_maps(inputs)[-1]

    def predict_maps(self, inputs: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Computes the four foreground probabilities, (N, 1, H, W) each, resized to ``size`` (height, width)."""
        return tuple(self._resize(logits, size).sigmoid() for logits in self.forward_maps(inputs))

    def loss(self, inputs: Sequence[Tensor], batch_data_samples: list, train_cfg: dict | None = None) -> dict:
        """Computes the losses of the four maps.

        Args:
            inputs: The backbone's features, each (N, C, h, w).
            batch_data_samples: N data samples with ``gt_sem_seg``.
            train_cfg: Not used.

        Returns:
            Losses by name, weighted.
        """
        return self.loss_by_feat(self.forward_maps(inputs), batch_data_samples)

    def loss_by_feat(self, seg_logits: Sequence[Tensor], batch_data_samples: list) -> dict:
        """Computes the losses from what ``forward_maps`` gave; see ``loss``."""
        target = self._stack_batch_gt(batch_data_samples).squeeze(1)  # (N, H, W)
        focus_losses = self.loss_decode if isinstance(self.loss_decode, nn.ModuleList) else [self.loss_decode]
        losses = {}
        for name, logits, map_weight in zip(_MAPS, seg_logits, self.map_weights, strict=True):
            logits = self._resize(logits, target.shape[1:])  # (N, 1, H, W)
            for loss in self.loss_positioning if name == 'positioning' else focus_losses:
                key = f'{name}.{loss.loss_name}'
                value = map_weight * loss(logits, target, ignore_index=self.ignore_index)
                losses[key] = losses[key] + value if key in losses else value
        return losses

    def _resize(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(x, tuple(size), mode='bilinear', align_corners=self.align_corners)


def _four_channels(in_channels: Sequence[int], channels: int | Sequence[int], in_index: Sequence[int]) -> list[int]:
    """Gives the reduced channels of the four stages, shallow to deep."""
    if isinstance(channels, int):
        channels = [channels * 2**stage for stage in range(4)]
    if not len(in_channels) == len(channels) == len(in_index) == 4:
        raise ValueError(
            'PFNetHead needs four stages, got '
            f'in_channels={tuple(in_channels)}, channels={tuple(channels)}, in_index={tuple(in_index)}'
        )
    if any(c % 8 for c in channels):
        raise ValueError(
            f'channels must be multiples of 8 (four branches; queries and keys of 1/8), got {tuple(channels)}'
        )
    return list(channels)


def _as_list(config: dict | Sequence[dict]) -> Sequence[dict]:
    return [config] if isinstance(config, dict) else config
