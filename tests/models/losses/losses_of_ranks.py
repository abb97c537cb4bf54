"""The processes of ``test_losses_distributed``: python losses_of_ranks.py FOLDER WORLD ...; forks into so many ranks.

Each rank computes every loss of its part of the batch under DistributedDataParallel, whose gradients are averaged; the
first one also computes what one process would. Of networks with a loss, the gradients of all weights are compared.
"""

import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmplugins.hosts import problem_with
from mmplugins.models.losses import SetCriterion
from mmplugins.registry import MODELS
from tests.models.losses.set_scenes import hungarian, scene, total
from tests.models.losses.test_set_criterion_masks import build as build_masks
from tests.models.losses.test_set_criterion_masks import masked_scene

LABEL_LOSSES = {
    'OhemCrossEntropyLoss': dict(min_kept=3),
    'TopKCrossEntropyLoss': dict(hard_example_mining_step=0),
    'SoftJaccardLoss': {},
}
BINARY_LOSSES = {'SoftIoULoss': {}, 'BCEIoULoss': {}, 'StructureLoss': {}}
MASK_LOSSES = {'DenseMaskLoss': {}, 'PointSampledMaskLoss': dict(num_points=20)}
NETWORKS = {'PFNetHead': 'mmseg', 'AOT': 'mmseg'}  # and the toolbox that they need
WHOLE = {  # of what is divided by the number of objects of all ranks: losses
    'SetCriterion': ('loss_bbox', 'loss_iou'),
    'SetCriterion on points': ('loss_mask', 'loss_dice'),
    'SetCriterion on pixels': ('loss_mask', 'loss_dice'),
    'Mask2FormerHead': ('loss_mask', 'loss_dice'),
    'MaskFormerHead': ('loss_mask', 'loss_dice'),
}
POINTS, LAYERS = 20, 3  # of a mask, and of a mask head with its first prediction
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


class Predicted(nn.Module):
    """The same for a set criterion."""

    def __init__(self, criterion):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.3, 0.4], dtype=torch.float64))
        self.criterion = criterion

    def forward(self, outputs, targets, **coords):
        made = dict(logits=self.scale[0] * outputs['logits'])
        if 'boxes' in outputs:
            made['boxes'] = (self.scale[1] * outputs['boxes'] + self.scale[0]).sigmoid()
        else:
            made['masks'] = self.scale[1] * outputs['masks'] + self.scale[0]
        return self.criterion(made, targets, **coords)


class Wanted(nn.Module):
    """The sum of those losses of a network that have something in their names; called in a way of its own."""

    def __init__(self, network, wanted='loss', call=None):
        super().__init__()
        self.network, self.wanted, self.call = network, wanted, call

    def forward(self, *args, **kwargs):
        losses = self.call(self.network, *args, **kwargs) if self.call else self.network(*args, **kwargs)
        return 0 * total(losses) + total({name: value for name, value in losses.items() if self.wanted in name})


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


def set_part(name, part):
    """What a set criterion or mask head takes of a rank's part, as keywords; see ``join``."""
    counts = PARTS[part]['counts']
    generator = torch.Generator().manual_seed(part)

    def coords(layers):
        matching = torch.rand(layers, len(counts), POINTS, 2, generator=generator, dtype=torch.float64)
        pairs = [torch.rand(sum(counts), POINTS, 2, generator=generator, dtype=torch.float64) for _ in range(layers)]
        return dict(match_coords=matching, loss_coords=pairs)

    if name == 'SetCriterion':
        outputs, targets = scene(counts, seed=part, dtype=torch.float64)
        return dict(outputs=detached(outputs), targets=targets)
    if name.startswith('SetCriterion'):
        outputs, targets = masked_scene(counts, seed=part, dtype=torch.float64)
        return dict(outputs=detached(outputs), targets=targets, **(coords(2) if 'points' in name else {}))
    from tests.models import mask_models

    inputs = [level.double() for level in mask_models.features(len(counts), seed=part)]
    samples = [mask_models.sample(n, num_stuff=0, seed=10 * part + i) for i, n in enumerate(counts)]
    return dict(inputs=inputs, samples=samples, **(coords(LAYERS) if name == 'Mask2FormerHead' else {}))


def detached(outputs):
    return {name: value.detach() for name, value in outputs.items()}


def join(parts):
    """One batch of several ranks' parts."""
    whole = {}
    for key in parts[0]:
        values = [part[key] for part in parts]
        if key == 'outputs':
            whole[key] = {name: torch.cat([one[name] for one in values], 1) for name in values[0]}
        elif key == 'match_coords':
            whole[key] = torch.cat(values, 1)
        elif key in ('inputs', 'loss_coords'):
            whole[key] = [torch.cat(level) for level in zip(*values, strict=True)]
        else:
            whole[key] = [one for value in values for one in value]
    return whole


def set_model(name, wanted):
    """A set criterion or mask head; some of its losses."""
    if name == 'SetCriterion':
        return Wanted(Predicted(SetCriterion(4, hungarian())), wanted)
    if name.startswith('SetCriterion'):
        points = dict(type='mmplugins.PointSampledMaskLoss', num_points=POINTS)
        return Wanted(
            Predicted(build_masks(points if 'points' in name else dict(type='mmplugins.DenseMaskLoss'))), wanted
        )
    from tests.models.mask_models import small_head

    head = small_head(name.removesuffix('Head'), classes=(4, 0), num_points=POINTS)
    return Wanted(head.double().train(), wanted, losses_of_head)


def losses_of_head(head, inputs, samples, **coords):
    targets = head.targets(samples)
    return head.loss_by_feat(*head(inputs, samples), targets, [one.metainfo for one in samples], **coords)


def network(name):
    """A network with a loss whose norms are frozen, and the calls of all parts."""
    parts = [(part['images'], part['valid'], torch.Generator().manual_seed(i)) for i, part in enumerate(PARTS)]
    if name == 'PFNetHead':
        from tests.models.decode_heads.pfnet_models import data_samples, small_pfnet

        sizes = [(channels, 32 // 2**stage, 48 // 2**stage) for stage, channels in enumerate((8, 16, 32, 64))]
        calls = []
        for images, valid, generator in parts:
            inputs = [torch.randn(images, *size, generator=generator, dtype=torch.float64) for size in sizes]
            masks = torch.randint(0, 2, (images, 64, 96), generator=generator)
            calls.append(((inputs, data_samples(masks if valid else torch.full_like(masks, 255))), {}))
        head = small_pfnet().decode_head.double().eval()
        return Wanted(head, call=lambda head, *args: head.loss(*args)), calls
    from tests.models.segmentors.aot.aot_models import clips, moving_masks, samples, tiny_aot

    calls = []
    for index, (images, valid, _) in enumerate(parts):  # without objects where there is nothing valid
        masks = moving_masks(images, objects=2 if valid else 0)
        calls.append(((clips(images, seed=index).double(), samples(masks)), {}))
    model = tiny_aot(train_cfg=dict(shuffle_identities=False)).double().train()
    return Wanted(model, call=lambda model, *args: model.loss(*args, step=0)), calls


def gradient(model, *args, **kwargs):
    model.zero_grad()
    model(*args, **kwargs).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


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
    for name, toolbox in NETWORKS.items():
        if problem_with(toolbox) is None:
            model, calls = network(name)
            yield name, model, calls[:world]


def set_names():
    """Those of ``WHOLE`` whose toolbox is there."""
    return [name for name in WHOLE if 'Head' not in name or problem_with('mmdet') is None]


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
    models = {(name, wanted): set_model(name, wanted) for name in set_names() for wanted in ('loss_cls', *WHOLE[name])}
    for (name, wanted), model in models.items():
        found[name, wanted] = [gradient(DistributedDataParallel(model), **set_part(name, rank))]
    dist.barrier()
    torch.save(found, f'{folder}/rank{rank}.pt')
    dist.destroy_process_group()
    if rank == 0:  # one process with the whole batch; without a process group
        for (name, wanted), model in models.items():
            parts = [set_part(name, part) for part in range(world)]
            mean = torch.stack([gradient(model, **part) for part in parts]).mean(0)
            found[name, wanted] += [gradient(model, **join(parts)), mean]
        torch.save(found, f'{folder}/rank0.pt')


def fork(rank, world, folder):
    """Forks a rank; returns its process."""
    child = os.fork()
    if child:
        return child
    try:
        main(rank, world, folder)
        sys.stdout.flush()
        os._exit(0)
    except BaseException:  # the child must not go on as its parent
        traceback.print_exc()
        os._exit(1)


if __name__ == '__main__':
    torch.set_num_threads(1)
    folder, failed = Path(sys.argv[1]), []
    for world in map(int, sys.argv[2:]):
        (folder / str(world)).mkdir()
        children = [fork(rank, world, folder / str(world)) for rank in range(world)]
        failed += [world for child in children if os.waitpid(child, 0)[1]]
    if failed:
        sys.exit(f'ranks failed, of so many: {failed}')
