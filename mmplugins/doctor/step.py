"""One batch through model, loss and optimizer: what has no gradient, what is not finite, how much memory it takes."""

import copy
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import FUNCTIONS, MODELS
from torch import Tensor, nn

from mmplugins.engine.launch import type_name, use_cpu

from .data import fixed_seed
from .report import Report, cause, listed, walk

IMAGES = 2  # batch norm over a single value fails
MIB = 2**20


def build_model(report: Report, cfg: Config) -> nn.Module | None:
    """Builds a config's model with initial weights; weights that would be downloaded are left out.

    Args:
        report: Takes the findings, check ``model``.
        cfg: The config; stays as it is.

    Returns:
        The model on this machine's device, training; None if it cannot be built.
    """
    cfg = copy.deepcopy(cfg)
    cfg.launcher = 'none'
    device = get_device()
    try:
        if device == 'cpu':
            use_cpu(cfg)
        _leave_out_downloads(cfg.model)
        with fixed_seed():
            model = MODELS.build(cfg.model)
            if hasattr(model, 'init_weights'):
                model.init_weights()
        model = model.to(device).train()
    except Exception as error:  # of any model, for any reason: that is the finding
        report.error('model', f'model cannot be built: {cause(error)}', 'mend the arguments that the error names')
        return None
    count = sum(parameter.numel() for parameter in model.parameters())
    frozen = sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)
    report.ok('model', f'{type(model).__name__} with {count / 1e6:.1f} million parameters, {frozen / 1e6:.1f} frozen')
    return model


def _leave_out_downloads(model: Mapping) -> None:
    for _, node in walk(model, 'model'):
        if '://' in str(node.get('pretrained') or ''):
            node['pretrained'] = None
        init = node.get('init_cfg')
        if isinstance(init, Mapping) and type_name(init) == 'Pretrained' and '://' in str(init.get('checkpoint')):
            node['init_cfg'] = None


def check_step(report: Report, cfg: Config, model: nn.Module, samples: Sequence[dict]) -> None:
    """Runs a training step.

    Args:
        report: Takes the findings, checks ``step``, ``loss``, ``gradient`` and ``memory``.
        cfg: The config.
        model: What ``build_model`` gave; it is changed.
        samples: What the training's pipeline gives.
    """
    samples = [samples[i % len(samples)] for i in range(IMAGES)]
    loader = cfg.train_dataloader
    collate = loader.get('collate_fn') or dict(type='pseudo_collate')
    MessageHub.get_current_instance().update_info('iter', 0)  # as a runner does; annealed losses ask for it
    saved = SavedTensors(model)
    try:
        with fixed_seed():
            function = FUNCTIONS.get(collate['type']) if isinstance(collate['type'], str) else collate['type']
            data = model.data_preprocessor((function or pseudo_collate)(copy.deepcopy(samples)), training=True)
            with saved.count():
                losses = model(**data, mode='loss')
                total, log = model.parse_losses(losses)
            total.backward()
    except Exception as error:  # of any model, for any reason: that is the finding
        report.error('step', f'a batch of {IMAGES} fails: {cause(error)}', 'mend what the error names')
        return
    _check_losses(report, {name: float(value.detach()) for name, value in log.items()})
    _check_gradients(report, model)
    state = _optimizer_state(report, cfg, model)
    if state is not None:
        _tell_memory(report, loader.get('batch_size') or 1, model, saved.bytes, state)


def _check_losses(report: Report, log: Mapping[str, float]) -> None:
    wrong = [f'{name} {value}' for name, value in log.items() if not torch.isfinite(torch.tensor(value))]
    nothing = [name for name, value in log.items() if 'loss' in name and value == 0]
    if wrong:
        report.error(
            'loss',
            f'not finite with initial weights: {listed(wrong)}',
            'look at the data, and at divisions in the loss',
        )
    if nothing:
        report.warning(
            'loss',
            f'exactly 0: {listed(nothing)}',
            'nothing of the batch counts for it: all pixels ignored, no object, a softmax of one class, a weight of 0?',
        )
    if not wrong and not nothing:
        report.ok('loss', ', '.join(f'{name} {value:.3g}' for name, value in list(log.items())[:8]))


def _check_gradients(report: Report, model: nn.Module) -> None:
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    without = [name for name, parameter in trained.items() if parameter.grad is None]
    broken = [name for name, parameter in trained.items() if parameter.grad is not None]
    broken = [name for name in broken if not torch.isfinite(trained[name].grad).all()]
    if not trained:
        report.error('gradient', 'no parameter is trained', 'look at frozen_stages and requires_grad')
        return
    if broken:
        report.error(
            'gradient', f'not finite in {len(broken)} parameters: {listed(broken)}', 'look at the losses above'
        )
    if without:
        report.warning(
            'gradient',
            f'{len(without)} of {len(trained)} parameters get none: {listed(without)}',
            'they stay as initialised; several processes need find_unused_parameters=True, or leave the module out',
        )
    if not broken and not without:
        report.ok('gradient', f'all {len(trained)} trained parameters get one')


def _optimizer_state(report: Report, cfg: Config, model: nn.Module) -> int | None:
    """Bytes of the optimizer's state after a step; None if there is no optimizer."""
    wrapper = cfg.get('optim_wrapper')
    if not wrapper:
        return 0
    wrapper = copy.deepcopy(wrapper)
    if type_name(wrapper) == 'AmpOptimWrapper' and get_device() == 'cpu':
        wrapper['type'] = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
    try:
        built = build_optim_wrapper(model, wrapper)
        one = [built] if hasattr(built, 'optimizer') else [part for _, part in built.items()]
        for part in one:
            part.optimizer.step()
    except Exception as error:  # of any optimizer, for any reason: that is the finding
        report.error('step', f'optim_wrapper cannot be built: {cause(error)}', 'mend what the error names')
        return None
    values = [value for part in one for entry in part.optimizer.state.values() for value in entry.values()]
    return sum(value.nbytes for value in values if isinstance(value, Tensor))


class SavedTensors:
    """Sums up what a forward pass keeps for the backward pass, weights left out; what is shared counts once.

    Args:
        model: The model.

    Attributes:
        bytes: The sum.
    """

    def __init__(self, model: nn.Module) -> None:
        self._known = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
        self.bytes = 0

    def count(self) -> torch.autograd.graph.saved_tensors_hooks:
        """Returns the context in which the forward pass runs."""
        return torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)

    def _pack(self, tensor: Tensor) -> SimpleNamespace:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._known.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return SimpleNamespace(tensor=tensor.detach())

    @staticmethod
    def _unpack(kept: SimpleNamespace) -> Tensor:
        return kept.tensor


def _tell_memory(report: Report, batch: int, model: nn.Module, saved: int, state: int) -> None:
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    gradients = sum(parameter.grad.nbytes for parameter in model.parameters() if parameter.grad is not None)
    activations = saved * batch // IMAGES
    total = weights + gradients + state + activations
    text = (
        f'about {total / MIB:,.0f} MiB a process at batch_size {batch}, in float32: weights {weights / MIB:,.0f}, '
        f'gradients {gradients / MIB:,.0f}, optimizer {state / MIB:,.0f}, kept for the backward pass '
        f'{activations / MIB:,.0f}; what an operator works with comes on top'
    )
    there = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
    if there is not None and total > there:
        report.warning(
            'memory', f'{text}; the device has {there / MIB:,.0f} MiB', 'lower batch_size or the crop, or use --amp'
        )
    else:
        report.ok('memory', text)
