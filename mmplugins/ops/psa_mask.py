"""The point-wise spatial attention of PSANet, with mmcv's arguments.

Paper: Zhao et al., PSANet, ECCV 2018, section 3.3. Each pixel has a mask of weights for the pixels around it; the
operator lays the masks out over all pairs of pixels.

Letters: N images, H W size of the map, P Q size of a mask.
"""

import torch
from torch import Tensor

COLLECT, DISTRIBUTE = 0, 1  # psa_type


def psamask_forward(input: Tensor, output: Tensor, psa_type: int, **settings: int) -> None:
    """Lays out the masks, as mmcv's operator of this name.

    Args:
        input: (N, P * Q, H, W), the mask of each pixel.
        output: (N, H * W, H, W); written. Where a pixel's mask has a weight for another: at [other, pixel] if
            ``COLLECT``, at [pixel, other] if ``DISTRIBUTE``; 0 elsewhere.
        psa_type: ``COLLECT`` or ``DISTRIBUTE``.
        **settings: num_, h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask.
    """
    place, inside = _places(input.device, settings)
    pixels = len(place)
    pairs = input.flatten(2).gather(1, place.expand(len(input), -1, -1)) * inside  # (N, other, pixel)
    pairs = pairs if psa_type == COLLECT else pairs.transpose(1, 2)
    output.copy_(pairs.reshape(len(input), pixels, *output.shape[2:]))


def psamask_backward(grad_output: Tensor, grad_input: Tensor, psa_type: int, **settings: int) -> None:
    """Computes the gradient of ``psamask_forward``, as mmcv's operator of this name.

    Args:
        grad_output: (N, H * W, H, W).
        grad_input: (N, P * Q, H, W), zeros; written.
        psa_type: As for ``psamask_forward``.
        **settings: As for ``psamask_forward``.
    """
    place, inside = _places(grad_output.device, settings)
    pairs = grad_output.flatten(2)
    pairs = (pairs if psa_type == COLLECT else pairs.transpose(1, 2)) * inside
    grad = torch.zeros_like(grad_input.flatten(2)).scatter_add_(1, place.expand(len(pairs), -1, -1), pairs)
    grad_input += grad.view(grad_input.shape)


def _places(device: torch.device, settings: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Finds, for each (other, pixel), the place in the pixel's mask that is the other's, and whether it has one."""
    axes = []
    for axis in 'hw':
        size, mask, half = (settings[name] for name in (f'{axis}_feature', f'{axis}_mask', f'half_{axis}_mask'))
        number = torch.arange(size, device=device)
        place = number[:, None] - number + half  # (other, pixel)
        axes.append((place.clamp(0, mask - 1), (place >= 0) & (place < mask)))
    (y, in_y), (x, in_x) = axes
    place = y[:, None, :, None] * settings['w_mask'] + x[None, :, None, :]
    inside = in_y[:, None, :, None] & in_x[None, :, None, :]
    return tuple(each.flatten(2).flatten(0, 1) for each in (place, inside))
