#!/usr/bin/env bash
# mmcv.imfrombytes(flag='color_ignore_orientation', channel_order='rgb') is BGR by OpenCV and RGB by Pillow.
#
# Packages: mmcv-lite 2.2.0, mmengine 0.10.7, torch 2.13.0, opencv-python 4.12.0.88, pillow 12.0.0.
# Expected: the channel order that was asked for, whatever the backend; flag='color' keeps that promise.
# Seen: with the flag that ignores the orientation tag, the OpenCV backend (the default) leaves BGR, since it turns the
#   channels only where the flag is exactly IMREAD_COLOR; the Pillow backend gives RGB. No warning.
# Matters in mmsegmentation and mmdetection: whoever sets imread flags and 'rgb' trains on swapped channels with one of
#   the backends, and a change of backend changes the results.
# Source: mmcv/image/io.py of 2.2.0, functions imfrombytes and _pillow2array.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.2.6 mmengine==0.10.7 \
  opencv-python==4.12.0.88 pillow==12.0.0 'setuptools<82'
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps mmcv-lite==2.2.0 \
  opencv-python-headless==4.12.0.88  # over opencv-python, which needs display libraries
"$folder/venv/bin/python" -W ignore - <<'PY'
import io
import sys

import mmcv
from PIL import Image

buffer = io.BytesIO()
Image.new('RGB', (8, 8), (200, 100, 50)).save(buffer, 'png')
seen = {
    (flag, backend): mmcv.imfrombytes(buffer.getvalue(), flag, 'rgb', backend)[0, 0].tolist()
    for flag in ('color', 'color_ignore_orientation')
    for backend in ('cv2', 'pillow')
}
for (flag, backend), pixel in seen.items():
    print(f'{flag}, {backend}: {pixel}')
rgb, bgr = [200, 100, 50], [50, 100, 200]
stated = [rgb, rgb, bgr, rgb]
sys.exit(0 if list(seen.values()) == stated else 'This changed: the channel orders are no longer those stated above.')
PY
