"""Predicts an image, a folder or a video, and writes predictions and pictures.

    python -m mmplugins.demo CONFIG CHECKPOINT IMAGE_OR_FOLDER_OR_VIDEO --out DIR
    python -m mmplugins.demo CONFIG CHECKPOINT VIDEO --out pictures.mp4
    python -m mmplugins.demo CONFIG_OF_AOT CHECKPOINT VIDEO_OR_FOLDER --mask FIRST.png --out DIR_OR_VIDEO

Any config of mmsegmentation and mmdetection will do: semantic maps, binary masks, boxes, instances, panoptic segments.
A model of videos tracks the objects of the first frame's mask.
"""

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from zipfile import is_zipfile

# Before torch starts its threads; tools/train.py says why.
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')

from mmengine.device import get_device

from mmplugins.engine.launch import CfgOptions, UsageError, allow_checkpoints, check_checkpoint, load_config
from mmplugins.functional.device import keep_freed_memory

from .images import needs_mask, predict_images

CONFIGS, CHECKPOINTS = ('.py', '.json', '.yml', '.yaml'), ('.pth', '.pt', '.ckpt', '.pkl')


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the demo with a command line; None: the program's own."""
    parser = ArgumentParser(
        prog='python -m mmplugins.demo', description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('input', help='image, folder of images or frames, or video file')
    parser.add_argument(
        '--out', default='outputs', help='folder, or video file (.mp4, .avi, .mkv) (default: %(default)s)'
    )
    parser.add_argument('--mask', help="of a model of videos: the first frame's mask, a PNG of object numbers")
    parser.add_argument('--single-object', action='store_true', help='all of the mask that is not 0 is one object')
    parser.add_argument(
        '--threshold', type=float, default=0.3, help='least score of an object that is drawn (default: %(default)s)'
    )
    parser.add_argument('--fps', type=float, help="frames/s of a video that is written (default: the source's, or 24)")
    parser.add_argument('--device', default=get_device(), help='default: %(default)s')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', help='override settings')
    parser.set_defaults(work_dir=None, launcher='none')
    args = parser.parse_args(argv)
    try:
        check_order(args.config, args.checkpoint)
        check_checkpoint(args.checkpoint, 'CHECKPOINT')
        check_format(args.checkpoint)
        cfg = load_config(args)
        count = run(args, cfg)
    except UsageError as error:
        sys.exit(f'demo: error: {error}')
    print(f'{count} image{"s" * (count != 1)} predicted, written to {args.out}')


def run(args, cfg) -> int:
    """Predicts the input; gives the number of images."""
    if not needs_mask(cfg):
        if args.mask is not None:
            raise UsageError('--mask is of models that track objects (mmplugins.AOT); leave it out')
        return predict_images(cfg, args.checkpoint, args.input, args.out, args.device, args.threshold, args.fps)
    if args.mask is None:
        raise UsageError(
            'this config tracks the objects of a first mask: give --mask FIRST.png, whose pixels are object numbers'
        )
    from .tracking import track_objects

    allow_checkpoints()
    return track_objects(
        *(cfg, args.checkpoint, args.input, args.mask, args.out, args.device), args.single_object, args.fps
    )


def check_order(config: str, checkpoint: str) -> None:
    """Checks that config and checkpoint are not the other way round.

    Raises:
        UsageError: They are.
    """
    if Path(config).suffix in CHECKPOINTS or Path(checkpoint).suffix in CONFIGS:
        raise UsageError(f'CONFIG {config} and CHECKPOINT {checkpoint} look swapped: the config comes first')


def check_format(checkpoint: str) -> None:
    """Checks that a local file is in one of PyTorch's formats: a zip file, or a pickle as of old.

    Raises:
        UsageError: It is not.
    """
    if '://' in checkpoint or is_zipfile(checkpoint):
        return
    with open(checkpoint, 'rb') as file:
        if file.read(1) != b'\x80':
            raise UsageError(f'{checkpoint} is no checkpoint: it is in none of the formats of PyTorch')


if __name__ == '__main__':
    keep_freed_memory()  # here: it holds for the whole process
    main()
