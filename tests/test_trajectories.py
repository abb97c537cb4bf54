"""Twelve training steps of each paper's full-scale recipe are those of a plain PyTorch loop.

On one side a config's own optimizer wrapper, parameter groups, schedule, clipping and losses; on the other
``torch.optim`` with groups by the released rule, the rate by its formula, ``clip_grad_norm_`` over the whole model and
the losses written down. Networks are small and in float64; a schedule is the config's, its length scaled to twelve
steps so that warm-up, drops and the last step are in them. Networks' forward passes are ours on both sides (other tests
compare them with the released ones), AOT's memories included. Mask2Former's points are given, not drawn. Pixels are not
left out (``ignore_aware=False``), as in the released codes.
"""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, init_default_scope
from mmengine.structures import InstanceData, PixelData
from scipy.optimize import linear_sum_assignment
from torch import nn

from mmplugins.hosts import problem_with
from tests.locations import ROOT

STEPS = 12
AGREEMENT = 1e-9
EPS = torch.finfo(torch.float32).eps  # mmdet and mmseg add it to a count that they divide by, and ours with mmdet's
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
needs_mmdet = pytest.mark.skipif(problem_with('mmdet') is not None, reason=f'mmdet: {problem_with("mmdet")}')
needs_mmseg = pytest.mark.skipif(problem_with('mmseg') is not None, reason=f'mmseg: {problem_with("mmseg")}')


def recipe(name):
    """A config, and its only schedule scaled to twelve steps, its last step as far from the training's end as there."""
    config = Config.fromfile(ROOT / 'configs' / name)
    (schedule,) = copy.deepcopy(config.param_scheduler)
    length = config.train_cfg.get('max_iters', config.train_cfg.get('max_epochs'))
    schedule.end = STEPS + schedule.end - length
    if 'milestones' in schedule:
        schedule.milestones = [round(STEPS * milestone / length) for milestone in schedule.milestones]
    return config, schedule


def train_by_config(model, config, schedule, loss):
    """Trains as mmengine does; returns the losses of the steps."""
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    schedule = PARAM_SCHEDULERS.build(dict(schedule), default_args=dict(optimizer=wrapper))
    totals = []
    for step in range(STEPS):
        total, _ = model.parse_losses(loss(model, step))
        wrapper.update_params(total)
        schedule.step()
        totals.append(float(total))
    return totals


def train_plainly(model, optimizer, rate, clip, loss):
    """Trains as the released loops do: ``rate`` gives a group's rate from its first one and the step."""
    groups = optimizer.param_groups
    first = [group['lr'] for group in groups]
    totals = []
    for step in range(STEPS):
        for group, base in zip(groups, first, strict=True):
            group['lr'] = rate(base, step)
        total = loss(model, step)
        optimizer.zero_grad()
        total.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        totals.append(float(total))
    return totals


def compare(model, config, schedule, loss, *, groups, optimizer, rate, clip, plain_loss):
    """Trains copies of a model in both ways and compares losses and weights; returns how far they are apart."""
    model = model.double().train()
    plain = copy.deepcopy(model)
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(0)
    ours = train_by_config(model, config, schedule, loss)
    torch.manual_seed(0)
    theirs = train_plainly(plain, optimizer(groups(plain)), rate, clip, plain_loss)
    assert len({round(value, 6) for value in ours}) == STEPS  # it trains
    apart = max(abs(a / b - 1) for a, b in zip(ours, theirs, strict=True))
    assert apart < AGREEMENT, f'losses {ours} and {theirs}'
    state = plain.state_dict()
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            error = float((value - state[name]).abs().max() / value.abs().max().clamp(min=1e-3))
            assert error < AGREEMENT, f'{name}: {error}'
            apart = max(apart, error)
    trained = [name for name, p in model.named_parameters() if p.requires_grad and not torch.equal(p, before[name])]
    assert len(trained) > 0.9 * sum(p.requires_grad for p in model.parameters())
    print(f'{apart:.1e} apart')  # shown with pytest -s
    return apart


def poly(power):
    return lambda base, step: base * (1 - step / STEPS) ** power


def drops(*milestones):
    return lambda base, step: base * 0.1 ** sum(step >= milestone for milestone in milestones)


def one_by_one(model, lr, decay):
    """Groups of single parameters: MaskFormer's and Mask2Former's rule, on mmdet's names."""
    groups = []
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                bare = prefix.endswith('pixel_decoder.level_encoding')  # an Embedding in mmdet, a Parameter as released
                none = isinstance(module, NORMS) or (isinstance(module, nn.Embedding) and not bare)
                share = 0.1 if 'backbone' in f'{prefix}.{name}' else 1.0
                groups.append(dict(params=[parameter], lr=share * lr, weight_decay=0.0 if none else decay))
    return groups


def adamw(groups):
    return torch.optim.AdamW(groups, lr=1e-4)


def assigned(cost):
    """Queries and objects of the cheapest pairs of a matrix (Q, G)."""
    query, index = linear_sum_assignment(cost.detach().numpy())
    return torch.as_tensor(query), torch.as_tensor(index)


def exact_class_weights(head):
    """Gives the weights of a head's cross entropy in float64: no-object's 0.1 is rounded to float32 else."""
    head.criterion.class_weight = torch.tensor([1.0] * head.num_classes + [0.1], dtype=torch.float64)


def class_loss(logits, pairs, labels):
    """Cross entropy (B, Q, C+1), no-object weighted by 0.1, divided by the sum of the weights."""
    classes = torch.full(logits.shape[:2], logits.shape[-1] - 1)
    for image, (query, index) in enumerate(pairs):
        classes[image, query] = labels[image][index]
    weight = torch.ones(logits.shape[-1], dtype=logits.dtype)
    weight[-1] = 0.1
    return F.cross_entropy(logits.transpose(1, 2), classes, weight)


# DETR -----------------------------------------------------------------------------------------------------------------


def giou(one, other):
    """Generalised IoU of boxes x1,y1,x2,y2 that broadcast."""
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    inside = (high - low).clamp(min=0).prod(-1)
    union = (one[..., 2:] - one[..., :2]).prod(-1) + (other[..., 2:] - other[..., :2]).prod(-1) - inside
    low, high = torch.minimum(one[..., :2], other[..., :2]), torch.maximum(one[..., 2:], other[..., 2:])
    hull = (high - low).prod(-1)
    return inside / union - (hull - union) / hull


def corners(boxes):
    return torch.cat((boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2), -1)


def detr_losses(logits, boxes, targets):
    """Sum of DETR's losses of all layers; logits (L, B, Q, C+1), boxes (L, B, Q, 4), targets (labels, cx,cy,w,h)."""
    count = sum(len(labels) for labels, _ in targets)
    total = 0
    for scores, places in zip(logits, boxes, strict=True):
        pairs, distance, overlap = [], 0, 0
        for image, (labels, truth) in enumerate(targets):
            cost = 5 * torch.cdist(places[image], truth, p=1) - scores[image].softmax(-1)[:, labels]
            cost = cost - 2 * giou(corners(places[image])[:, None], corners(truth)[None])
            query, index = assigned(cost)
            pairs.append((query, index))
            distance = distance + (places[image][query] - truth[index]).abs().sum()
            overlap = overlap + (1 - giou(corners(places[image][query]), corners(truth[index]))).sum()
        found = class_loss(scores, pairs, [labels for labels, _ in targets])
        total = total + found + 5 * distance / count + 2 * overlap / count
    return total


@needs_mmdet
def test_detr():
    from mmdet.structures import DetDataSample

    init_default_scope('mmdet')
    config, schedule = recipe('detr/detr_r50_8xb2-150e_coco-800x1333.py')
    torch.manual_seed(0)
    small = Config.fromfile(ROOT / 'configs/_base_/models/detr_r18-w32.py').model
    small.backbone.update(base_channels=8, stem_channels=8)
    small.neck.in_channels = [32]
    small.bbox_head.num_classes = 5
    model = MODELS.build(small)
    model.init_weights()
    exact_class_weights(model.bbox_head)
    size = (64, 96)
    generator = torch.Generator().manual_seed(0)
    batches = []
    for count in ((3, 1), (2, 4)):
        images = torch.randn(2, 3, *size, generator=generator).double()
        targets = []
        for number in count:
            centre = 0.3 + 0.4 * torch.rand(number, 2, generator=generator).double()
            extent = 0.1 + 0.3 * torch.rand(number, 2, generator=generator).double()
            labels = torch.randint(0, 5, (number,), generator=generator)
            targets.append((labels, torch.cat((centre, extent), 1)))
        batches.append((images, targets))

    def outputs(model, step):
        images, targets = batches[step % 2]
        samples = []
        for labels, boxes in targets:
            one = DetDataSample(metainfo=dict(img_shape=size, batch_input_shape=size))
            pixels = corners(boxes) * torch.tensor([size[1], size[0]] * 2)
            one.gt_instances = InstanceData(labels=labels, bboxes=pixels)
            samples.append(one)
        return images, samples, targets

    def by_config(model, step):
        images, samples, _ = outputs(model, step)
        return model.loss(images, samples)

    def plainly(model, step):
        images, samples, targets = outputs(model, step)
        hidden = model.forward_transformer(model.extract_feat(images), samples)
        return detr_losses(*model.bbox_head(hidden['hidden_states']), targets)

    def groups(model):
        names = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        backbone, rest = ([p for name, p in names if ('backbone' in name) is inside] for inside in (True, False))
        return [dict(params=rest, lr=1e-4, weight_decay=1e-4), dict(params=backbone, lr=1e-5, weight_decay=1e-4)]

    settings = dict(groups=groups, optimizer=adamw, rate=drops(8), clip=0.1, plain_loss=plainly)
    compare(model, config, schedule, by_config, **settings)


# MaskFormer, Mask2Former ----------------------------------------------------------------------------------------------


def dice(probability, truth):
    return 1 - (2 * (probability * truth).sum(-1) + 1) / (probability.sum(-1) + truth.sum(-1) + 1)


def pair_costs(per_one, per_zero, logits, truth):
    """Mean over points of a cost of foreground and one of background, and of dice: (Q, P) and (G, P) to (Q, G) each."""
    mask = (per_one(logits) @ truth.T + per_zero(logits) @ (1 - truth).T) / logits.shape[1]
    return mask, dice(logits.sigmoid()[:, None], truth[None])


def focal_one(x):
    return -0.25 * (1 - x.sigmoid()) ** 2 * F.logsigmoid(x)


def focal_zero(x):
    return -0.75 * x.sigmoid() ** 2 * F.logsigmoid(-x)


def points_of(maps, coords):
    """Values of maps (N, h, w) at points (N, P, 2), x,y in 0 to 1."""
    return F.grid_sample(maps[:, None], 2 * coords[:, None] - 1, align_corners=False)[:, 0, 0]


def mask2former_losses(scores, masks, targets, match_coords, loss_coords):
    """Sum of Mask2Former's losses of all layers; lists of (B, Q, C+1) and (B, Q, h, w), targets (labels, masks)."""
    count = sum(len(labels) for labels, _ in targets) + EPS
    total = 0
    for layer, (logits, maps) in enumerate(zip(scores, masks, strict=True)):
        pairs, entropy, overlap, start = [], 0, 0, 0
        for image, (labels, truth) in enumerate(targets):
            place = match_coords[layer, image][None]
            seen = points_of(maps[image], place.expand(len(maps[image]), -1, -1))
            wanted = points_of(truth, place.expand(len(truth), -1, -1))
            mask, shape = pair_costs(lambda x: F.softplus(-x), F.softplus, seen, wanted)
            query, index = assigned(5 * mask + 5 * shape - 2 * logits[image].softmax(-1)[:, labels])
            pairs.append((query, index))
            place = loss_coords[layer][start : start + len(query)]
            start += len(query)
            seen, wanted = points_of(maps[image][query], place), points_of(truth[index], place)
            entropy = entropy + F.binary_cross_entropy_with_logits(seen, wanted, reduction='none').mean(1).sum()
            overlap = overlap + dice(seen.sigmoid(), wanted).sum()
        found = class_loss(logits, pairs, [labels for labels, _ in targets])
        total = total + 2 * found + 5 * entropy / count + 5 * overlap / count
    return total


def maskformer_losses(scores, masks, targets):
    """Sum of MaskFormer's losses of all layers: focal and dice on masks upsampled to the labels' size."""
    count = sum(len(labels) for labels, _ in targets) + EPS
    total = 0
    for logits, maps in zip(scores, masks, strict=True):
        pairs, focal, overlap = [], 0, 0
        for image, (labels, truth) in enumerate(targets):
            small = F.interpolate(truth[None], maps.shape[-2:], mode='nearest')[0].flatten(1)
            mask, shape = pair_costs(focal_one, focal_zero, maps[image].flatten(1), small)
            query, index = assigned(20 * mask + shape - logits[image].softmax(-1)[:, labels])
            pairs.append((query, index))
            large = F.interpolate(maps[image][query][None], truth.shape[-2:], mode='bilinear', align_corners=False)[0]
            large, wanted = large.flatten(1), truth[index].flatten(1)
            focal = focal + torch.where(wanted > 0, focal_one(large), focal_zero(large)).mean(1).sum()
            overlap = overlap + dice(large.sigmoid(), wanted).sum()
        found = class_loss(logits, pairs, [labels for labels, _ in targets])
        total = total + found + 20 * focal / count + overlap / count
    return total


MASK_RECIPES = {  # decay, rate by step
    'mask2former/mask2former_r50_8xb2-50e_coco-panoptic-1024x1024.py': (0.05, drops(11, 12)),
    'mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py': (0.05, poly(0.9)),
    'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py': (0.05, poly(0.9)),
    'maskformer/maskformer_r50_16xb1-75e_coco-panoptic-800x1333.py': (1e-4, drops(8)),
    'maskformer/maskformer_r50_8xb2-160k_ade20k-512x512.py': (1e-4, poly(0.9)),
}


@needs_mmdet
@pytest.mark.parametrize('name', MASK_RECIPES)
def test_mask_predictors(name):
    """The backbone's batch norms are trained, as Mask2Former's for Cityscapes."""
    from tests.models.mask_models import sample, small_detector

    config, schedule = recipe(name)
    decay, rate = MASK_RECIPES[name]
    kind = 'Mask2Former' if 'mask2former' in name else 'MaskFormer'
    init_default_scope('mmdet')
    model = small_detector(kind, num_queries=8, num_points=48)
    head = model.panoptic_head
    exact_class_weights(head)
    generator = torch.Generator().manual_seed(0)
    batches = []
    for seed in range(2):
        samples = [sample(2 + image, seed=10 * seed + image) for image in range(2)]
        targets = head.preprocess_gt([one.gt_instances for one in samples], [one.gt_sem_seg for one in samples])
        counts, layers = sum(len(one.labels) for one in targets), 3
        batches.append(
            dict(
                images=torch.randn(2, 3, 64, 96, generator=generator).double(),
                samples=samples,
                targets=targets,
                match=torch.rand(layers, 2, 48, 2, generator=generator).double(),
                loss=[torch.rand(counts, 48, 2, generator=generator).double() for _ in range(layers)],
            )
        )

    def predictions(model, step):
        batch = batches[step % 2]
        return batch, *model.panoptic_head(model.extract_feat(batch['images']), batch['samples'])

    def by_config(model, step):
        batch, scores, masks = predictions(model, step)
        points = dict(match_coords=batch['match'], loss_coords=batch['loss']) if kind == 'Mask2Former' else {}
        return model.panoptic_head.loss_by_feat(scores, masks, batch['targets'], [{}, {}], **points)

    def plainly(model, step):
        batch, scores, masks = predictions(model, step)
        targets = [(one.labels, one.masks.double()) for one in batch['targets']]
        if kind == 'MaskFormer':
            return maskformer_losses(scores, masks, targets)
        return mask2former_losses(scores, masks, targets, batch['match'], batch['loss'])

    settings = dict(groups=lambda model: one_by_one(model, 1e-4, decay), optimizer=adamw, rate=rate, clip=0.01)
    compare(model, config, schedule, by_config, **settings, plain_loss=plainly)


# PSPNet, AOT ----------------------------------------------------------------------------------------------------------


def ohem(logits, label, thresh, min_kept):
    """Mean cross entropy of the pixels whose class has at most the probability ``thresh``, of at least ``min_kept``."""
    loss = F.cross_entropy(logits, label, ignore_index=255, reduction='none')[label != 255]
    probability = (-loss.detach()).exp()
    return loss[probability <= max(thresh, float(probability.sort().values[min_kept - 1]))].mean()


@needs_mmseg
def test_pspnet():
    """The threshold is searched on all pixels here; tests of the loss compare the search at an eighth of the size."""
    from mmseg.structures import SegDataSample

    init_default_scope('mmseg')
    config, schedule = recipe('pspnet/pspnet_r101-d8_ohem_4xb2-40k_cityscapes-769x769.py')
    torch.manual_seed(0)
    small = Config.fromfile(ROOT / 'configs/_base_/models/pspnet_r18-d8-w32.py').model
    for head in (small.decode_head, small.auxiliary_head):
        head.dropout_ratio = 0
    small.decode_head.pool_scales = (2, 3, 6)  # batch norm over two pixels, as at scale 1, makes much of rounding
    loss = copy.deepcopy(config.model.decode_head.loss_decode)
    loss.update(min_kept=900, threshold_stride=1)
    small.decode_head.loss_decode = loss
    small.auxiliary_head.loss_decode = config.model.auxiliary_head.loss_decode
    model = MODELS.build(small)
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(2):
        label = torch.randint(0, 11, (2, 1, 6, 8), generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)
        label[:, :, :5] = 255
        batches.append((torch.randn(2, 3, 48, 64, generator=generator).double(), label))

    def by_config(model, step):
        images, label = batches[step % 2]
        samples = [SegDataSample(gt_sem_seg=PixelData(data=one)) for one in label]
        return model.loss(images, samples)

    def plainly(model, step):
        images, label = batches[step % 2]
        label = label.squeeze(1)
        features = model.extract_feat(images)
        main, aux = (
            F.interpolate(head(features), label.shape[1:], mode='bilinear', align_corners=True)
            for head in (model.decode_head, model.auxiliary_head)
        )
        aux = F.cross_entropy(aux, label, ignore_index=255, reduction='sum') / (int((label != 255).sum()) + EPS)
        return ohem(main, label, loss.thresh, 900) + 0.4 * aux

    def sgd(groups):
        return torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=5e-4)

    settings = dict(optimizer=sgd, rate=poly(0.9), clip=None, plain_loss=plainly)
    compare(model, config, schedule, by_config, groups=lambda model: [dict(params=model.parameters())], **settings)


def top_k(logits, label, step):
    """Mean of the hardest pixels of one image: from all of them at step 0 to 15 % from half of the training on."""
    loss = F.cross_entropy(logits[None], label[None], ignore_index=255, reduction='none').flatten()
    share = min(1, step / (STEPS // 2))
    return loss.topk(int((0.15 * share + 1 - share) * loss.numel())).values.mean()


def jaccard(logits, label):
    """1 - intersection over union of one image, mean over its classes."""
    valid = label != 255
    probability = logits.softmax(0)[:, valid]
    found = []
    for index in label[valid].unique():
        wanted = (label[valid] == index).to(logits.dtype)
        inside = (probability[index] * wanted).sum()
        found.append(1 - inside / (probability[index].sum() + wanted.sum() - inside))
    return torch.stack(found).mean()


@needs_mmseg
def test_aot():
    """Three steps of warm-up; from the sixth step on predictions feed the memory; the first frame's loss fades."""
    from mmplugins.models.segmentors.aot.training import SequencePass, sequence_logits
    from tests.models.segmentors.aot.aot_models import clips, moving_masks, samples, tiny_aot

    init_default_scope('mmseg')
    config, schedule = recipe('aot/aot_t_4xb4-100k_ytvos2019-davis2017-465x465.py')
    assert schedule.warmup == config.train_cfg.max_iters // 20
    schedule.warmup = warmup = 3
    losses = copy.deepcopy(config.model.loss_decode)
    settings = dict(config.model.train_cfg, shuffle_identities=False)
    for place, key in ((losses[0], 'hard_example_mining_step'), (settings, 'own_masks_from')):
        assert place[key] == config.train_cfg.max_iters // 2
        place[key] = STEPS // 2
    assert settings['aux_loss_steps'] == config.train_cfg.max_iters
    settings['aux_loss_steps'] = STEPS
    model = tiny_aot(loss_decode=losses, train_cfg=settings)
    masks = moving_masks(objects=3)
    masks[:, :, :2] = 255
    batches = [clips(seed=seed).double() for seed in range(2)]

    def by_config(model, step):
        return model.loss(batches[step % 2], samples(masks, num_objects=[3, 3]), step=step)

    def plainly(model, step):
        one_pass = SequencePass(own_masks=step >= STEPS // 2)
        frames = sequence_logits(model.network, batches[step % 2], masks, torch.tensor([3, 3]), one_pass)
        values = []
        for t, logits in enumerate(frames):
            pairs = list(zip(logits, masks[:, t].long(), strict=True))
            values.append(sum(0.5 * top_k(*pair, step) + 0.5 * jaccard(*pair) for pair in pairs) / len(pairs))
        return (1 - step / STEPS) * values[0] + sum(values[1:]) / len(values[1:])

    def groups(model):
        parameters = []
        for name, p in model.named_parameters():
            if p.requires_grad:
                none = p.dim() == 1 or 'relative_value' in name or 'decoder.out' in name
                share = 0.1 if 'encoder.backbone' in name else 1.0
                parameters.append(dict(params=[p], lr=share, weight_decay=0.0 if none else 0.07))
        return parameters

    def rate(share, step):  # of the distance to the least rate
        rise, fall = step / warmup, (1 - (step - warmup) / (STEPS - warmup + 1)) ** 0.9
        return 2e-5 + share * (2e-4 - 2e-5) * (rise if step < warmup else fall)

    compare(model, config, schedule, by_config, groups=groups, optimizer=adamw, rate=rate, clip=5.0, plain_loss=plainly)
    assert math.isclose(rate(1.0, warmup), 2e-4)
