"""mmdet's own program trains and validates RetinaNet and DETR through ``python -m mmplugins.with_ops``."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmplugins.hosts import problem_with
from tests.locations import ROOT

if problem_with('mmdet'):
    pytest.skip(problem_with('mmdet'), allow_module_level=True)

TOOLS = Path(find_spec('mmdet').origin).parent / '.mim/tools'
CONFIG = """
_base_ = 'mmdet::{base}'
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
dataset = dict(
    _delete_=True, type='CocoDataset', data_root='data', ann_file='boxes.json', data_prefix=dict(img='images/'),
    metainfo=dict(classes=('square', 'disc')), pipeline=pipeline,
)
loader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dataset)
train_dataloader = val_dataloader = test_dataloader = loader
val_evaluator = test_evaluator = dict(ann_file='data/boxes.json')
train_cfg = dict(max_epochs=1, val_interval=1)
default_hooks = dict(logger=dict(interval=1))
model = dict(backbone=dict(init_cfg=None), bbox_head=dict(num_classes=2), {more})
"""
# So that what is hardly trained finds something; and small.
RETINANET = 'test_cfg=dict(score_thr=0.0)'
DETR = 'num_queries=10, encoder=dict(num_layers=1), decoder=dict(num_layers=1), test_cfg=dict(max_per_img=10)'


def make_data(folder):
    rng = np.random.default_rng(0)
    (folder / 'images').mkdir(parents=True)
    images, boxes = [], []
    for number in range(4):
        image = np.full((64, 96, 3), 90, np.uint8)
        for label in (1, 2):
            x, y = int(rng.integers(0, 60)), int(rng.integers(0, 40))
            if label == 1:
                image[y : y + 20, x : x + 20] = (0, 0, 255)
            else:
                cv2.circle(image, (x + 10, y + 10), 10, (255, 0, 0), -1)
            box = dict(id=len(boxes), image_id=number, category_id=label, bbox=[x, y, 20, 20], area=400, iscrowd=0)
            boxes.append(box)
        cv2.imwrite(str(folder / f'images/{number}.png'), image)
        images.append(dict(id=number, file_name=f'{number}.png', height=64, width=96))
    categories = [dict(id=1, name='square'), dict(id=2, name='disc')]
    text = json.dumps(dict(images=images, annotations=boxes, categories=categories))
    (folder / 'boxes.json').write_text(text)


def run(*arguments, cwd):
    command = [sys.executable, '-W', 'ignore', '-m', 'mmplugins.with_ops', *map(str, arguments)]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not TOOLS.is_dir(), reason=f'this mmdet has no {TOOLS}')
@pytest.mark.parametrize(
    ('base', 'more'),
    [('retinanet/retinanet_r50_fpn_1x_coco.py', RETINANET), ('detr/detr_r50_8xb2-150e_coco.py', DETR)],
)
def test_train_and_validate(tmp_path, base, more):
    make_data(tmp_path / 'data')
    (tmp_path / 'config.py').write_text(CONFIG.format(base=base, more=more))
    said = run(TOOLS / 'train.py', 'config.py', '--work-dir', 'out', cwd=tmp_path)
    assert said.count('loss_bbox: ') >= 2  # steps
    assert 'Epoch(val) [1][2/2]' in said
    assert 'coco/bbox_mAP: ' in said
