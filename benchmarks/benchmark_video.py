"""Measures how many frames a second AOT tracks.

    python benchmarks/benchmark_video.py
    python benchmarks/benchmark_video.py configs/_base_/models/aot_l.py --objects 3 13 --frames 50
    python benchmarks/benchmark_video.py --amp --channels-last
    python benchmarks/benchmark_video.py --channels-last --ways plain fast bfloat16

Without configs: AOT-T and R50-AOT-L. Frames and weights are random, which changes nothing of the work. A frame counts
from the normalised image on the device to its mask in the memory: encoder, propagation, decoder, logits at the frame's
size, argmax, identities. The long-term memory grows as the config's test_cfg says, from the first of all frames on.
The table has the median and the middle half of the times in milliseconds, and frames a second by the median; then the
peak of the memory that one more frame takes beside weights and memories (``benchmark_cases/_memory.py`` says how), and
the size of the memories. Measure on a quiet machine.

Ways: 'plain' is the network itself on the plain path, 'fast' what an engine does by default, 'bfloat16' the same under
autocast. Several are run in turns, a frame each, and the last column is how many times as fast as the first one a way
is. With --keep-memory freed memory stays in the process, as in tools/vos_demo.py; that holds for all ways.
"""

import os
import statistics
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # torch's profiler writes a line to stderr at every start

import torch
from benchmark_cases._memory import peak_extra_memory
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from mmplugins.functional.device import keep_freed_memory, plain_path
from mmplugins.models.segmentors.aot import AOT, VideoEngine

MODEL_CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / '_base_' / 'models'
WAYS = ('plain', 'fast', 'bfloat16')
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


def measure(
    model: AOT,
    size: Sequence[int],
    objects: int,
    frames: int,
    amp: bool,
    channels_last: bool,
    ways: Sequence[str] = ('fast',),
) -> list[Result]:
    """Tracks through a video of random frames, each frame in each of the ways in turn.

    Args:
        model: On its device.
        size: Height and width of the frames, 16 k + 1.
        objects: Number of objects.
        frames: How many frames to time.
        amp: Whether autocast is on.
        channels_last: Memory layout of the frames.
        ways: Of ``WAYS``.

    Returns:
        A result for each way.
    """
    device = next(model.parameters()).device
    layout = torch.channels_last if channels_last else torch.contiguous_format
    video = torch.randn(4, 3, *size, device=device).contiguous(memory_format=layout)  # in turns
    settings = model.test_cfg.gap, model.test_cfg.max_stored
    engines = [VideoEngine(model.network, *settings, fast=way != 'plain') for way in ways]

    def step(way: str, engine: VideoEngine, index: int) -> float:
        with _context(way, device, amp):
            began = _now(device)
            engine.remember(engine.propagate(video[index % 4][None]).argmax(1))
            return _now(device) - began

    for way, engine in zip(ways, engines, strict=True):
        with _context(way, device, amp):
            engine.add_reference(video[:1], columns(size, objects, device))
    seconds = [
        [step(way, engine, index) for way, engine in zip(ways, engines, strict=True)]
        for index in range(1, WARM_UP + frames + 1)
    ]
    results = []
    for way, engine, times in zip(ways, engines, zip(*seconds[WARM_UP:], strict=True), strict=True):
        peak = peak_extra_memory(lambda way=way, engine=engine: step(way, engine, WARM_UP + frames + 1), device)
        results.append(Result(list(times), peak, _kept(engine)))
    return results


def _context(way: str, device: torch.device, amp: bool) -> AbstractContextManager:
    if way == 'plain' and not amp:
        return plain_path()
    if way == 'bfloat16':
        return torch.autocast(device.type, torch.bfloat16)
    return torch.autocast(device.type) if amp else nullcontext()


def _now(device: torch.device) -> float:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _kept(engine: VideoEngine) -> int:
    """Bytes in the memories of an engine."""
    entries = [entry for memory in engine._memories for entry in (*memory.long_term, *memory.short_term)]
    return sum(
        {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for entry in entries for x in entry}.values()
    )


def row(name: str, objects: int, way: str, result: Result, first: Result) -> str:
    """Writes a line of the table; ``first`` is the result that the ratio is to."""
    low, median, high = (1000 * x for x in statistics.quantiles(result.seconds, n=4))
    memory = f'{result.peak / 2**20:10.0f}{result.kept / 2**20:10.1f}'
    ratio = 1000 * statistics.median(first.seconds) / median
    times = f'{median:10.1f}  {f"{low:.1f}-{high:.1f}":>16}{1000 / median:10.2f}'
    return f'{name:16}{objects:>8}{way:>10}{times}{memory}{ratio:8.2f}'


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
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=['fast'], help='run in turns (default: fast)')
    parser.add_argument('--keep-memory', action='store_true', help='keep freed memory in the process')
    args = parser.parse_args(argv)
    if args.keep_memory and not keep_freed_memory():
        parser.error('--keep-memory needs glibc; leave it out')
    init_default_scope('mmseg')
    name = torch.cuda.get_device_name() if args.device.startswith('cuda') else f'{torch.get_num_threads()} threads'
    print(f'{args.frames} frames of {args.size[0]}x{args.size[1]} on {args.device} ({name}), amp {args.amp}, ', end='')
    print(f'channels_last {args.channels_last}, keep_memory {args.keep_memory}')
    times = f'{"ms":>10}  {"middle half":>16}{"frames/s":>10}'
    print(f'{"model":16}{"objects":>8}{"way":>10}{times}{"peak MiB":>10}{"kept MiB":>10}{"ratio":>8}')
    for path in args.configs:
        model = load_model(path, args.device, args.channels_last)
        for objects in args.objects:
            results = measure(model, args.size, objects, args.frames, args.amp, args.channels_last, args.ways)
            for way, result in zip(args.ways, results, strict=True):
                print(row(Path(path).stem, objects, way, result, results[0]), flush=True)


if __name__ == '__main__':
    main()
