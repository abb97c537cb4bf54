"""Measures the least that a tracker must beat: the first frame's masks copied to every frame.

    python tools/analysis_tools/copy_first_mask.py CONFIG
    python tools/analysis_tools/copy_first_mask.py CONFIG --cfg-options test_evaluator.output_dir=FOLDER

Takes the test data and the metric from the config; with output_dir, masks and tables are written. Objects that
appear later are copied from where they appear.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence

import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement, PixelData

from mmplugins.engine.launch import CfgOptions, UsageError, check_data, load_config


def copies(samples: Iterator[BaseDataElement]) -> Iterator[BaseDataElement]:
    """Puts the masks that were given up to each frame into it as ``pred_sem_seg``, uint8, (1, H, W).

    Args:
        samples: Frames of videos, in order; those with ``frame_id`` 0 begin one and have ``ref_sem_seg``.
    """
    mask = torch.empty(0)
    for sample in samples:
        if 'ref_sem_seg' in sample:
            given = sample.ref_sem_seg.data
            given = torch.where(given == 255, 0, given).to(torch.uint8)
            mask = given if sample.frame_id == 0 else torch.where(given > 0, given, mask)
        sample.pred_sem_seg = PixelData(data=mask)
        yield sample


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Runs the tool with a command line (None: the program's own) and returns the metrics."""
    parser = ArgumentParser(description='Measure the masks of the first frame, copied to every frame.')
    parser.add_argument('config', help='config file of video object segmentation')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', help='override settings')
    parser.set_defaults(work_dir=None, launcher='none')
    args = parser.parse_args(argv)
    try:
        cfg = load_config(args, __file__)
        check_data(cfg, 'test_dataloader')
    except UsageError as error:
        sys.exit(f'copy_first_mask.py: error: {error}')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    evaluator = Evaluator(cfg.test_evaluator)
    for sample in copies(dataset[index]['data_samples'] for index in range(len(dataset))):
        evaluator.process([sample])
    metrics = evaluator.evaluate(len(dataset))
    print('  '.join(f'{name} {value:.2f}' for name, value in metrics.items()))
    return metrics


if __name__ == '__main__':
    main()
