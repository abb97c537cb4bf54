"""What PFNet's decoder is made of: positioning module, focus module, context exploration.

Paper: PFNet (CVPR 2021). Released code: PFNet.py (``CA_Block``, ``SA_Block``, ``Positioning``, ``Focus``,
``Context_Exploration_Block``).

Deliberate differences: features and maps are resized to the size of those that they meet, where the released code
doubles them; attention is computed in float32 under autocast, because channel attention sums squares over a whole
map and would overflow float16.
"""

import torch
import torch.nn.functional as F
from mmcv.cnn import build_activation_layer, build_conv_layer, build_norm_layer
from torch import Tensor, nn

from mmplugins.functional.device import without_autocast


class Positioning(nn.Module):
    """Channel attention, then spatial attention, then a map: where an object might be.

    Args:
        channels: Channels of the deepest reduced features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel_gamma = nn.Parameter(torch.ones(1))
        self.spatial_gamma = nn.Parameter(torch.ones(1))
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.map = nn.Conv2d(channels, 1, 7, padding=3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Computes features (N, C, h, w) and the first map's logits (N, 1, h, w) from features (N, C, h, w)."""
        attention = _attention(x.flatten(2), x.flatten(2).mT).to(x.dtype)  # (N, C, C)
        x = self.channel_gamma * torch.bmm(attention, x.flatten(2)).view_as(x) + x
        query, key = self.query(x).flatten(2), self.key(x).flatten(2)  # (N, C / 8, hw)
        value = self.value(x).flatten(2)  # (N, C, hw)
        attention = _attention(query.mT, key).to(value.dtype)  # (N, hw, hw)
        x = self.spatial_gamma * torch.bmm(value, attention.mT).view_as(x) + x
        return x, self.map(x)


class Focus(nn.Module):
    """Mends a map: takes false foreground out and puts missed foreground in.

    Args:
        channels: Channels C of this stage's reduced features; a multiple of 4.
        higher_channels: Channels D of the next deeper stage's.
        align_corners: How features and map of the deeper stage are resized.
        **cfgs: ``conv_cfg``, ``norm_cfg`` and ``act_cfg``.
    """

    def __init__(self, channels: int, higher_channels: int, align_corners: bool, **cfgs) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.up = conv_norm_act(higher_channels, channels, 7, **cfgs)
        self.foreground = ContextExploration(channels, **cfgs)
        self.background = ContextExploration(channels, **cfgs)
        self.alpha = nn.Parameter(torch.ones(1))
        self.beta = nn.Parameter(torch.ones(1))
        self.refine1 = _norm_act(channels, **cfgs)
        self.refine2 = _norm_act(channels, **cfgs)
        self.map = nn.Conv2d(channels, 1, 7, padding=3)

    def forward(self, x: Tensor, higher: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Refines features and map.

        Args:
            x: This stage's features, (N, C, h, w).
            higher: The deeper stage's refined features, (N, D, h', w').
            logits: The deeper stage's map, (N, 1, h', w').

        Returns:
            Refined features (N, C, h, w) and the map's logits (N, 1, h, w).
        """
        size = x.shape[2:]
        refined = F.interpolate(self.up(higher), size, mode='bilinear', align_corners=self.align_corners)
        prob = F.interpolate(logits, size, mode='bilinear', align_corners=self.align_corners).sigmoid()
        refined = self.refine1(refined - self.alpha * self.foreground(x * prob))
        refined = self.refine2(refined + self.beta * self.background(x * (1 - prob)))
        return refined, self.map(refined)


class ContextExploration(nn.Module):
    """Four branches of growing receptive field, each fed with the one before.

    Args:
        channels: Channels C in and out; a branch has C / 4.
        **cfgs: ``conv_cfg``, ``norm_cfg`` and ``act_cfg``.
    """

    def __init__(self, channels: int, **cfgs) -> None:
        super().__init__()
        width = channels // 4
        self.reduce = nn.ModuleList(conv_norm_act(channels, width, 1, **cfgs) for _ in range(4))
        self.local = nn.ModuleList(conv_norm_act(width, width, size, **cfgs) for size in (1, 3, 5, 7))
        self.dilated = nn.ModuleList(conv_norm_act(width, width, 3, dilation=rate, **cfgs) for rate in (1, 2, 4, 8))
        self.fuse = conv_norm_act(channels, channels, 1, **cfgs)

    def forward(self, x: Tensor) -> Tensor:
        """Explores the context of features (N, C, h, w); the output has the same shape."""
        outputs = []
        for reduce, local, dilated in zip(self.reduce, self.local, self.dilated, strict=True):
            branch = reduce(x)  # (N, C / 4, h, w)
            branch = branch + outputs[-1] if outputs else branch
            outputs.append(dilated(local(branch)))
        return self.fuse(torch.cat(outputs, 1))


def _attention(query: Tensor, key: Tensor) -> Tensor:
    """Computes softmax(query key), (N, tokens, tokens), of (N, tokens, c) and (N, c, tokens), at least in float32."""
    with without_autocast(query.device):
        dtype = torch.promote_types(query.dtype, torch.float32)
        return torch.bmm(query.to(dtype), key.to(dtype)).softmax(-1)


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm_cfg: dict,
    act_cfg: dict,
    conv_cfg: dict | None = None,
    dilation: int = 1,
) -> nn.Sequential:
    """Builds a convolution that keeps the size, normalisation and activation.

    The convolution has a bias although a normalisation follows, as in released checkpoints; mmcv's ConvModule would
    warn of each.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Side of the kernel, odd.
        norm_cfg: Normalisation.
        act_cfg: Activation.
        conv_cfg: Convolution; None: Conv2d.
        dilation: Of the convolution.
    """
    padding = dilation * (kernel_size // 2)
    conv = build_conv_layer(conv_cfg, in_channels, out_channels, kernel_size, padding=padding, dilation=dilation)
    return nn.Sequential(conv, *_norm_act(out_channels, norm_cfg, act_cfg))


def _norm_act(channels: int, norm_cfg: dict, act_cfg: dict, conv_cfg: dict | None = None) -> nn.Sequential:
    return nn.Sequential(build_norm_layer(norm_cfg, channels)[1], build_activation_layer(act_cfg))
