"""The network as inference runs it: the same weights, fewer and faster operations.

Frozen batch norms are part of the convolutions before them, and on a CPU everything is laid out channels-last and goes
to oneDNN. The trained network is not touched.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mmplugins.functional.device import cpu_kernels, without_autocast

from .network import AOTNetwork


def inference_network(network: AOTNetwork) -> AOTNetwork:
    """Copies a network for inference; it computes the same, up to rounding.

    1. Modules are copied; parameters and buffers are shared with the network, but for those of the next steps.
    2. A batch norm of the backbone that follows a convolution becomes part of it. A probe image tells whether the
       backbone computes the same then; if not, because its modules are not run in the order in which they stand, no
       batch norm is fused.
    3. On a CPU, convolutions have channels-last weights, and those of 1x1 go to oneDNN.

    Args:
        network: In evaluation mode. Later changes of its weights may or may not reach the copy.

    Returns:
        The copy, without gradients for what was fused. In training mode the network itself is returned.
    """
    if network.training:
        return network
    with torch.no_grad():
        copied = copy_modules(network)
        backbone = copied.encoder.backbone
        if _fuse_batch_norms(backbone) and not _same_outputs(network, copied):
            copied.encoder.backbone = copy_modules(network.encoder.backbone)
        if cpu_kernels(network.encoder.projector.weight):
            for module in copied.modules():
                if type(module) is nn.Conv2d:
                    _lay_out(module)
    return copied


def copy_modules(module: nn.Module) -> nn.Module:
    """Copies modules that share all parameters and buffers with the module."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def _fuse_batch_norms(module: nn.Module) -> int:
    """Fuses each batch norm with the convolution that stands before it; returns how many there were."""
    count, before = 0, None
    for name, child in list(module.named_children()):
        if isinstance(child, _BatchNorm) and before is not None and child.running_mean is not None:
            setattr(module, before, fuse_conv_bn_eval(getattr(module, before), child))
            setattr(module, name, nn.Identity())
            count += 1
        before = name if type(child) is nn.Conv2d else None
        count += _fuse_batch_norms(child)
    return count


def _lay_out(conv: nn.Conv2d) -> None:
    """Gives a convolution channels-last weights of its own, and has a 1x1 convolution computed by oneDNN."""
    weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
    conv.weight = nn.Parameter(weight, requires_grad=False)
    if conv.kernel_size == (1, 1):
        # A single pixel is nothing to dilate. With one thread PyTorch computes 1x1 convolutions by MKL, unless they are
        # dilated; oneDNN takes half of the time (see functional/products.py).
        conv.dilation = (2, 2)


def _same_outputs(network: AOTNetwork, other: AOTNetwork) -> bool:
    """Whether the encoders of two networks give the same for a small image, up to rounding."""
    weight = network.encoder.projector.weight
    height, width = network.fitting_size((65, 65))
    image = torch.arange(3.0 * height * width, device=weight.device).sin().view(1, 3, height, width).to(weight.dtype)
    with without_autocast(weight.device):
        pairs = list(zip(_levels(network, image), _levels(other, image), strict=True))
    tolerance = 1e-3 if weight.dtype in (torch.float32, torch.float64) else 3e-2
    return all((a - b).abs().max() <= tolerance * a.abs().max() for a, b in pairs)


def _levels(network: AOTNetwork, image: Tensor) -> list[Tensor]:
    features = network.encoder(image)
    return [*features.shortcuts, features.embedding]
