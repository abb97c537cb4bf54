"""Normalises a batch of short videos on the device."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmplugins.registry import MODELS


@MODELS.register_module()
class VOSDataPreprocessor(BaseDataPreprocessor):
    """Stacks clips to (B, T, 3, H, W), swaps their channels and normalises them.

    Takes what a data loader collates: a dict of ``inputs``, B tensors (T, 3, H, W), uint8 or floating, and
    ``data_samples``, B data samples; see ``AOT`` for what these hold.

    Args:
        mean: Mean of each channel, after the swap, in the images' own range.
        std: Standard deviation of each channel.
        bgr_to_rgb: Whether the channels are swapped.
        non_blocking: Whether copies to the device run while the host goes on.

    Raises:
        ValueError: The clips of a batch differ in length or size.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        bgr_to_rgb: bool = True,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        self.bgr_to_rgb = bgr_to_rgb
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1), False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Returns ``inputs`` (B, T, 3, H, W), float32, and ``data_samples``, both on the device."""
        data = self.cast_data(data)
        clips: Sequence[Tensor] = data['inputs']
        shapes = [tuple(clip.shape) for clip in clips]
        if any(len(shape) != 4 or shape[1] != 3 for shape in shapes) or len(set(shapes)) != 1:
            raise ValueError(
                f'the clips of a batch must be of one shape (T, 3, H, W), got {shapes}; crop or resize them alike'
            )
        inputs = torch.stack(list(clips)).float()
        if self.bgr_to_rgb:
            inputs = inputs.flip(2)
        return {'inputs': (inputs - self.mean) / self.std, 'data_samples': data.get('data_samples')}
