"""What ``tools/train.py`` and ``tools/test.py`` share: arguments, the config, checks, and the runner.

Imports mmengine and torch only, so that a config of any toolbox runs with the tools. What cannot work raises
UsageError before anything is trained.
"""

import gc
import os
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import HistoryBuffer, print_log
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner
from torch import distributed

from mmplugins.functional.compat import VERSION

from .cfg_options import CfgOptions
from .config_styles import ConfigError, read_config
from .known_warnings import hide_known_warnings, import_toolbox_before_the_runner
from .pictures import write_pictures_or_raise


class UsageError(Exception):
    """The command cannot run; the text says how to mend it."""


def add_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of both tools."""
    parser.add_argument(
        '--work-dir', help="folder of logs and checkpoints; default: the config's, or work_dirs/<config>"
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='override settings of the config; lists as key="[a,b]" or key=a,b, nested as key="[(a,b),(c,d)]"; a text '
        'with blanks as "key=my text", with commas as "key=\'a,b\'"',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='what started the processes'
    )
    # torch.distributed.launch passes it; the environment says the same
    parser.add_argument('--local-rank', '--local_rank', type=int, help=SUPPRESS)


def load_config(args: Namespace, tool: str | None = None) -> Config:
    """Reads the config and puts the command line's settings in.

    Args:
        args: Has ``config`` and what ``add_arguments`` adds.
        tool: File of the tool; the configs to suggest lie in ``../configs``, seen from its folder. None: those of the
            package, or of the clone that it is in.

    Returns:
        The config. Its ``work_dir`` is the command line's, else the config's own, else ``work_dirs/<config>``.

    Raises:
        UsageError: There is no such file, or it cannot be read: it mixes the styles of configs, for example.
    """
    path = Path(args.config)
    if not path.is_file():
        raise UsageError(f'config {args.config} is no file{_suggestion(path, _configs(tool))}')
    try:
        cfg = read_config(args.config)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / path.stem)
    # mmengine asks for it where a type is looked up before the runner is there
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    hide_known_warnings(cfg)
    return cfg


def _configs(tool: str | None) -> Path:
    if tool is not None:
        return Path(tool).resolve().parents[1] / 'configs'
    package = Path(__file__).parents[1]
    packed = package / '.mim' / 'configs'
    return packed if packed.is_dir() else package.parent / 'configs'


def _suggestion(path: Path, folder: Path) -> str:
    known: dict[str, list[Path]] = {}
    for config in sorted(folder.rglob('*.py')):
        if '_base_' not in config.parts:
            known.setdefault(config.stem, []).append(config)
    close = [config for stem in get_close_matches(path.stem, known, cutoff=0.5) for config in known[stem]]
    if not close:
        return f'; configs lie in {folder}'
    return '; did you mean ' + ' or '.join(os.path.relpath(config) for config in close[:3]) + '?'


def check_data(cfg: Config, *loaders: str) -> None:
    """Checks that the folders of the data sets are there.

    Args:
        cfg: The config.
        *loaders: Keys of the data loaders that will be used.

    Raises:
        UsageError: A ``data_root`` on this machine is no folder.
    """
    roots = dict(pair for loader in loaders for pair in _data_roots(cfg.get(loader), loader))
    missing = {key: root for key, root in roots.items() if not Path(root).is_dir()}
    if missing:
        raise UsageError(
            ', '.join(f'{key} is {root!r}' for key, root in missing.items())
            + f', and there is no such folder (in {Path.cwd()}); link the data there (the config says how), '
            'or give their place with --cfg-options ' + ' '.join(f'{key}=FOLDER' for key in missing)
        )


def _data_roots(node: object, key: str) -> Iterator[tuple[str, str]]:
    """Yields the config key and the value of each local ``data_root``, those of wrapped data sets included."""
    if isinstance(node, list | tuple):
        for index, child in enumerate(node):
            yield from _data_roots(child, f'{key}.{index}')
    elif isinstance(node, dict):
        root = node.get('data_root')
        if root and '://' not in root and not node.get('backend_args'):
            yield f'{key}.data_root', root
        for name in ('dataset', 'datasets'):
            yield from _data_roots(node.get(name), f'{key}.{name}')


def check_checkpoint(path: str, what: str) -> None:
    """Raises UsageError if a local checkpoint is not there.

    Args:
        path: A file, or an address of one of mmengine's schemes (``https://``, ``open-mmlab://``, ...).
        what: The argument or config key that named it.
    """
    if '://' not in path and not Path(path).is_file():
        raise UsageError(f'{what}: there is no checkpoint {path} (in {Path.cwd()})')


def build_runner(cfg: Config) -> Runner:
    """Builds the runner; starts the process group where mmengine cannot, on a machine without an accelerator.

    Raises:
        UsageError: The launcher's environment is missing, or the launcher does not work on this machine.
    """
    if cfg.launcher == 'pytorch':
        missing = [name for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR') if name not in os.environ]
        if missing:
            raise UsageError(
                f'--launcher pytorch needs {", ".join(missing)} in the environment: start the processes with '
                'tools/dist_train.sh CONFIG N or tools/dist_test.sh CONFIG CHECKPOINT N'
            )
    if cfg.launcher == 'mpi':  # mmengine's wrapper reads torch's name, its launcher Open MPI's
        os.environ.setdefault('LOCAL_RANK', os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK', '0'))
    if get_device() == 'cpu':
        use_cpu(cfg)
    allow_checkpoints()
    import_toolbox_before_the_runner(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    hide_known_warnings(cfg, runner.logger, runner.model)
    write_pictures_or_raise(runner)
    return runner


def allow_checkpoints() -> None:
    """Lets ``torch.load`` read what mmengine puts into a checkpoint: its log, arrays and numbers of numpy.

    From PyTorch 2.6 on ``torch.load`` refuses classes that it was not told of. mmengine up to 0.10.7 does not tell it,
    and could not test, resume or load what they had saved themselves; newer ones tell it at each load. Nothing that is
    allowed here runs code of the file: of ``getattr``, which a log's statistics are saved with, only these.
    """
    if VERSION < (2, 6):  # reads everything
        return
    core = np.core if np.__version__.startswith('1.') else np._core
    allowed = [(_statistic, 'builtins.getattr'), HistoryBuffer, np.ndarray, np.dtype]
    allowed += [type(np.dtype(kind)) for kind in np.typecodes['AllInteger'] + '?efd']
    for function in (core.multiarray._reconstruct, core.multiarray.scalar):
        # numpy 2 renamed the module; a file may come from either
        allowed += [(function, f'numpy.{name}.multiarray.{function.__name__}') for name in ('core', '_core')]
    torch.serialization.add_safe_globals(allowed)


def _statistic(owner: type, name: str) -> Callable:
    if owner is not HistoryBuffer:
        raise UnpicklingError(f'the checkpoint asks for {name!r} of {owner!r}, which no log of mmengine needs')
    return getattr(owner, name)


def leave_process_group() -> None:
    """Ends the process group, if there is one, when all processes have come this far.

    gloo aborts a process that leaves while another still sends to it, and one whose group is still referred to when
    the interpreter ends: let go of the runner first, whose wrapped model refers to it.
    """
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
        gc.collect()  # a runner and its hooks refer to one another


def use_cpu(cfg: Config) -> None:
    """Makes a config work on the CPU.

    1. SyncBN, which does not run on the CPU, becomes BN.
    2. With the pytorch launcher, the process group is started with gloo and the model is wrapped without devices:
       mmengine's launcher and wrapper assume CUDA.

    Args:
        cfg: The config; changed in place.

    Raises:
        UsageError: The launcher is slurm or mpi.
    """
    if cfg.launcher in ('slurm', 'mpi'):
        raise UsageError(
            f'--launcher {cfg.launcher} needs CUDA, and torch sees none (driver? CUDA_VISIBLE_DEVICES?); '
            'several processes on the CPU: tools/dist_train.sh CONFIG N'
        )
    if cfg.launcher == 'pytorch':
        timeout = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
        distributed.init_process_group('gloo', timeout=None if timeout is None else timedelta(seconds=timeout))
        wrapper = cfg.get('model_wrapper_cfg') or dict(
            broadcast_buffers=False, find_unused_parameters=cfg.get('find_unused_parameters', False)
        )
        wrapper.setdefault('type', 'MMDistributedDataParallel')
        if 'DistributedDataParallel' in type_name(wrapper):
            wrapper.setdefault('device_ids', None)
        cfg.model_wrapper_cfg = wrapper
    changed = _sync_bn_to_bn(cfg.model)
    if cfg.get('sync_bn') is not None:
        cfg.sync_bn = None
        changed += 1
    if changed:
        print_log(
            'CPU: SyncBN of the config became BN, as SyncBatchNorm runs on CUDA only; '
            'each process normalises with its own statistics.',
            logger='current',
        )


def type_name(config: dict) -> str:
    """Name of a config's ``type``, without scope; '' if it has none. In a pure-Python config the type is a class."""
    kind = config.get('type', '')
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__


def _sync_bn_to_bn(node: object) -> int:
    """Changes SyncBN to BN everywhere in a model's config, in place; returns how often."""
    if isinstance(node, list | tuple):
        return sum(_sync_bn_to_bn(child) for child in node)
    if not isinstance(node, dict):
        return 0
    changed = 0
    if type_name(node) in ('SyncBN', 'MMSyncBN', 'SyncBatchNorm'):
        node['type'] = 'BN'
        changed = 1
    return changed + sum(_sync_bn_to_bn(child) for child in node.values())
