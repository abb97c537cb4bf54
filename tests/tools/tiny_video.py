"""A tiny AOT, two videos in DAVIS's layout and a config of both; for the tests of the tools."""

from pathlib import Path

import cv2
import numpy as np
import torch

from mmplugins.visualization import write_index_image
from tests.models.segmentors.aot.aot_models import tiny_aot, tiny_backbone

SIZE = (40, 60)
VIDEOS = {'cat': (5, 2), 'dog': (4, 1)}  # frames and objects

CONFIG = """
_base_ = [{root!r} + '/configs/_base_/datasets/davis_161x289.py', {root!r} + '/configs/_base_/schedules/aot_100k.py',
          {root!r} + '/configs/_base_/default_runtime.py']
model = dict(
    type='mmplugins.AOT', backbone={backbone}, in_channels=[8, 16, 32, 32], channels=32, num_blocks=2, num_heads=4,
    window=3, feedforward_channels=64, max_objects=3, drop_path=0.0)
loader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={data!r}))
val_dataloader = loader
test_dataloader = loader
"""


def truth(video: str, frame: int) -> np.ndarray:
    """Mask of a frame: squares that move to the right by two pixels a frame."""
    mask = np.zeros(SIZE, np.uint8)
    for number in range(1, VIDEOS[video][1] + 1):
        top, left = 4 + 16 * (number - 1), 6 + 2 * frame
        mask[top : top + 12, left : left + 14] = number
    return mask


def make_videos(folder: Path) -> Path:
    """Writes the videos; gives the data's root."""
    random = np.random.default_rng(0)
    (folder / 'ImageSets' / '2017').mkdir(parents=True)
    for split in ('train', 'val'):
        (folder / 'ImageSets' / '2017' / f'{split}.txt').write_text('\n'.join(VIDEOS))
    for video, (frames, _) in VIDEOS.items():
        (folder / 'JPEGImages' / '480p' / video).mkdir(parents=True)
        for frame in range(frames):
            image = random.integers(60, 120, (*SIZE, 3), dtype=np.uint8) + 60 * truth(video, frame)[..., None]
            cv2.imwrite(str(folder / 'JPEGImages' / '480p' / video / f'{frame:05d}.jpg'), image)
            write_index_image(folder / 'Annotations' / '480p' / video / f'{frame:05d}.png', truth(video, frame))
    return folder


def write_video_config(folder: Path, data: Path) -> tuple[Path, Path]:
    """Writes a config and a checkpoint of random weights; gives their paths."""
    root = Path(__file__).parents[2]
    config, checkpoint = folder / 'tiny_aot.py', folder / 'tiny_aot.pth'
    config.write_text(CONFIG.format(root=str(root), backbone=tiny_backbone(), data=str(data)))
    torch.save({'state_dict': tiny_aot().state_dict()}, checkpoint)
    return config, checkpoint
