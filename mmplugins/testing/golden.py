"""Reads golden inputs and outputs of the released codes."""

import os
from pathlib import Path

import numpy as np
import torch


def golden_dir() -> Path:
    """Folder of the golden files: ``MMPLUGINS_GOLDEN`` or, in a checkout, ``tests/golden``."""
    default = Path(__file__).parents[2] / 'tests' / 'golden'
    return Path(os.environ.get('MMPLUGINS_GOLDEN', default))


def load_golden(path: str | Path) -> dict:
    """Loads one golden file.

    Args:
        path: An ``.npz`` file, or a name inside ``golden_dir()``.

    Returns:
        Tensors by key; what was stored as a scalar comes as a Python number.

    Raises:
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    path = path if path.is_absolute() else golden_dir() / path
    if not path.is_file():
        raise FileNotFoundError(f'no golden file {path}; expected an .npz below {golden_dir()}')
    with np.load(path) as file:
        return {key: torch.from_numpy(value) if value.ndim else value.item() for key, value in file.items()}
