"""Tests a model from a config of any toolbox on mmengine: ``python tools/test.py CONFIG CHECKPOINT``."""

import inspect
import logging
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

# Before torch starts its threads; train.py says why.
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS, METRICS, Registry
from mmengine.runner import Runner

from mmplugins.engine.checkpoints import CheckpointFitHook
from mmplugins.engine.data_errors import FileFault, name_files
from mmplugins.engine.launch import (
    UsageError,
    add_arguments,
    build_runner,
    check_checkpoint,
    check_data,
    leave_process_group,
    load_config,
    type_name,
)
from mmplugins.engine.work_dirs import check_work_dir, named_if_full


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Runs the tool with a command line (None: the program's own) and returns the metrics."""
    parser = ArgumentParser(description='Test a model: compute its metrics, save and draw its predictions.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out',
        help="save the predictions: a path that ends in .pkl or .pickle takes all of the model's outputs; any other is "
        'a folder for the files that the metric writes (semantic segmentation: a PNG of labels an image; videos: a '
        'folder of PNGs each, and tables)',
    )
    parser.add_argument(
        '--show-dir',
        help='draw the predictions and save the pictures in this folder (mmseg: in vis_data/vis_image in it)',
    )
    parser.add_argument('--amp', action='store_true', help='predict in mixed precision')
    parser.add_argument('--tta', action='store_true', help="use the config's test-time augmentation")
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        cfg = load_config(args, __file__)
        check_checkpoint(args.checkpoint, 'CHECKPOINT')
        cfg.resume, cfg.load_from = False, args.checkpoint
        if args.out is not None:
            save_predictions(cfg, args.out)
        if args.show_dir is not None:
            draw_predictions(cfg, args.show_dir)
        if args.amp:
            cfg.test_cfg.fp16 = True
        if args.tta:
            use_tta(cfg)
        check_data(cfg, 'test_dataloader')
        check_work_dir(cfg)
        with named_if_full(cfg.work_dir, 'Make room, or choose another folder, and test again'):
            runner = build_runner(cfg)
            name_files(runner, cfg)
            if args.tta:
                check_tta(runner)
            runner.register_hook(CheckpointFitHook('CHECKPOINT'))
            metrics = runner.test()
    except UsageError as error:
        sys.exit(f'test.py: error: {error}')
    except FileFault as error:
        print_log(str(error), 'current', logging.ERROR)
        sys.exit(f'test.py: error: {error.short}')
    del runner
    leave_process_group()
    return metrics


def save_predictions(cfg: Config, out: str) -> None:
    """Makes the evaluator save the predictions.

    Args:
        cfg: The config; ``test_evaluator``, a metric or a list of metrics, is changed in place.
        out: A path that ends in .pkl or .pickle, or a folder.

    Raises:
        UsageError: ``out`` is a folder, and no metric writes files.
    """
    metrics = cfg.get('test_evaluator') or []
    metrics = [metrics] if isinstance(metrics, dict) else list(metrics)
    if out.endswith(('.pkl', '.pickle')):
        # mmdet's own dump encodes the masks, which would fill the disk otherwise
        dump = 'DumpDetResults' if cfg.get('default_scope') == 'mmdet' else 'DumpResults'
        cfg.test_evaluator = [*metrics, dict(type=dump, out_file_path=out)]
        return
    writers = [metric for metric in metrics if takes(METRICS, metric, 'output_dir')]
    if not writers:
        names = ', '.join(type_name(metric) for metric in metrics) or 'no metric'
        raise UsageError(
            f'--out {out}: test_evaluator has {names}, which cannot write files to a folder; '
            "give a path that ends in .pkl to save the model's outputs"
        )
    Path(out).mkdir(parents=True, exist_ok=True)  # a process may write before the first one has made the folder
    for metric in writers:
        metric['output_dir'] = out
        if takes(METRICS, metric, 'keep_results'):  # mmseg's CityscapesMetric removes them otherwise
            metric['keep_results'] = True


def draw_predictions(cfg: Config, show_dir: str) -> None:
    """Makes the visualization hook draw every prediction and save the pictures.

    Args:
        cfg: The config; the hook and the visualizer are changed in place.
        show_dir: The folder. mmdet's hook and ours of videos write into it, mmseg's visualizer into
            ``vis_data/vis_image`` in it.

    Raises:
        UsageError: The config has no visualization hook or no visualizer.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    visualizer = cfg.get('visualizer')
    if not hook or not (visualizer or takes(HOOKS, hook, 'test_out_dir')):
        raise UsageError(
            '--show-dir needs default_hooks.visualization and visualizer in the config, for example '
            "default_hooks=dict(visualization=dict(type='SegVisualizationHook')), "
            "visualizer=dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')]); "
            "videos: default_hooks=dict(visualization=dict(type='mmplugins.VOSVisualizationHook'))"
        )
    hook['draw'] = True
    if takes(HOOKS, hook, 'test_out_dir'):
        hook['test_out_dir'] = str(Path(show_dir).absolute())  # a relative one would be taken from the log's folder
        return
    if takes(HOOKS, hook, 'interval'):  # mmseg's until 1.2.2 obeys it in tests too
        hook['interval'] = 1
    # It also asks the runner for its iteration, and mmengine until 0.10.7 builds the training's data set to tell it.
    cfg.update({key: None for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')})
    visualizer['save_dir'] = show_dir
    backends = visualizer.get('vis_backends') or []
    if not any(type_name(backend) == 'LocalVisBackend' for backend in backends):
        visualizer['vis_backends'] = [*backends, dict(type='LocalVisBackend')]


def takes(registry: Registry, config: dict, argument: str) -> bool:
    """Whether the class of a config's ``type`` has an argument of this name."""
    kind = config['type']
    if isinstance(kind, str):
        with registry.switch_scope_and_registry(None) as scoped:
            kind = scoped.get(kind)
    return kind is not None and argument in inspect.signature(kind).parameters


def use_tta(cfg: Config) -> None:
    """Puts the config's ``tta_model`` around the model and its ``tta_pipeline`` into the test data set.

    Raises:
        UsageError: The config lacks one of the two.
    """
    missing = [key for key in ('tta_model', 'tta_pipeline') if key not in cfg]
    if missing:
        raise UsageError(f'--tta needs {" and ".join(missing)} in the config')
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset.pipeline = cfg.tta_pipeline
    # mmengine's runner hands the data_preprocessor at the top of a config to the outer model, which puts it in place of
    # the model's own: other means and sizes than the network was trained with, in silence (mmengine 0.10.12).
    own = dict(data_preprocessor=cfg.model.data_preprocessor) if 'data_preprocessor' in cfg.model else {}
    cfg.model = ConfigDict(**{**cfg.tta_model, **own}, module=cfg.model)


def check_tta(runner: Runner) -> None:
    """Checks that the merged prediction is what the metrics will read.

    Raises:
        UsageError: mmseg's own SegTTAModel is used where its merged prediction is wrong or not read.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    merge = getattr(model, 'merge_preds', None)
    if merge is None or not merge.__module__.startswith('mmseg.'):
        return
    one_channel = getattr(model.module, 'out_channels', None) == 1
    metrics = [type(metric).__name__ for metric in runner.test_evaluator.metrics]
    if one_channel or 'SaliencyMetric' in metrics:
        problem = (
            'takes the sigmoid of a head of one channel a second time, so that all is foreground'
            if one_channel
            else "leaves the last augmentation's seg_logits, which SaliencyMetric reads"
        )
        raise UsageError(f"--tta: mmseg's SegTTAModel {problem}; use tta_model=dict(type='mmplugins.SegTTAModel')")


if __name__ == '__main__':
    main()
