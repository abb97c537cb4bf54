"""An image to features at strides 4, 8 and 16, and an embedding at stride 16.

Paper: AOT (NeurIPS 2021), section 4. Released code: networks/encoders, and ``encode_image`` of networks/models/aot.py.

Deliberate differences: any backbone of the toolboxes will do that has outputs of strides 4, 8 and 16, and possibly a
fourth of stride 16; batch norm is frozen by ``norm_eval`` and ``requires_grad=False``, as the toolboxes do it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.models.backbones import MobileNetV2
from torch import Tensor, nn

from mmplugins.registry import MODELS


class ImageFeatures(NamedTuple):
    """Features of N images.

    Attributes:
        shortcuts: Features at strides 4, 8 and 16, each (N, C_i, h_i, w_i).
        embedding: Features for the transformer, (N, C, h, w), of stride 16.
    """

    shortcuts: tuple[Tensor, Tensor, Tensor]
    embedding: Tensor

    def part(self, images: slice) -> 'ImageFeatures':
        """Returns the features of some of the images."""
        return ImageFeatures(tuple(x[images] for x in self.shortcuts), self.embedding[images])


class ImageEncoder(BaseModule):
    """A backbone, and a 1x1 convolution of its deepest level to the embedding.

    ``init_weights`` is the backbone's alone; the convolution is initialised when it is built.

    Args:
        backbone: Module with outputs of strides 4, 8 and 16, and possibly a fourth of stride 16.
        in_channels: Channels of its deepest level.
        channels: Channels of the embedding.
    """

    def __init__(self, backbone: nn.Module, in_channels: int, channels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = nn.Conv2d(in_channels, channels, 1)
        nn.init.xavier_uniform_(self.projector.weight)

    def forward(self, images: Tensor) -> ImageFeatures:
        """Encodes normalised images (N, 3, H, W)."""
        levels = self.backbone(images)
        return ImageFeatures(tuple(levels[:3]), self.projector(levels[-1]))


@MODELS.register_module()
class DilatedMobileNetV2(MobileNetV2):
    """mmseg's MobileNetV2 with dilation in all blocks of a stage, and with the last convolution.

    It differs from the parent in two points:

    1. In a stage of dilation d all blocks but the first have it; the first has that of the stage before, as DeepLab's
       networks and AOT's. In the parent only the first block has d.
    2. The last output comes after the 1x1 convolution to 1280 channels, ``conv2`` in mmpretrain's checkpoints.

    Args:
        strides: Stride of each of the seven stages; the defaults end at stride 16.
        dilations: Dilation of each stage.
        out_indices: Stages that are returned; the last of them must be 6, the last stage.
        last_channels: Channels of the last convolution.
        norm_cfg: Normalisation.
        act_cfg: Activation.
        **kwargs: Other arguments of mmseg's MobileNetV2: ``frozen_stages``, ``norm_eval``, ``init_cfg`` and so on.

    Raises:
        ValueError: The last stage is not among ``out_indices``.
    """

    def __init__(
        self,
        strides: Sequence[int] = (1, 2, 2, 2, 1, 1, 1),
        dilations: Sequence[int] = (1, 1, 1, 1, 1, 2, 2),
        out_indices: Sequence[int] = (1, 2, 4, 6),
        last_channels: int = 1280,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        if not out_indices or out_indices[-1] != len(self.arch_settings) - 1:
            raise ValueError(f'the last convolution belongs to stage 6: out_indices must end with 6, got {out_indices}')
        cfgs = dict(norm_cfg=norm_cfg or dict(type='BN'), act_cfg=act_cfg or dict(type='ReLU6'))
        super().__init__(
            strides=strides, dilations=(1, *dilations[:-1]), out_indices=tuple(out_indices), **cfgs, **kwargs
        )
        for name, dilation in zip(self.layers, dilations, strict=True):  # difference 1
            for block in getattr(self, name)[1:]:
                depthwise = block.conv[-2].conv
                depthwise.dilation = depthwise.padding = (dilation, dilation)
        self.conv2 = ConvModule(self.in_channels, last_channels, 1, conv_cfg=self.conv_cfg, **cfgs)  # difference 2
        self._freeze_stages()  # the parent waits for train(), when the optimizer is built already

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the features of images (N, 3, H, W) at ``out_indices``, each (N, C, h, w)."""
        outs = []
        x = self.conv1(x)
        for index, name in enumerate(self.layers):
            x = getattr(self, name)(x)
            if index in self.out_indices:
                outs.append(x)
        return *outs[:-1], self.conv2(outs[-1])
