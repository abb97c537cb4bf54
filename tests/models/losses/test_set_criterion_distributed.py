"""Two processes: the number of objects is their mean, and a process without objects waits for nobody."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmplugins.hosts import problem_with
from mmplugins.models.losses import SetCriterion
from tests.locations import ROOT
from tests.models.losses.set_scenes import hungarian, scene

START = """
import os
import sys
import torch
import torch.distributed as dist
sys.path.insert(0, {root!r})
import mmplugins  # before mmdet
rank = int(sys.argv[1])
dist.init_process_group('gloo', init_method='file://{store}', rank=rank, world_size=2)
"""
END = """
torch.save(found, '{folder}/rank%d.pt' % rank)
dist.barrier()  # gloo aborts a process that exits while the other still talks to it
dist.destroy_process_group()
os._exit(0)  # nor does it outlive a wrapper that the interpreter tears down after it
"""

CRITERION = """
from torch.nn.parallel import DistributedDataParallel
from mmplugins.models.losses import SetCriterion
from tests.models.losses.set_scenes import hungarian, scene, total

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.shift = torch.nn.Linear(5, 5), torch.nn.Linear(4, 4)
        self.criterion = SetCriterion(4, hungarian())

    def forward(self, outputs, targets):
        outputs = {{'logits': self.scale(outputs['logits']), 'boxes': self.shift(outputs['boxes']).sigmoid()}}
        return self.criterion(outputs, targets)

torch.manual_seed(0)
model = Model()
found = []
for counts in [((4, 2), (0, 0)), ((3, 0), (1, 9)), ((0, 0), (0, 0))]:
    outputs, targets = scene(counts[rank], seed=rank)
    alone = model(outputs, targets)  # every rank must call it
    parallel = DistributedDataParallel(model)
    losses = parallel(outputs, targets)  # hangs if a rank leaves out a parameter
    total(losses).backward()
    found.append({{name: value.detach() for name, value in losses.items()}})
    found[-1]['gradient'] = model.shift.weight.grad.clone()
    model.zero_grad()
"""

HEADS = """
from tests.models.dense_heads.detr_models import batch, losses_and_gradients, our_head, toolbox_head

found = []
for sync in (False, True):
    torch.manual_seed(0)
    theirs = toolbox_head(sync_cls_avg_factor=sync)
    for counts in [((4, 2), (0, 0)), ((3, 0), (1, 9)), ((0, 0), (0, 0))]:
        data = batch(counts[rank], seed=rank)
        expected, gradients = losses_and_gradients(theirs, *data)
        losses, ours = losses_and_gradients(our_head(theirs, sync_cls_avg_factor=sync), *data)
        for name, value in expected.items():
            found.append((float(losses[name]), float(value)))
        found += [(float(x.abs().sum()), float(y.abs().sum())) for x, y in zip(ours, gradients, strict=True)]
"""


def run_two(code: str, folder: Path) -> list:
    """Runs code in two processes; gives what each has put into ``found``."""
    script = (START + code + END).format(root=str(ROOT), store=folder / 'store', folder=folder)
    command = [sys.executable, '-c', script]
    workers = [subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True) for rank in range(2)]
    errors = [worker.communicate(timeout=600)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    return [torch.load(folder / f'rank{rank}.pt') for rank in range(2)]


@pytest.mark.slow
def test_the_number_of_objects_is_the_mean_over_ranks(tmp_path):
    """Alone a rank divides by its own number: 6 and 0 (so 1), 3 and 10; together by 3, and by 6.5; never below 1."""
    torch.manual_seed(0)
    scale, shift = torch.nn.Linear(5, 5), torch.nn.Linear(4, 4)
    found = run_two(CRITERION, tmp_path)
    for case, counts in enumerate([((4, 2), (0, 0)), ((3, 0), (1, 9)), ((0, 0), (0, 0))]):
        mean = max(sum(map(sum, counts)) / 2, 1)
        for rank in range(2):
            outputs, targets = scene(counts[rank], seed=rank)
            outputs = {'logits': scale(outputs['logits']), 'boxes': shift(outputs['boxes']).sigmoid()}
            expected = SetCriterion(4, hungarian())(outputs, targets)
            for name in ('loss_bbox', 'd0.loss_iou'):
                value = expected[name].detach() * max(sum(counts[rank]), 1) / mean
                torch.testing.assert_close(found[rank][case][name], value)
            torch.testing.assert_close(found[rank][case]['loss_cls'], expected['loss_cls'].detach())
        assert torch.equal(found[0][case]['gradient'], found[1][case]['gradient'])


@pytest.mark.slow
@pytest.mark.skipif(problem_with('mmdet') is not None, reason=str(problem_with('mmdet')))
def test_detr_head_equals_the_toolbox_s_on_two_ranks(tmp_path):
    for values in run_two(HEADS, tmp_path):
        assert len(values) > 50
        for value, expected in values:
            assert value == pytest.approx(expected, rel=5e-5, abs=1e-6)
