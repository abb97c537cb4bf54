"""What an evaluation beside the training must give back: random numbers, buffers and counters, and the log.

A run with a hook that computes something more then trains as one without it, bit by bit.
"""

import random
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from mmengine.logging import MessageHub
from torch import nn

_PLAIN = (int, float, bool, str, type(None))


@contextmanager
def random_numbers(seed: int) -> Iterator[None]:
    """Seeds Python, numpy and torch (the current CUDA device too), and gives their states back at the end.

    Args:
        seed: From 0 to 2**32 - 1.
    """
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (the generator that transforms use)
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Puts a model into evaluation, without gradients, and gives back its modes, buffers, counters and the log.

    Some losses and heads count or average in their forward pass, whatever the mode: buffers (mmdet's SeesawLoss) and
    numbers and lists of numbers that are attributes of a module come back as they were. What is logged meanwhile does
    not reach the run's log. Augmentations of batches in the data preprocessor are off.

    Args:
        model: Not wrapped.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    counters = [(module, _counters(module)) for module in model.modules()]
    log = MessageHub.get_current_instance().log_scalars
    logged = OrderedDict(log)
    with ExitStack() as stack:
        for module in model.modules():
            if getattr(module, 'batch_augments', None):
                stack.callback(setattr, module, 'batch_augments', module.batch_augments)
                module.batch_augments = None
        try:
            model.eval()
            log.clear()
            with torch.no_grad():
                yield
        finally:
            log.clear()
            log.update(logged)
            for module, values in counters:
                vars(module).update(values)
            for buffer, value in buffers:
                if not torch.equal(buffer, value):
                    buffer.data.copy_(value)
            for module, mode in modes:
                module.training = mode


def _counters(module: nn.Module) -> dict[str, object]:
    """Copies the attributes of a module that are plain values or lists of these."""
    found = {}
    for name, value in vars(module).items():
        if isinstance(value, _PLAIN):
            found[name] = value
        elif isinstance(value, list) and all(isinstance(item, _PLAIN) for item in value):
            found[name] = list(value)
    return found
