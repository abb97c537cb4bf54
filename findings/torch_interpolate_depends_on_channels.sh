#!/usr/bin/env bash
# torch.nn.functional.interpolate: a channel's bilinear values depend on how many channels are beside it, if it is small.
#
# Package: torch 2.13.0 (CPU), NumPy 2.2.6.
# Expected: channels are resized one by one, so that a map gives the same bits alone and among others.
# Seen: for outputs whose height and width together are 128 or less, eight channels together and each alone differ in the
#   last digits of float32; from 129 on they are equal bit for bit. The CPU has two kernels, one that vectorises over the
#   channels for small outputs, and they round in another order.
# Matters where maps are cached, split or chosen before they are resized (masks of detectors, tiles, batches of another
#   size): thresholds and argmax of equal inputs may differ between two ways that are the same on paper.
# Source: aten/src/ATen/native/cpu/UpSampleKernel.cpp, _use_vectorized_kernel_cond_2d.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.2.6
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys

import torch
import torch.nn.functional as F

torch.manual_seed(0)


def differing(height, width):
    """How many values of eight maps change when they are resized one at a time."""
    maps = torch.randn(1, 8, 20, 20)
    together = F.interpolate(maps, (height, width), mode='bilinear', align_corners=False)
    alone = [F.interpolate(maps[:, i : i + 1], (height, width), mode='bilinear', align_corners=False) for i in range(8)]
    return int((together != torch.cat(alone, 1)).sum())


sizes = [(30, 30), (64, 64), (64, 65), (100, 150)]
found = {size: differing(*size) for size in sizes}
for size, count in found.items():
    print(f'{size[0]} x {size[1]}: {count} of {8 * size[0] * size[1]} values differ')
same = found[30, 30] > 0 and found[64, 64] > 0 and found[64, 65] == 0 and found[100, 150] == 0
sys.exit(0 if same else 'This changed: the sizes that differ are no longer those stated above.')
PY
