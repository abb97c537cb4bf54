"""Focal loss: against autograd of the formula."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import sigmoid_focal_loss, softmax_focal_loss

from tests.ops.plain import random

pytestmark = pytest.mark.usefixtures('plain')
TARGET = torch.tensor([0, 2, 1, 3, 0])  # 3 belongs to none of three classes
WEIGHT = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
FACTOR = torch.tensor([0.5, 3.0, 2.0, 1.0, 0.5], dtype=torch.float64)


def grad(loss, logits):
    return torch.autograd.grad(loss.sum(), logits)[0]


@pytest.mark.parametrize('weight', [None, WEIGHT])
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
@pytest.mark.parametrize(('gamma', 'alpha'), [(2.0, 0.25), (0.5, 0.9), (0.0, 0.5)])
def test_sigmoid(gamma, alpha, reduction, weight):
    logits = (random(5, 3) * 3).requires_grad_()
    loss = sigmoid_focal_loss(logits, TARGET, gamma, alpha, weight, reduction)
    signs = 2 * F.one_hot(TARGET, 4)[:, :3] - 1
    p = (logits * signs).sigmoid()
    expected = torch.where(signs > 0, alpha, 1 - alpha) * (1 - p) ** gamma * -p.log()
    expected = expected if weight is None else expected * FACTOR[:, None]
    expected = {'none': expected, 'sum': expected.sum(), 'mean': expected.sum() / 5}[reduction]
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(grad(loss, logits), grad(expected, logits))


@pytest.mark.parametrize('weight', [None, WEIGHT])
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_softmax(reduction, weight):
    logits, target = (random(5, 3) * 3).requires_grad_(), TARGET.clamp(max=2)
    p = logits.softmax(1).gather(1, target[:, None])[:, 0]
    expected = 0.25 * (1 - p) ** 2 * -p.log()
    if weight is not None:
        expected = expected * weight[target]
    expected = {'none': expected, 'sum': expected.sum(), 'mean': expected.sum() / 5}[reduction]
    loss = softmax_focal_loss(logits, target, 2.0, 0.25, weight, reduction)
    torch.testing.assert_close(loss, expected)
    if reduction != 'none':  # mmcv multiplies (N, C) by (N,)
        torch.testing.assert_close(grad(loss, logits), grad(expected, logits))


def test_softmax_leaves_negative_targets_out():
    logits = random(2, 3).requires_grad_()
    loss = softmax_focal_loss(logits, torch.tensor([1, -1]), 2.0, 0.25, None, 'sum')
    torch.testing.assert_close(loss, softmax_focal_loss(logits[:1], torch.tensor([1]), 2.0, 0.25, None, 'sum'))
    assert not grad(loss, logits)[1].any()


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([0, 0]), 2.0, 0.25, None, 'none')
    tiny = -torch.tensor(torch.finfo(torch.float32).tiny).log()  # what mmcv's kernel bounds a logarithm by
    torch.testing.assert_close(loss.detach(), torch.tensor([[0, 0], [0.25, 0.75]]) * tiny)
    assert grad(loss, logits).isfinite().all()


def test_no_samples():
    assert sigmoid_focal_loss(torch.zeros(0, 3), TARGET[:0], 2.0, 0.25, None, 'sum') == 0
