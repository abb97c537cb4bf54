"""mmcv's operators: plain ones beside compiled ones, and deformable attention beside mmcv's path without a kernel.

Both run through mmcv's own functions. Where mmcv has no compiled operators, ours runs alone.
"""

import importlib
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from mmplugins.ops.extension import OPERATORS
from mmplugins.ops.ms_deform_attn import multi_scale_deformable_attn

from ._case import COMPILED, Run, case

PLAIN = SimpleNamespace(**OPERATORS)


def on(operators: object, module: str, function: Callable[..., object]) -> Run:
    """Returns a function that runs one of mmcv's functions, and its backward pass, on given operators.

    The backward pass finds them because it comes before anything else runs.

    Args:
        operators: What has the operators as attributes.
        module: Name of mmcv's module.
        function: Takes the module.
    """
    mmcv = importlib.import_module(f'mmcv.ops.{module}')

    def run() -> object:
        mmcv.ext_module = operators
        return function(mmcv)

    return run


def compiled() -> object:
    """Returns mmcv's compiled module."""
    return importlib.import_module('mmcv._ext')


@case(
    'ms_deform_attn',
    "multi-scale deformable attention at the sizes of Mask2Former's pixel decoder",
    small={'images': 1, 'size': 128},
    typical={'images': 2, 'size': 1024},
    large={'images': 4, 'size': 1024},
)
def ms_deform_attn(device: torch.device, images: int, size: int, heads: int = 8, channels: int = 32) -> dict:
    """Makes every pixel of three levels a query, which samples four points within some pixels in each."""
    generator = torch.Generator().manual_seed(0)
    shapes = torch.tensor([[size // stride] * 2 for stride in (32, 16, 8)])
    pixels = int(shapes.prod(1).sum())
    places = torch.cat([torch.cartesian_prod(torch.arange(n), torch.arange(n)).flip(1) / n for n in shapes[:, 0]])
    # Off the edges between pixels, where the gradient jumps and rounding alone decides.
    fraction = 0.05 + 0.9 * torch.rand(images, pixels, heads, 3, 4, 2, generator=generator)
    whole = torch.randint(-4, 5, fraction.shape, generator=generator)
    sizes = shapes.flip(1)  # (L, 2), width and height
    pixel = (places[:, None] * sizes).floor()[:, None, :, None]  # (Q, 1, L, 1, 2)
    locations = (pixel + whole + fraction + 0.5) / sizes[:, None]
    inputs = {
        'value': torch.randn(images, pixels, heads, channels, generator=generator),
        'locations': locations,
        'weights': torch.randn(images, pixels, heads, 12, generator=generator).softmax(-1).unflatten(-1, (3, 4)),
    }
    return {'shapes': shapes.to(device)} | {k: v.to(device).requires_grad_() for k, v in inputs.items()}


@ms_deform_attn.contender('ours')
def ms_deform_attn_ours(shapes: Tensor, value: Tensor, locations: Tensor, weights: Tensor) -> Run:
    """The plain operator."""
    return lambda: multi_scale_deformable_attn(value, shapes, locations, weights)


@ms_deform_attn.contender('mmcv', host='mmcv')
def ms_deform_attn_mmcv(shapes: Tensor, value: Tensor, locations: Tensor, weights: Tensor) -> Run:
    """Mmcv's path of PyTorch operators."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return lambda: multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)


@case(
    'roi_align',
    'RoIAlign of the finest level of a pyramid, 7x7 bins',
    small={'rois': 64, 'size': (50, 76), 'channels': 32},
    typical={'rois': 512, 'size': (200, 304), 'channels': 256},
    large={'rois': 2000, 'size': (200, 304), 'channels': 256},
)
def roi_align(device: torch.device, rois: int, size: tuple, channels: int) -> dict:
    """Makes features of two images and boxes of 16 to 112 pixels of the image."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(rois, 2, generator=generator) * torch.tensor(size[::-1]) * 4
    half = 8 + 48 * torch.rand(rois, 2, generator=generator)
    image = torch.arange(rois)[:, None] % 2
    maps = torch.randn(2, channels, *size, generator=generator)
    boxes = torch.cat([image, centre - half, centre + half], 1)
    return {'maps': maps.to(device).requires_grad_(), 'rois': boxes.to(device)}


@roi_align.contender('ours', host='mmcv')
def roi_align_ours(maps: Tensor, rois: Tensor) -> Run:
    """The plain operator."""
    return on(PLAIN, 'roi_align', lambda module: module.roi_align(maps, rois, 7, 0.25, 0, 'avg', True))


@roi_align.contender('compiled', host=COMPILED)
def roi_align_compiled(maps: Tensor, rois: Tensor) -> Run:
    """Mmcv's kernel."""
    return on(compiled(), 'roi_align', lambda module: module.roi_align(maps, rois, 7, 0.25, 0, 'avg', True))


def crowded_boxes(device: torch.device, boxes: int) -> dict:
    """Makes boxes in crowds of about ten."""
    generator = torch.Generator().manual_seed(0)
    crowds = torch.rand(max(1, boxes // 10), 2, generator=generator) * 1000
    centre = crowds[torch.randint(len(crowds), (boxes,), generator=generator)]
    centre = centre + 8 * torch.randn(boxes, 2, generator=generator)
    half = 20 + 40 * torch.rand(boxes, 2, generator=generator)
    found = torch.cat([centre - half, centre + half], 1)
    return {'boxes': found.to(device), 'scores': torch.rand(boxes, generator=generator).to(device)}


nms = case('nms', 'suppression of boxes', small={'boxes': 200}, typical={'boxes': 4000}, large={'boxes': 9000})(
    crowded_boxes
)
soft_nms = case('soft_nms', 'soft suppression', small={'boxes': 200}, typical={'boxes': 1000}, large={'boxes': 4000})(
    crowded_boxes
)


@nms.contender('ours', host='mmcv')
def nms_ours(boxes: Tensor, scores: Tensor) -> Run:
    """The plain operator."""
    return on(PLAIN, 'nms', lambda module: module.nms(boxes, scores, 0.5))


@nms.contender('compiled', host=COMPILED)
def nms_compiled(boxes: Tensor, scores: Tensor) -> Run:
    """Mmcv's kernel."""
    return on(compiled(), 'nms', lambda module: module.nms(boxes, scores, 0.5))


@soft_nms.contender('ours', host='mmcv')
def soft_nms_ours(boxes: Tensor, scores: Tensor) -> Run:
    """The plain operator."""
    return on(PLAIN, 'nms', lambda module: module.soft_nms(boxes, scores))


@soft_nms.contender('compiled', host=COMPILED)
def soft_nms_compiled(boxes: Tensor, scores: Tensor) -> Run:
    """Mmcv's kernel."""
    return on(compiled(), 'nms', lambda module: module.soft_nms(boxes, scores))


@case(
    'modulated_deform_conv',
    'modulated deformable convolution, 3x3',
    small={'images': 2, 'channels': 16, 'size': (20, 31)},
    typical={'images': 2, 'channels': 256, 'size': (50, 76)},
    large={'images': 2, 'channels': 256, 'size': (100, 152)},
)
def modulated_deform_conv(device: torch.device, images: int, channels: int, size: tuple) -> dict:
    """Makes features, offsets of about a pixel off the edges between pixels, masks and weights."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randint(-2, 2, (images, 18, *size), generator=generator)
    inputs = {
        'maps': torch.randn(images, channels, *size, generator=generator),
        'offset': whole + 0.05 + 0.9 * torch.rand(images, 18, *size, generator=generator),
        'mask': torch.rand(images, 9, *size, generator=generator),
        'weight': torch.randn(channels, channels, 3, 3, generator=generator),
    }
    return {key: value.to(device).requires_grad_() for key, value in inputs.items()}


@modulated_deform_conv.contender('ours', host='mmcv')
def modulated_deform_conv_ours(**inputs: Tensor) -> Run:
    """The plain operator."""
    return on(
        PLAIN,
        'modulated_deform_conv',
        lambda module: module.modulated_deform_conv2d(*inputs.values(), None, 1, 1, 1, 1, 1),
    )


@modulated_deform_conv.contender('compiled', host=COMPILED)
def modulated_deform_conv_compiled(**inputs: Tensor) -> Run:
    """Mmcv's kernel."""
    return on(
        compiled(),
        'modulated_deform_conv',
        lambda module: module.modulated_deform_conv2d(*inputs.values(), None, 1, 1, 1, 1, 1),
    )
