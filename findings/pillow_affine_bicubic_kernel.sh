#!/usr/bin/env bash
# Pillow has two cubic kernels: Image.resize(BICUBIC) uses a = -0.5, Image.transform(AFFINE, BICUBIC) uses a = -1.
#
# Package: Pillow 13.0.0, NumPy 2.2.6.
# Expected: one name, Resampling.BICUBIC, one kernel; half a pixel off, neighbours weigh -1/16, 9/16, 9/16, -1/16 (a = -0.5).
# Seen: transform weighs them -1/8, 5/8, 5/8, -1/8, twice the overshoot, so that an affine map that only scales gives other
#   values than resize. The documentation names the filter for both and does not tell the kernels apart.
# Matters where clips or images are moved by transform and others resized: the two do not agree even for the same map.
# Source: https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters; libImaging's Geometry.c and Resample.c.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PY'
import sys

import numpy as np
from PIL import Image

AFFINE, BICUBIC = Image.Transform.AFFINE, Image.Resampling.BICUBIC
impulse = np.zeros((1, 17), np.float32)
impulse[0, 8] = 1
image = Image.fromarray(impulse)

shifted = np.asarray(image.transform((17, 1), AFFINE, (1, 0, 0.5, 0, 1, 0), BICUBIC))[0]
moved = shifted[6:10].tolist()
# Twice as wide, centre aligned: outputs lie a quarter of a pixel off, where a = -0.5 and a = -1 differ as well.
resized = np.asarray(image.resize((34, 1), BICUBIC))[0]
mapped = np.asarray(image.transform((34, 1), AFFINE, (0.5, 0, 0, 0, 1, 0), BICUBIC))[0]


def cubic(x, a):
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


places = [(i + 0.5) / 2 - 0.5 - 8 for i in range(34)]
print('transform, half a pixel off:', moved)
print('largest difference, resize from a = -0.5:', max(abs(v - cubic(p, -0.5)) for v, p in zip(resized, places)))
print('largest difference, transform from a = -1:', max(abs(v - cubic(p, -1.0)) for v, p in zip(mapped, places)))
print('largest difference, transform from resize:', float(np.abs(mapped - resized).max()))
same = (
    np.allclose(moved, [-1 / 8, 5 / 8, 5 / 8, -1 / 8], atol=1e-6)
    and np.allclose(resized, [cubic(p, -0.5) for p in places], atol=1e-5)
    and np.allclose(mapped, [cubic(p, -1.0) for p in places], atol=1e-5)
)
sys.exit(0 if same else 'This changed: the kernels are no longer those stated above.')
PY
