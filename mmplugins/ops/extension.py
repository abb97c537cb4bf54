"""What takes the place of mmcv's compiled module: plain operators under its names, and a sentence for all others."""

from collections.abc import Callable
from typing import NoReturn

import torch

from mmplugins.hosts import HOSTS

from . import carafe, deform_conv, focal_loss, masked_conv, ms_deform_attn, nms, psa_mask, roi_align, roi_pool


def get_compiler_version() -> str:
    """Returns what mmcv's report of the environment says of the compiler."""
    return 'none (plain operators of mmplugins)'


def get_compiling_cuda_version() -> str:
    """Returns what mmcv's report of the environment says of CUDA."""
    return 'none (plain operators of mmplugins)'


_BY_MODULE = {
    nms: ('nms', 'softnms', 'nms_match', 'bbox_overlaps'),
    roi_align: ('roi_align_forward', 'roi_align_backward'),
    roi_pool: ('roi_pool_forward', 'roi_pool_backward'),
    ms_deform_attn: ('ms_deform_attn_forward', 'ms_deform_attn_backward'),
    focal_loss: (
        'sigmoid_focal_loss_forward',
        'sigmoid_focal_loss_backward',
        'softmax_focal_loss_forward',
        'softmax_focal_loss_backward',
    ),
    deform_conv: (
        'deform_conv_forward',
        'deform_conv_backward_input',
        'deform_conv_backward_parameters',
        'modulated_deform_conv_forward',
        'modulated_deform_conv_backward',
    ),
    masked_conv: ('masked_im2col_forward', 'masked_col2im_forward'),
    psa_mask: ('psamask_forward', 'psamask_backward'),
    carafe: ('carafe_forward', 'carafe_backward', 'carafe_naive_forward', 'carafe_naive_backward'),
}
OPERATORS: dict[str, Callable] = {
    'get_compiler_version': get_compiler_version,
    'get_compiling_cuda_version': get_compiling_cuda_version,
    **{name: getattr(module, name) for module, names in _BY_MODULE.items() for name in names},
}


def missing(name: str) -> Callable:
    """Returns a function that stands for an operator of which there is no plain one.

    Args:
        name: Name of the operator in mmcv's module, for the message.

    Returns:
        A function of any arguments that raises NotImplementedError.

    Raises:
        AttributeError: The name is one of Python's own (``__path__``).
    """
    if name.startswith('__'):
        raise AttributeError(name)

    def operator(*args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(
            f"mmcv's operator {name} is not compiled here and mmplugins has no plain one: install mmcv with compiled "
            f'operators for PyTorch {torch.__version__} (`{HOSTS["mmcv"].install}`), or use a model without {name}.'
        )

    operator.__name__ = name
    return operator
