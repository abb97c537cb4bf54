"""All checks of a config, in the order in which one finding explains the next."""

from collections.abc import Callable

from mmengine.config import Config

from mmplugins.engine.launch import UsageError
from mmplugins.engine.launch import check_data as check_folders

from .classes import check_classes
from .clips import check_clips
from .data import check_data
from .names import check_names
from .report import Finding, Report, quiet
from .step import build_model, check_step
from .weights import check_weights


def check(
    cfg: Config,
    data: bool = False,
    files: int | None = None,
    network: bool = False,
    tell: Callable[[Finding], object] | None = None,
) -> Report:
    """Checks a config before a long run; random generators and the config stay as they are.

    Args:
        cfg: The config, as ``mmplugins.engine.launch.load_config`` gives it.
        data: Whether files are read, and a batch of them goes through model and loss.
        files: How many files; None: 200, as far as they are read in 5 s.
        network: Whether servers are asked for weights.
        tell: Called with each finding at once.

    Returns:
        The findings.
    """
    report = Report(tell)
    with quiet():
        _check(report, cfg, data, files, network)
    return report


def _check(report: Report, cfg: Config, data: bool, files: int | None, network: bool) -> None:
    check_names(report, cfg)
    check_weights(report, cfg, network)
    if report.failed('types'):
        return  # nothing of it could be built
    meta = check_classes(report, cfg)
    check_clips(report, cfg)
    model = build_model(report, cfg) if cfg.get('model') else None
    if not data:
        return
    try:
        check_folders(cfg, 'train_dataloader', 'val_dataloader')
    except UsageError as error:
        text, _, mend = str(error).partition('; ')
        report.error('data', text, mend)
        return
    samples = check_data(report, cfg, meta, files)
    if model is not None and samples:
        check_step(report, cfg, model, samples)
