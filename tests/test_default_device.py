"""A default device that is set while the package is imported leaves nothing behind."""

import subprocess
import sys

from tests.locations import ROOT
from tests.toolboxes import need

# Every module is imported while tensors go to the meta device, as in the construction of a model without memory.
CODE = """
import importlib, pkgutil, sys, warnings
import torch
import torch._dynamo  # of PyTorch 2.6, it cannot be imported under another default device
warnings.simplefilter('ignore')
torch.set_default_device('meta')
import mmplugins
names = [x.name for x in pkgutil.walk_packages(mmplugins.__path__, 'mmplugins.') if '.mim' not in x.name]
for name in names:
    importlib.import_module(name)
torch.set_default_device('cpu')

def tensors(owner, values):
    for name, value in list(values.items()):
        if isinstance(value, torch.Tensor) and value.device.type != 'cpu':
            yield f'{owner}.{name}'
        if isinstance(value, type) and value.__module__ == owner:
            yield from tensors(f'{owner}.{name}', vars(value))

found = []
for name, module in list(sys.modules.items()):
    if name.startswith('mmplugins'):
        found += tensors(name, vars(module))
print('modules', len(names), 'tensors', found)

from mmplugins.functional.attention import local_attention
from mmplugins.registry import MODELS
logits, label = torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long)
for name, settings in (('OhemCrossEntropyLoss', dict(min_kept=5)), ('OhemCrossEntropyLoss', dict(min_kept=0.1)),
                       ('TopKCrossEntropyLoss', dict(hard_example_mining_step=0)), ('SoftJaccardLoss', {})):
    loss = MODELS.build(dict(type=f'mmplugins.{name}', **settings))
    print(name, round(float(loss(logits, label)), 4))
for name in ('SoftIoULoss', 'BCEIoULoss', 'StructureLoss'):
    loss = MODELS.build(dict(type=f'mmplugins.{name}'))
    print(name, round(float(loss(logits[:, :1], torch.ones(1, 8, 8))), 4))
ones = torch.ones(1, 1, 3, 3, 2)
out = local_attention(ones, ones, ones, torch.zeros(1, 9, 2), torch.zeros(1, 9), torch.zeros(1, 2, 9))
print('local_attention', round(float(out.mean()), 4))
"""


def test_an_import_under_another_default_device_leaves_no_tensor_there():
    """Zero logits of two classes: log 2; I = 32, U = 64; with masks of ones IoU is 1/2 too."""
    need('mmseg', 'mmdet')
    command = [sys.executable, '-W', 'ignore', '-c', CODE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    count, *values = done.stdout.splitlines()[-9:]
    assert count.endswith('tensors []'), count
    assert int(count.split()[1]) > 100
    assert dict(line.split(' ', 1) for line in values) == {
        'OhemCrossEntropyLoss': '0.6931',
        'TopKCrossEntropyLoss': '0.6931',
        'SoftJaccardLoss': '0.5',
        'SoftIoULoss': '0.5',
        'BCEIoULoss': '1.1931',
        'StructureLoss': '1.1931',
        'local_attention': '1.0',
    }
