"""Decoder that walks a feature pyramid from stride 16 up to stride 4.

Paper: AOT (NeurIPS 2021), section 4. Released code: networks/decoders/fpn.py, ``FPNSegmentationHead``.

Deliberate differences: the deep features may be of another size than the stride-16 shortcut (they are resized to it),
so that any backbone will do; normalisation and activation are configurable; the last 1x1 convolution can be left out.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn


class FPNDecoder(nn.Module):
    """Fuses deep features with three shortcuts, deep to shallow.

    1. The inputs are concatenated and reduced to ``channels`` by a 1x1 convolution.
    2. At each of the strides 16, 8 and 4: resize to the shortcut's size, add the shortcut after a 1x1 convolution,
       fuse by a 3x3 convolution. From stride 8 on there are half as many channels.
    3. A 1x1 convolution gives the logits.

    Each convolution of steps 1 and 2, but for those of the shortcuts, is followed by normalisation and activation.

    Args:
        in_channels: Channels of all inputs together.
        shortcut_channels: Channels of the shortcuts at strides 4, 8 and 16.
        channels: Channels after the reduction; half of them must fit ``norm_cfg`` (a multiple of 8).
        out_channels: Channels of the output; None leaves step 3 out.
        align_corners: How features are resized.
        norm_cfg: Normalisation; None: group norm with 8 groups.
        act_cfg: Activation; None: ReLU.
        conv_cfg: Convolution; None: Conv2d.

    Raises:
        ValueError: Settings that do not fit one another.
    """

    def __init__(
        self,
        in_channels: int,
        shortcut_channels: Sequence[int],
        channels: int = 256,
        out_channels: int | None = None,
        align_corners: bool = True,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        conv_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        norm_cfg = norm_cfg or dict(type='GN', num_groups=8)
        groups = norm_cfg.get('num_groups', 1)
        if len(shortcut_channels) != 3:
            raise ValueError(
                f'shortcuts have strides 4, 8 and 16, hence three channels, got {tuple(shortcut_channels)}'
            )
        if channels % 2 or channels // 2 % groups:
            raise ValueError(
                f'the shallow levels have channels // 2 = {channels // 2} channels, which the {groups} groups of '
                f'norm_cfg must divide; choose a multiple of {2 * groups}, or another norm_cfg'
            )
        self.align_corners = align_corners
        cfgs = dict(
            # Released checkpoints have a bias before group norm; before batch norm it is of no use.
            bias=True if norm_cfg['type'] == 'GN' else 'auto',
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg or dict(type='ReLU', inplace=True),
        )
        half = channels // 2
        before, after = (half, channels, channels), (half, half, channels)  # at strides 4, 8 and 16
        self.reduce = ConvModule(in_channels, channels, 1, **cfgs)
        self.shortcuts = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in zip(shortcut_channels, before, strict=True))
        self.fuse = nn.ModuleList(ConvModule(i, o, 3, padding=1, **cfgs) for i, o in zip(before, after, strict=True))
        self.out = nn.Conv2d(half, out_channels, 1) if out_channels else nn.Identity()
        self.init_weights()

    def init_weights(self) -> None:
        """Fills the convolutions by Xavier's rule, as the released code does."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, inputs: Sequence[Tensor], shortcuts: Sequence[Tensor]) -> Tensor:
        """Computes logits, or features without ``out_channels``.

        Args:
            inputs: Deep features of one size, each (N, C_i, h, w).
            shortcuts: Features at strides 4, 8 and 16, each (N, C, h, w).

        Returns:
            (N, out_channels, h, w), or (N, channels // 2, h, w), of the first shortcut's size.
        """
        x = self.reduce(torch.cat(list(inputs), 1))  # step 1
        for level in (2, 1, 0):  # step 2
            size = shortcuts[level].shape[2:]
            if x.shape[2:] != size:
                x = F.interpolate(x, size, mode='bilinear', align_corners=self.align_corners)
            x = self.fuse[level](x + self.shortcuts[level](shortcuts[level]))
        return self.out(x)  # step 3
