"""A process of ``test_losses_distributed``: python losses_of_ranks.py WORLD FOLDER; forks into so many ranks.

Each rank computes every loss of its part of the batch under DistributedDataParallel, whose gradients are averaged; the
first one also computes what one process would.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmplugins.models.losses import SetCriterion
from mmplugins.registry import MODELS
from tests.models.losses.set_scenes import hungarian, scene, total

LABEL_LOSSES = {
    'OhemCrossEntropyLoss': dict(min_kept=3),
    'TopKCrossEntropyLoss': dict(hard_example_mining_step=0),
    'SoftJaccardLoss': {},
}
BINARY_LOSSES = {'SoftIoULoss': {}, 'BCEIoULoss': {}, 'StructureLoss': {}}
MASK_LOSSES = {'DenseMaskLoss': {}, 'PointSampledMaskLoss': dict(num_points=20)}
# of each rank: images of the pixel losses, whether their pixels are valid, objects of the images of a set
PARTS = [
    dict(images=2, valid=True, counts=(3, 2)),
    dict(images=2, valid=False, counts=(0, 0)),
    dict(images=1, valid=True, counts=(4,)),
]


class Scaled(nn.Module):
    """What a network stands for: scales predictions, so that all ranks have parameters in common."""

    def __init__(self, loss):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.3, 0.4], dtype=torch.float64))
        self.loss = loss

    def forward(self, pred, *args, **kwargs):
        value = self.loss(self.scale[0] * pred + self.scale[1] * pred.sin(), *args, **kwargs)
        return sum(value.values()) if isinstance(value, dict) else value


class Sets(nn.Module):
    """The same for a set criterion; some of its losses."""

    def __init__(self, wanted):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.3, 0.4], dtype=torch.float64))
        self.criterion, self.wanted = SetCriterion(4, hungarian()), wanted

    def forward(self, outputs, targets):
        logits = self.scale[0] * outputs['logits']
        boxes = (self.scale[1] * outputs['boxes'] + self.scale[0]).sigmoid()
        losses = self.criterion(dict(logits=logits, boxes=boxes), targets)
        unused = 0 * self.scale.sum()  # of losses that are not asked for
        return unused + total({name: value for name, value in losses.items() if self.wanted in name})


def pixels(rank, kind):
    """Prediction and target of a rank's part."""
    generator, part = torch.Generator().manual_seed(rank), PARTS[rank]
    channels = 5 if kind == 'label' else 1
    pred = torch.randn(part['images'], channels, 6, 7, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 5 if kind == 'label' else 2, (part['images'], 6, 7), generator=generator)
    return pred, target if part['valid'] else torch.full_like(target, 255)


def objects(rank):
    """Mask logits, masks and points of a rank's part."""
    generator, number = torch.Generator().manual_seed(10 + rank), sum(PARTS[rank]['counts'])
    logits = torch.randn(number, 5, 6, generator=generator, dtype=torch.float64)
    masks = torch.rand(number, 10, 12, generator=generator) < 0.4
    return logits, masks, torch.rand(number, 20, 2, generator=generator)


def gradient(model, *args, **kwargs):
    model.zero_grad()
    model(*args, **kwargs).backward()
    return getattr(model, 'module', model).scale.grad.clone()


def cases(rank, world):
    """Yields names, models, the rank's call, and the calls of all parts; what is averaged over ranks is passed."""
    for names, kind in ((LABEL_LOSSES, 'label'), (BINARY_LOSSES, 'binary')):
        for name, settings in names.items():
            loss = MODELS.build(dict(type=f'mmplugins.{name}', **settings))
            yield name, Scaled(loss), [(pixels(part, kind), {}) for part in range(world)]
    mean = sum(sum(PARTS[part]['counts']) for part in range(world)) / world
    for name, settings in MASK_LOSSES.items():
        loss = MODELS.build(dict(type=f'mmplugins.{name}', **settings))
        calls = []
        for part in range(world):
            logits, masks, points = objects(part)
            more = dict(point_coords=points) if name == 'PointSampledMaskLoss' else {}
            calls.append(((logits, masks), dict(avg_factor=mean, **more)))
        yield name, Scaled(loss), calls


def main(rank, world, folder):
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    found = {}
    for name, model, calls in cases(rank, world):
        args, kwargs = calls[rank]
        averaged = gradient(DistributedDataParallel(model), *args, **kwargs)
        alone = torch.stack([gradient(model, *args, **kwargs) for args, kwargs in calls]).mean(0)
        found[name] = averaged, alone
    for wanted in ('loss_cls', 'loss_bbox', 'loss_iou'):
        model = Sets(wanted)
        scenes = [scene(PARTS[part]['counts'], seed=part, dtype=torch.float64) for part in range(world)]
        found[wanted] = [gradient(DistributedDataParallel(model), *scenes[rank])]
    dist.barrier()
    torch.save(found, f'{folder}/rank{rank}.pt')
    dist.destroy_process_group()
    if rank == 0:  # one process with the whole batch; without a process group
        for wanted in ('loss_cls', 'loss_bbox', 'loss_iou'):
            outputs = {key: torch.cat([one[0][key] for one in scenes], 1).detach() for key in scenes[0][0]}
            whole = gradient(Sets(wanted), outputs, [target for one in scenes for target in one[1]])
            parts = torch.stack([gradient(Sets(wanted), *one) for one in scenes]).mean(0)
            found[wanted] += [whole, parts]
        torch.save(found, f'{folder}/rank0.pt')


if __name__ == '__main__':
    world, folder = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    rank = next((number for number in range(1, world) if os.fork() == 0), 0)
    main(rank, world, folder)
    if rank == 0:
        for _ in range(1, world):
            if os.wait()[1]:
                sys.exit('a rank failed')
    sys.stdout.flush()
    os._exit(0)
