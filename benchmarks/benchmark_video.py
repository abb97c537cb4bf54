"""Measures how many frames a second AOT tracks.

    python benchmarks/benchmark_video.py
    python benchmarks/benchmark_video.py configs/_base_/models/aot_l.py --objects 3 13 --frames 50
    python benchmarks/benchmark_video.py --amp --channels-last

Without configs: AOT-T and R50-AOT-L. Frames and weights are random, which changes nothing of the work. A frame counts
from the normalised image on the device to its mask in the memory: encoder, propagation, decoder, logits at the frame's
size, argmax, identities. The long-term memory grows as the config's test_cfg says, from the first of all frames on.
The table has the median and the middle half of the times in milliseconds, and frames a second by the median; then the
peak of the memory that one more frame takes beside weights and memories (``benchmark_cases/_memory.py`` says how), and
the size of the memories. Measure on a quiet machine.
"""

import os
import statistics
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # torch's profiler writes a line to stderr at every start

import torch
from benchmark_cases._memory import peak_extra_memory
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from mmplugins.models.segmentors.aot import AOT, VideoEngine

MODEL_CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / '_base_' / 'models'
WARM_UP = 3  # frames that are not counted, beside the first


class Result(NamedTuple):
    """What one model needs for one number of objects.

    Attributes:
        seconds: Of each frame.
        peak: Bytes that one more frame takes.
        kept: Bytes in the memories after it.
    """

    seconds: list[float]
    peak: int
    kept: int


def load_model(path: str, device: str, channels_last: bool) -> AOT:
    """Builds a config's model with random weights, in evaluation mode."""
    config = Config.fromfile(path).model
    config.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(config).to(device).eval()
    return model.to(memory_format=torch.channels_last) if channels_last else model


def columns(size: Sequence[int], objects: int, device: str) -> Tensor:
    """Makes a mask (1, H, W) whose objects are upright bars side by side, uint8."""
    width = size[1] // (objects + 1)
    mask = torch.arange(size[1], device=device).div(width, rounding_mode='floor').clamp(max=objects)
    return mask.to(torch.uint8).expand(1, size[0], -1)


def measure(model: AOT, size: Sequence[int], objects: int, frames: int, amp: bool, channels_last: bool) -> Result:
    """Tracks through a video of random frames.

    Args:
        model: On its device.
        size: Height and width of the frames, 16 k + 1.
        objects: Number of objects.
        frames: How many frames to time.
        amp: Whether autocast is on.
        channels_last: Memory layout of the frames.
    """
    device = next(model.parameters()).device
    layout = torch.channels_last if channels_last else torch.contiguous_format
    video = torch.randn(4, 3, *size, device=device).contiguous(memory_format=layout)  # in turns
    engine = VideoEngine(model.network, model.test_cfg.gap, model.test_cfg.max_stored)

    def step(index: int) -> Tensor:
        mask = engine.propagate(video[index % 4][None]).argmax(1)
        engine.remember(mask)
        return mask

    def now() -> float:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return time.perf_counter()

    seconds = []
    with torch.autocast(device.type, enabled=amp):
        engine.add_reference(video[:1], columns(size, objects, device))
        for index in range(1, WARM_UP + frames + 1):
            began = now()
            step(index)
            seconds.append(now() - began)
        peak = peak_extra_memory(lambda: step(index + 1), device)
    entries = [entry for memory in engine._memories for entry in (*memory.long_term, *memory.short_term)]
    kept = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for entry in entries for x in entry}
    return Result(seconds[WARM_UP:], peak, sum(kept.values()))


def row(name: str, objects: int, result: Result) -> str:
    """Writes a line of the table."""
    low, median, high = (1000 * x for x in statistics.quantiles(result.seconds, n=4))
    memory = f'{result.peak / 2**20:10.0f}{result.kept / 2**20:10.1f}'
    return f'{name:16}{objects:>8}{median:10.1f}  {f"{low:.1f}-{high:.1f}":>16}{1000 / median:10.2f}{memory}'


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(description='Measure how many frames a second AOT tracks.')
    parser.add_argument(
        'configs',
        nargs='*',
        default=[str(MODEL_CONFIGS / f'{name}.py') for name in ('aot_t', 'aot_r50-l')],
        help='config files with a model (default: AOT-T, R50-AOT-L)',
    )
    parser.add_argument('--objects', nargs='+', type=int, default=[1, 10], help='numbers of objects (default: 1 10)')
    parser.add_argument('--size', nargs=2, type=int, default=[481, 849], metavar=('HEIGHT', 'WIDTH'), help='16 k + 1')
    parser.add_argument('--frames', type=int, default=20, help='frames to time, at least 2 (default: 20)')
    parser.add_argument('--device', default=get_device(), help='default: %(default)s')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--channels-last', action='store_true', help='weights and frames in this memory layout')
    args = parser.parse_args(argv)
    init_default_scope('mmseg')
    name = torch.cuda.get_device_name() if args.device.startswith('cuda') else f'{torch.get_num_threads()} threads'
    print(f'{args.frames} frames of {args.size[0]}x{args.size[1]} on {args.device} ({name}), amp {args.amp}, ', end='')
    print(f'channels_last {args.channels_last}')
    print(f'{"model":16}{"objects":>8}{"ms":>10}  {"middle half":>16}{"frames/s":>10}{"peak MiB":>10}{"kept MiB":>10}')
    for path in args.configs:
        model = load_model(path, args.device, args.channels_last)
        for objects in args.objects:
            result = measure(model, args.size, objects, args.frames, args.amp, args.channels_last)
            print(row(Path(path).stem, objects, result), flush=True)


if __name__ == '__main__':
    main()
