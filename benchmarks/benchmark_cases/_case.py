"""What a case and a contender are, and the table of all cases."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch

from mmplugins.hosts import problem_with
from mmplugins.ops import compiled

OURS = 'ours'
SIZES = ('small', 'typical', 'large')
COMPILED = 'mmcv._ext'  # host of a contender that needs mmcv's compiled operators
TRITON = 'triton'  # host of a contender that stands beside our kernels for GPUs

Run = Callable[[], Any]


@dataclass(frozen=True)
class Contender:
    """One way to compute what a case is about.

    Attributes:
        name: 'ours', or the toolbox's name, or 'released'.
        build: Takes the case's inputs as keyword arguments and returns the function that is measured. What it does
            before it returns, such as building a module, is not measured.
        host: Toolbox that it needs, a key of ``mmplugins.hosts.HOSTS``, or ``COMPILED``, or ``TRITON``.
        differs: Why its values are not ours; empty if they should be.
        up_to_factor: Why its values and gradients are ours times a factor; empty if they are not.
    """

    name: str
    build: Callable[..., Run]
    host: str | None = None
    differs: str = ''
    up_to_factor: str = ''

    @property
    def problem(self) -> str | None:
        """Why it cannot run here, or None."""
        if self.host == COMPILED:
            return None if compiled() else 'mmcv has no compiled operators here'
        if self.host == TRITON:
            there = torch.cuda.is_available() and find_spec('triton')
            return None if there else 'there is no CUDA device with Triton here'
        return problem_with(self.host) if self.host else None


@dataclass
class Case:
    """A task with several contenders that compute it on the same tensors.

    Attributes:
        name: Name on the command line.
        description: One line.
        sizes: Arguments of ``make_inputs`` for each of ``SIZES``.
        make_inputs: Takes a device and the arguments of a size; returns what the contenders take, by name. Tensors
            that require a gradient are what the backward pass is measured for; without one there is none.
        tolerance: Largest relative difference (2-norm) from ours of values and gradients that should be ours.
        contenders: By name.
    """

    name: str
    description: str
    sizes: dict[str, dict]
    make_inputs: Callable[..., dict]
    tolerance: float = 1e-4
    contenders: dict[str, Contender] = field(default_factory=dict)

    def contender(
        self, name: str, host: str | None = None, differs: str = '', up_to_factor: str = ''
    ) -> Callable[[Callable[..., Run]], Callable[..., Run]]:
        """Decorates the ``build`` function of a contender; see ``Contender`` for the arguments.

        Raises:
            ValueError: The case has a contender of this name.
        """

        def add(build: Callable[..., Run]) -> Callable[..., Run]:
            if name in self.contenders:
                raise ValueError(f'case {self.name} has a contender {name} already; choose another name')
            self.contenders[name] = Contender(name, build, host, differs, up_to_factor)
            return build

        return add


def case(
    name: str, description: str, *, small: dict, typical: dict, large: dict, tolerance: float = 1e-4
) -> Callable[[Callable[..., dict]], Case]:
    """Decorates the function that makes a case's inputs, and enters the case; see ``Case`` for the arguments.

    Raises:
        ValueError: There is a case of this name.
    """

    def enter(make_inputs: Callable[..., dict]) -> Case:
        if name in CASES:
            raise ValueError(f'there is a case {name} already; choose another name')
        sizes = {'small': small, 'typical': typical, 'large': large}
        CASES[name] = Case(name, description, sizes, make_inputs, tolerance)
        return CASES[name]

    return enter


CASES: dict[str, Case] = {}
