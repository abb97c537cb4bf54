#!/usr/bin/env bash
# PyTorch, CPU, bfloat16: gradients of weights that only ever see padding are whatever the memory held, not 0.
#
# Packages: torch 2.13.0 (the CPU build), numpy 2.3.5; a CPU with avx512_bf16 (an AMD EPYC), one thread.
# Guess before the run: a network whose loss became NaN in bfloat16 at a step that changed from run to run, with one
#   thread and one seed, overflows somewhere.
# Expected: a 7x7 convolution with padding 3 over maps of 2x2 has 40 of 49 weights that meet nothing but zeros; their
#   gradient is 0, in every dtype.
# Seen: float32 gives 0, bfloat16 through oneDNN leaves part of them unwritten: memory that was filled with sevens just
#   before comes back as gradients. The same with 5x5 over 1x1. Off the border cases (7x7 over 3x3) all is right, and so
#   is bfloat16 with oneDNN switched off (torch.backends.mkldnn.flags(enabled=False)).
# Matters where mixed precision trains the deep, coarse levels of a segmentor on small crops: a NaN now and then, or
#   garbage in the weights without a message.
# Source: seen with a 7x7 head at stride 32 on images of 33 pixels; no report of it was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys

import torch
from torch.nn.functional import conv2d

torch.set_num_threads(1)


def wrong(kernel: int, side: int, dtype: torch.dtype, onednn: bool = True) -> tuple[int, int]:
    """Gradients that should be 0 and are not, and how many should be 0."""
    weight, image = (
        torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        for shape in ((512, 512, kernel, kernel), (2, 512, side, side))
    )
    weight.requires_grad_()
    reach = torch.tensor([abs(tap - kernel // 2) >= side for tap in range(kernel)])
    unseen = reach[:, None] | reach
    with torch.backends.mkldnn.flags(enabled=onednn):
        output = conv2d(image, weight, padding=kernel // 2)
        filled = [torch.full((weight.numel() // part,), 7.0) for part in (1, 2, 4) for _ in range(8)]
        del filled  # the allocator hands it out again
        output.sum().backward()
    gradients = weight.grad[:, :, unseen]
    return int((gradients != 0).sum()), gradients.numel()


cases = {
    '7x7 over 2x2, bfloat16': (7, 2, torch.bfloat16),
    '5x5 over 1x1, bfloat16': (5, 1, torch.bfloat16),
    '7x7 over 3x3, bfloat16': (7, 3, torch.bfloat16),
    '7x7 over 2x2, float32': (7, 2, torch.float32),
    '7x7 over 2x2, bfloat16 without oneDNN': (7, 2, torch.bfloat16, False),
}
seen = []
for name, case in cases.items():
    number, unseen = wrong(*case)
    print(f'{name}: {number} of {unseen} gradients that must be 0 are not')
    seen.append(number > 0)
sys.exit(0 if seen == [True, True, False, False, False] else 'This changed, or the CPU has no avx512_bf16.')
PY
