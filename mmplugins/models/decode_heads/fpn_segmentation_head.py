"""The decoder of AOT as a decode head for semantic segmentation.

Paper: AOT (NeurIPS 2021). Released code: networks/decoders/fpn.py, ``FPNSegmentationHead``.

Deliberate differences: it takes four levels of one backbone, of any strides and channels, instead of a transformer's
outputs beside the encoder's; dropout before the last convolution, as mmseg's heads have it, is off unless asked for.
"""

from collections.abc import Sequence

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmplugins.models.layers.fpn_decoder import FPNDecoder
from mmplugins.registry import MODELS


@MODELS.register_module()
class FPNSegmentationHead(BaseDecodeHead):
    """Walks from the deepest of four levels up to the shallowest; see ``FPNDecoder`` for the steps.

    The output has the size of the first level: a quarter of the image where the levels have strides 4, 8, 16 and 16,
    as AOT's dilated backbones give them. Other strides will do.

    Args:
        in_channels: Channels of the four levels, shallow to deep.
        channels: Channels of the deep levels, a multiple of 16 with the default ``norm_cfg``; the convolution that
            gives the logits sees half as many.
        num_classes: Number of classes.
        in_index: Which of the backbone's outputs are the four levels.
        input_transform: 'multiple_select'; nothing else makes sense.
        dropout_ratio: Share of channels dropped before the last convolution; the paper's decoder has none.
        norm_cfg: Normalisation; None: group norm with 8 groups.
        act_cfg: Activation; None: ReLU.
        align_corners: How features, and logits for the loss, are resized.
        init_cfg: None: Xavier's rule, as the released code.
        **kwargs: Other arguments of mmseg's BaseDecodeHead: ``loss_decode``, ``ignore_index``, ``out_channels``,
            ``threshold``, ``sampler``, ``conv_cfg``.

    Raises:
        ValueError: Settings that do not fit one another.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (24, 32, 96, 320),
        channels: int = 256,
        *,
        num_classes: int,
        in_index: Sequence[int] = (0, 1, 2, 3),
        input_transform: str = 'multiple_select',
        dropout_ratio: float = 0.0,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        align_corners: bool = True,
        init_cfg: dict | list | None = None,
        **kwargs,
    ) -> None:
        if not len(in_channels) == len(in_index) == 4 or input_transform != 'multiple_select':
            raise ValueError(
                "FPNSegmentationHead needs four levels and input_transform='multiple_select', got "
                f'in_channels={tuple(in_channels)}, in_index={tuple(in_index)}, input_transform={input_transform!r}'
            )
        super().__init__(
            list(in_channels),
            channels // 2,  # what the convolution of the logits, mmseg's conv_seg, sees
            num_classes=num_classes,
            dropout_ratio=dropout_ratio,
            in_index=list(in_index),
            input_transform=input_transform,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            align_corners=align_corners,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.decoder = FPNDecoder(
            in_channels[3],
            in_channels[:3],
            channels,
            align_corners=align_corners,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            conv_cfg=self.conv_cfg,
        )
        nn.init.xavier_uniform_(self.conv_seg.weight)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Computes logits (N, classes, h, w), of the first level's size, from the backbone's features (N, C, h, w)."""
        *shortcuts, deepest = self._transform_inputs(inputs)
        return self.cls_seg(self.decoder([deepest], shortcuts))
