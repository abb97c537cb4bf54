import pytest
import torch
import torch.nn.functional as F

from mmplugins.functional.masks.formulas import bce_dice, binary_focal_dice, soft_focal_dice


def scene(dtype=torch.float32, shape=(3, 40)):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    target = (torch.rand(shape, generator=generator) < 0.4).to(torch.float64)
    return logits.to(dtype), target.to(dtype)


def dice(prob, target, weight):
    both, total = (prob * target * weight).sum(1), ((prob + target) * weight).sum(1)
    return 1 - (2 * both + 1) / (total + 1)


def gradient(value, logits):
    return torch.autograd.grad(value.sum(), logits, retain_graph=True)[0]


@pytest.mark.parametrize('soft', [False, True])
@pytest.mark.parametrize('weighted', [False, True])
def test_bce_dice_equals_its_formula(soft, weighted):
    logits, target = scene()
    target = target * 0.7 + 0.1 if soft else target
    weight = (torch.rand(logits.shape) < 0.6).float() if weighted else torch.ones_like(logits)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    values = bce_dice(ours, target, weight if weighted else None)
    entropy = (F.binary_cross_entropy_with_logits(theirs, target, reduction='none') * weight).sum(1) / weight.sum(1)
    for value, expected in zip(values, (entropy, dice(theirs.sigmoid(), target, weight)), strict=True):
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient(value, ours), gradient(expected, theirs))


def test_by_hand():
    """Logits 0 and targets 1, 0: cross entropy log 2; p = 1/2 twice: dice 1 - (2 * 1/2 + 1) / (1 + 1 + 1) = 1/3."""
    entropy, dice_loss = bce_dice(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    assert float(entropy) == pytest.approx(0.693147, abs=1e-6)
    assert float(dice_loss) == pytest.approx(1 / 3, abs=1e-6)


def test_nothing_that_counts_gives_zero():
    logits, target = scene()
    values = bce_dice(logits.requires_grad_(), target, torch.zeros_like(logits))
    assert torch.stack(values).abs().sum() == 0
    assert gradient(sum(values), logits).abs().sum() == 0
    empty = torch.zeros(0, 5, requires_grad=True)
    values = bce_dice(empty, empty.detach())
    assert [value.shape for value in values] == [(0,), (0,)]
    sum(value.sum() for value in values).backward()


def test_large_logits_stay_finite():
    logits = torch.tensor([[300.0, -300.0], [-300.0, 300.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    entropy, dice_loss = bce_dice(logits, target)
    assert entropy.tolist() == [0, 300]
    assert dice_loss.tolist() == pytest.approx([0, 2 / 3])
    assert torch.isfinite(gradient(entropy + dice_loss, logits)).all()


@pytest.mark.parametrize('weighted', [False, True])
def test_bce_dice_gradcheck(weighted):
    logits, target = scene(torch.float64, (2, 7))
    weight = (torch.arange(14).view(2, 7) % 3 > 0).double() if weighted else None
    assert torch.autograd.gradcheck(lambda x: bce_dice(x, target, weight), logits.requires_grad_())


@pytest.mark.parametrize('gamma', [0.0, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize('soft', [False, True])
def test_focal_dice_equals_its_formula(gamma, soft):
    logits, target = scene(torch.float64, (2, 5, 6))
    target = target * 0.7 + 0.1 if soft else target
    logits.requires_grad_()
    prob = logits.sigmoid()
    miss = prob + target - 2 * prob * target
    weight = 0.3 * target + 0.7 * (1 - target)
    focal = weight * miss**gamma * F.binary_cross_entropy_with_logits(logits, target, reduction='none')
    expected = torch.stack([x.sum((1, 2)) for x in (focal, prob * target, prob, target)])
    for formula in (soft_focal_dice,) if soft else (soft_focal_dice, binary_focal_dice):
        sums, fields = formula(logits.detach(), target, 0.3, gamma)
        torch.testing.assert_close(sums, expected.detach())
        torch.testing.assert_close(fields[0], gradient(focal, logits))
        torch.testing.assert_close(fields[1], (prob * (1 - prob)).detach())
        torch.testing.assert_close(fields[2], (prob * (1 - prob) * target).detach())
        assert formula(logits.detach(), target, 0.3, gamma, False)[1] == []


@pytest.mark.parametrize('formula', [binary_focal_dice, soft_focal_dice])
def test_wrong_predictions_of_any_size_are_exact(formula):
    """A prediction x on the wrong side costs a x, whether or not float32 holds its sigmoid; a right one nothing."""
    logits = torch.tensor([20.0, 90.0, 1000.0, -1000.0]).view(1, 1, 4)
    sums, fields = formula(logits, torch.zeros_like(logits), 0.25, 2.0)
    assert float(sums[0]) == pytest.approx(0.75 * 1110, rel=1e-6)
    assert fields[0].flatten().tolist() == pytest.approx([0.75, 0.75, 0.75, 0], abs=1e-6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_equals_cpu():
    logits, target = scene()
    for value, expected in zip(bce_dice(logits.cuda(), target.cuda()), bce_dice(logits, target), strict=True):
        torch.testing.assert_close(value.cpu(), expected)
    for formula in (binary_focal_dice, soft_focal_dice):
        sums, fields = formula(logits[None].cuda(), target[None].cuda(), 0.25, 2.0)
        expected, expected_fields = formula(logits[None], target[None], 0.25, 2.0)
        torch.testing.assert_close(sums.cpu(), expected)
        torch.testing.assert_close(torch.stack(fields).cpu(), torch.stack(expected_fields))
