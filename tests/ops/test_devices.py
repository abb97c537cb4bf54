"""Nothing is made on the host where it does not belong: all tensors on ``meta``, which mixes with no other device.

What reads numbers from the device (suppression, RoIs, the gradient of a table) cannot run there.
"""

import pytest
import torch
from mmcv.ops import carafe, deform_conv2d, modulated_deform_conv2d, sigmoid_focal_loss, softmax_focal_loss
from mmcv.ops.psa_mask import psa_mask

from mmplugins.ops.ms_deform_attn import multi_scale_deformable_attn

META = torch.device('meta')


def made(*shape):
    return torch.zeros(shape, device=META, requires_grad=True)


FORWARD = {
    'ms_deform_attn': lambda: multi_scale_deformable_attn(
        made(2, 6, 3, 4), torch.ones(2, 2, dtype=torch.int64, device=META), made(2, 5, 3, 2, 2, 2), made(2, 5, 3, 2, 2)
    ),
    'deform_conv': lambda: deform_conv2d(made(2, 4, 5, 6), made(2, 18, 5, 6), made(8, 4, 3, 3), 1, 1),
    'modulated_deform_conv': lambda: modulated_deform_conv2d(
        made(2, 4, 5, 6), made(2, 18, 5, 6), made(2, 9, 5, 6), made(8, 4, 3, 3), made(8), 1, 1
    ),
}
BOTH = {
    'psa_mask': lambda: psa_mask(made(2, 9, 4, 5), 0, (3, 3)),
    'carafe': lambda: carafe(made(2, 4, 3, 5), made(2, 9, 6, 10), 3, 1, 2),
    'sigmoid_focal_loss': lambda: sigmoid_focal_loss(
        made(5, 3), torch.zeros(5, dtype=torch.int64, device=META), 2.0, 0.25, None, 'none'
    ),
    'softmax_focal_loss': lambda: softmax_focal_loss(
        made(5, 3), torch.zeros(5, dtype=torch.int64, device=META), 2.0, 0.25, None, 'sum'
    ),
}
SHAPES = {
    'ms_deform_attn': (2, 5, 12),
    'deform_conv': (2, 8, 5, 6),
    'modulated_deform_conv': (2, 8, 5, 6),
    'psa_mask': (2, 20, 4, 5),
    'carafe': (2, 4, 6, 10),
    'sigmoid_focal_loss': (5, 3),
    'softmax_focal_loss': (),
}


@pytest.mark.usefixtures('plain')
@pytest.mark.parametrize('name', [*FORWARD, *BOTH])
def test_all_on_the_device(name):
    output = (FORWARD | BOTH)[name]()
    assert output.device == META
    assert output.shape == SHAPES[name]
    if name in BOTH:
        output.sum().backward()
