"""Objects without a pixel, which a crop of panoptic data leaves: pairs like others, of loss values derived by hand.

Every query's mask has one logit x everywhere, p = sigmoid(x), so that no choice of points matters. On N points or
pixels an empty mask costs, cross entropy: -log(1 - p); focal: (1 - alpha) p^2 of that; dice: 1 - 1 / (N p + 1). A full
one costs -log p; alpha (1 - p)^2 of that; 1 - (2 N p + 1) / (N p + N + 1).
"""

import math

import pytest
import torch

from mmplugins.hosts import problem_with

if problem := problem_with('mmdet'):
    pytest.skip(f'mmdet is needed: {problem}', allow_module_level=True)

from mmengine.structures import InstanceData

from tests.models.mask_models import small_head

CLASSES, POINTS, SIZE = 6, 64, (32, 48)


def entropy(probability, truth):
    return -math.log(probability if truth else 1 - probability)


def by_hand(model, pairs):
    """Sums of both mask losses over pairs of a query's logit and whether the mask is full, divided by their number."""
    number = POINTS if model == 'Mask2Former' else SIZE[0] * SIZE[1]
    mask = dice = 0
    for x, full in pairs:
        p = 1 / (1 + math.exp(-x))
        focal = 0.25 * (1 - p) ** 2 if full else 0.75 * p**2
        mask += entropy(p, full) * (1 if model == 'Mask2Former' else focal)
        dice += 1 - (2 * number * p + 1) / (number * p + number + 1) if full else 1 - 1 / (number * p + 1)
    weights = (5.0, 5.0) if model == 'Mask2Former' else (20.0, 1.0)
    return weights[0] * mask / len(pairs), weights[1] * dice / len(pairs)


def losses_of(model, logits, mask_logits, instances, **settings):
    """Losses of one image; ``logits`` (L, Q, C+1), ``mask_logits`` Q numbers; also the leaf (L, 1, Q, 8, 12)."""
    head = small_head(model, num_queries=len(mask_logits), num_points=POINTS, **settings)
    masks = torch.tensor(mask_logits).view(1, 1, -1, 1, 1).repeat(len(logits), 1, 1, 8, 12).requires_grad_()
    target = dict(labels=instances.labels, masks=instances.masks)
    if settings.get('ignore_aware'):
        target['valid'] = torch.ones(SIZE, dtype=torch.bool)
    options = {}
    if model == 'Mask2Former':  # inside: where a point's neighbours lie beyond the border, they count as logits of 0
        inside = 0.2 + 0.6 * torch.rand(len(logits), 1, POINTS, 2)
        options.update(match_coords=inside, loss_coords=list(inside.expand(-1, len(instances.labels), -1, -1)))
    return head.loss_by_feat(logits.unsqueeze(1), masks, [target], [{}], **options), masks


@pytest.mark.parametrize('model', ['Mask2Former', 'MaskFormer'])
@pytest.mark.parametrize('ignore_aware', [False, True])
@pytest.mark.parametrize('full', [True, False])
def test_values_by_hand(model, ignore_aware, full):
    """Query 0 is certain of class 4, whose object is empty, query 1 of class 1, whose object is full, or empty too."""
    logits = torch.zeros(2, 2, CLASSES + 1)
    logits[:, 0, 4] = logits[:, 1, 1] = 30.0
    truth = torch.zeros(2, *SIZE, dtype=torch.bool)
    truth[0] = full
    instances = InstanceData(labels=torch.tensor([1, 4]), masks=truth)
    losses, masks = losses_of(model, logits, (-1.0, 2.0), instances, ignore_aware=ignore_aware)
    expected = by_hand(model, [(-1.0, False), (2.0, full)])
    for layer in ('d0.', ''):
        assert float(losses[f'{layer}loss_cls']) < 1e-6  # both are paired: neither counts as no-object
        assert float(losses[f'{layer}loss_mask']) == pytest.approx(expected[0], rel=1e-5)
        assert float(losses[f'{layer}loss_dice']) == pytest.approx(expected[1], rel=1e-5)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert torch.isfinite(masks.grad).all()
    assert (masks.grad.sum((-1, -2))[:, 0, 0] > 0).all()  # the empty object's query is told to show less


@pytest.mark.parametrize('model', ['Mask2Former', 'MaskFormer'])
def test_the_matching_prefers_the_emptier_query(model):
    """Of queries equally sure of the class, the one whose mask shows least is paired; the others have no mask loss."""
    instances = InstanceData(labels=torch.tensor([3]), masks=torch.zeros(1, *SIZE, dtype=torch.bool))
    losses, masks = losses_of(model, torch.zeros(1, 3, CLASSES + 1), (0.5, -1.0, 2.0), instances)
    expected = by_hand(model, [(-1.0, False)])
    assert float(losses['loss_mask']) == pytest.approx(expected[0], rel=1e-5)
    assert float(losses['loss_dice']) == pytest.approx(expected[1], rel=1e-5)
    (losses['loss_mask'] + losses['loss_dice']).backward()
    assert (masks.grad[0, 0, [0, 2]] == 0).all()
