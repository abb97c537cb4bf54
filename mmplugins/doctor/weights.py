"""Whether the weights that a config starts from can be had: the file is there, the scheme known, the name listed."""

import os
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader, get_deprecated_model_names, get_external_models

from .report import Report, cause, did_you_mean, walk

SECONDS = 10  # that a server has to answer


def pretrained(cfg: Config) -> list[tuple[str, str]]:
    """Returns the key and the path or address of all weights that a run of the config would load."""
    found = []
    for key, node in walk(cfg.get('model'), 'model'):
        kind = node.get('type')
        if (kind if isinstance(kind, str) else getattr(kind, '__name__', '')) in ('Pretrained', 'PretrainedInit'):
            found.append((f'{key}.checkpoint', node.get('checkpoint')))
        found.append((f'{key}.pretrained', node.get('pretrained')))
    found.append(('load_from', cfg.get('load_from')))
    return [(key, path) for key, path in found if isinstance(path, str) and path]


def check_weights(report: Report, cfg: Config, network: bool = False) -> None:
    """Checks all weights that a config names.

    Args:
        report: Takes the findings, check ``weights``.
        cfg: The config.
        network: Whether to ask servers; else only what this machine knows is looked at.
    """
    named = pretrained(cfg)
    if not named:
        report.ok('weights', 'none are named: the training starts from scratch')
    for key, path in named:
        _check(report, key, path, network)


def _check(report: Report, key: str, path: str, network: bool) -> None:
    scheme, separator, rest = path.partition('://')
    if not separator:
        if Path(path).expanduser().is_file():
            report.ok('weights', f'{key}: {path} is there')
        else:
            report.error('weights', f'{key}: there is no file {path} (in {Path.cwd()})', 'correct the path')
        return
    schemes = sorted(prefix.removesuffix('://') for prefix in CheckpointLoader._schemes if prefix.endswith('://'))
    if not any(path.startswith(prefix) for prefix in CheckpointLoader._schemes if prefix):
        report.error(
            'weights',
            f'{key}: {path} has the unknown scheme {scheme}{did_you_mean(scheme, schemes)}',
            f'give a file, or one of the schemes {", ".join(schemes)}',
        )
        return
    if scheme in ('torchvision', 'modelzoo') and find_spec('torchvision') is None:
        report.error(
            'weights',
            f'{key}: {path} needs torchvision, which is not installed',
            'give the address of the file itself (https://download.pytorch.org/models/...), or install torchvision',
        )
        return
    address = path if scheme in ('http', 'https') else None
    if scheme in ('open-mmlab', 'openmmlab'):
        models = get_external_models()
        name = get_deprecated_model_names().get(rest, rest)
        if name not in models:
            report.error(
                'weights', f'{key}: mmengine has no weights {rest!r}{did_you_mean(rest, models)}', 'correct it'
            )
            return
        address = models[name] if '://' in models[name] else None
    if address is not None:
        _ask(report, key, path, address, network)
    else:
        report.ok('weights', f'{key}: {path} (not tried)')


def _ask(report: Report, key: str, path: str, address: str, network: bool) -> None:
    """Looks for a download that is here already, and at the server if asked for."""
    file = Path(torch.hub.get_dir(), 'checkpoints', os.path.basename(urlparse(address).path))
    if file.is_file():
        report.ok('weights', f'{key}: {path} was downloaded before ({file})')
        return
    if not network:
        report.ok('weights', f'{key}: {path} will be downloaded (not tried; --network does)')
        return
    try:
        with urlopen(Request(address, method='HEAD'), timeout=SECONDS) as answer:  # an address of the config's own
            size = int(answer.headers.get('Content-Length') or 0)
    except (URLError, OSError, ValueError) as error:
        report.error(
            'weights',
            f'{key}: {address} cannot be reached ({cause(error)})',
            f'download it where there is a network, and put it at {file}',
        )
        return
    report.ok('weights', f'{key}: {address} answers' + f' ({size / 2**20:.0f} MiB)' * bool(size))
