"""Whether a checkpoint is of the model that is to have it: if nothing of it is, that is an error; a part is listed.

mmengine loads what has the right name and shape and prints the rest, so that a network with random weights is tested,
or trained on, without an error.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader, load_state_dict
from torch import Tensor, nn

from .launch import UsageError

SHOWN = 30  # names of each kind


class Fit(NamedTuple):
    """How a checkpoint fits a model, by names of tensors.

    Attributes:
        total: Number of the model's tensors.
        missing: The model's that are not in the checkpoint.
        reshaped: Those of another shape, with both shapes.
        unknown: The checkpoint's that are not of the model.
    """

    total: int
    missing: list[str]
    reshaped: list[str]
    unknown: list[str]

    @property
    def count(self) -> int:
        """Number of tensors that will be loaded."""
        return self.total - len(self.missing) - len(self.reshaped)


def tensors_of(checkpoint: Mapping) -> OrderedDict[str, Tensor]:
    """Returns a checkpoint's weights by name, without the prefix that a data-parallel wrapper leaves."""
    saved = checkpoint.get('state_dict', checkpoint)
    state = OrderedDict((name.removeprefix('module.'), value) for name, value in saved.items())
    state._metadata = getattr(saved, '_metadata', {})  # versions of modules, which rename what older ones wrote
    return state


def compare(model: nn.Module, state: Mapping[str, Tensor]) -> Fit:
    """Compares names and shapes; counters of batch norm, which old checkpoints lack, do not count."""
    own = {name: value for name, value in model.state_dict().items() if not name.endswith('num_batches_tracked')}
    missing = [name for name in own if not isinstance(state.get(name), Tensor)]
    both = [name for name in own if isinstance(state.get(name), Tensor)]
    reshaped = [
        f'{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}'
        for name in both
        if state[name].shape != own[name].shape
    ]
    unknown = [name for name in state if name not in own and not name.endswith('num_batches_tracked')]
    return Fit(len(own), missing, reshaped, unknown)


def check_fit(model: nn.Module, state: Mapping[str, Tensor], what: str, whole: bool = False) -> None:
    """Checks that a checkpoint is of the model, and logs what does not fit.

    Args:
        model: The model, not wrapped.
        state: What ``tensors_of`` gave.
        what: The argument or config key and the file that it named, for messages.
        whole: Whether every tensor of the model must be there.

    Raises:
        UsageError: No tensor of the model is in the checkpoint, or not every one although ``whole``.
    """
    fit = compare(model, state)
    if fit.total and fit.count == 0:
        raise UsageError(
            f'{what} is not a checkpoint of this model: none of its {fit.total} tensors can be loaded '
            f'({_report(fit, 3)}). Give the config that it was trained with. Released codes have other names: convert '
            "their checkpoints with tools/model_converters/. A backbone's weights: give the backbone "
            "init_cfg=dict(type='Pretrained', checkpoint=FILE)"
        )
    if whole and fit.count < fit.total:
        raise UsageError(
            f'{what} is of another model, and a run that is resumed goes on with the same: {_report(fit, 3)}. To start '
            'from its weights, leave out --resume and give --cfg-options load_from=FILE'
        )
    if fit.count < fit.total or fit.unknown:
        print_log(
            f'{what} fits the model in part: {fit.count} of {fit.total} tensors are loaded, the others stay as '
            f'initialised. {_report(fit, SHOWN)}',
            'current',
            logging.WARNING,
        )


def load_weights(model: nn.Module, path: str, what: str) -> None:
    """Loads a checkpoint into a model on the CPU; see ``check_fit`` for errors and what is logged."""
    state = tensors_of(CheckpointLoader.load_checkpoint(path, map_location='cpu'))
    check_fit(model, state, f'{what}: {path}')
    load_state_dict(model, state, strict=False, logger='silent')


class CheckpointFitHook(Hook):
    """Checks what a runner loads, before it does.

    Args:
        what: The argument or config key that named the checkpoint.
    """

    priority = 'LOWEST'  # after hooks that change the checkpoint: averaged weights

    def __init__(self, what: str) -> None:
        self.what = what

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compares with the runner's model; a run that is resumed needs all of it."""
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        check_fit(model, tensors_of(checkpoint), f'{self.what}: {runner._load_from or "the latest"}', runner._resume)
        if runner._resume and 'optimizer' in checkpoint and hasattr(runner.optim_wrapper, 'state_dict'):
            tell_settings_without_effect(runner.optim_wrapper.state_dict(), checkpoint['optimizer'])


def tell_settings_without_effect(own: dict, saved: dict) -> None:
    """Logs what the config sets otherwise than the checkpoint of a run that is resumed, whose optimizer comes first.

    Args:
        own: State of the optimizer that was built from the config.
        saved: State of that in the checkpoint.
    """
    pairs = list(zip(own.get('param_groups', []), saved.get('param_groups', []), strict=False))
    for name, first in (('lr', 'initial_lr'), ('weight_decay', 'weight_decay'), ('momentum', 'momentum')):
        values = [[group.get(first, group.get(name)) for group in pair] for pair in pairs]
        other = [pair for pair in values if pair[0] != pair[1]]
        if other:
            print_log(
                f'--resume: {name} of {len(other)} of {len(pairs)} groups of parameters is {other[0][1]} in the '
                f'checkpoint and {other[0][0]} in the config; a run that is resumed goes on with {other[0][1]}. To '
                'change it, start from the weights: --cfg-options load_from=FILE, without --resume',
                'current',
                logging.WARNING,
            )


def _report(fit: Fit, shown: int) -> str:
    """Lists what does not fit, so many names of each kind."""
    kinds = {
        'not in it': fit.missing,
        'of another shape in it': fit.reshaped,
        'in it and not of the model': fit.unknown,
    }
    return '; '.join(
        f'{len(names)} {kind}: {", ".join(names[:shown])}' + (', ...' if len(names) > shown else '')
        for kind, names in kinds.items()
        if names
    )
