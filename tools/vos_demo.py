"""Tracks objects through a video: the mask of the first frame is given, those of all others are found.

    python tools/vos_demo.py VIDEO --mask FIRST.png --config CONFIG --checkpoint CHECKPOINT --out tracked.mp4
    python tools/vos_demo.py FOLDER --mask FIRST.png --config CONFIG --checkpoint CHECKPOINT --out FOLDER

VIDEO is a file that OpenCV reads, FOLDER holds frames in the order of their names (numbers in them compare as numbers),
whose pixels count as they are stored, whatever an EXIF orientation tag says. FIRST.png has a palette or is grey; its
pixels are object numbers. Frames are resized as the config's test pipeline does it (without one, to a shorter side of
480), read one at a time, and forgotten. To an --out that ends in .mp4, .avi or .mkv goes a video of the objects painted
over the frames; any other is a folder: masks/*.png, palette images, and overlays/*.jpg. Released checkpoints work when
tools/model_converters/aot.py has converted them. ``python -m mmplugins.demo`` does the same, and other models too.
"""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence

# Before torch starts its threads; train.py says why.
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')

from mmengine.device import get_device

from mmplugins.engine.launch import CfgOptions, UsageError, check_checkpoint, load_config
from mmplugins.functional.device import keep_freed_memory


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(description='Track objects through a video.')
    parser.add_argument('source', metavar='VIDEO_OR_FOLDER', help='video file, or folder of frames')
    parser.add_argument('--mask', required=True, help="the first frame's mask: PNG of object numbers")
    parser.add_argument('--config', required=True, help='config file of AOT')
    parser.add_argument('--checkpoint', required=True, help='checkpoint file')
    parser.add_argument('--out', required=True, help='video file (.mp4, .avi, .mkv) or folder to write')
    parser.add_argument('--single-object', action='store_true', help='all of the mask that is not 0 is one object')
    parser.add_argument('--fps', type=float, help="frames/s of the video written (default: the source's, or 24)")
    parser.add_argument('--device', default=get_device(), help='default: %(default)s')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', help='override settings')
    parser.set_defaults(work_dir=None, launcher='none')
    args = parser.parse_args(argv)
    try:
        cfg = load_config(args, __file__)
        from mmplugins.demo.tracking import track_objects  # after warnings that importing a toolbox gives are hidden

        check_checkpoint(args.checkpoint, '--checkpoint')
        files = (args.checkpoint, args.source, args.mask, args.out)
        count = track_objects(cfg, *files, args.device, args.single_object, args.fps)
    except UsageError as error:
        sys.exit(f'vos_demo.py: error: {error}')
    print(f'{count} frames tracked, written to {args.out}')


if __name__ == '__main__':
    keep_freed_memory()  # here: it holds for the whole process
    main()
