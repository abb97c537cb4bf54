"""Maps of classes block by block equal those of all queries at once."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F

from mmplugins.functional.device import plain_path
from mmplugins.functional.masks import class_maps
from mmplugins.functional.masks.class_maps import class_scores, find_classes
from mmplugins.functional.masks.resized import ResizedMasks
from mmplugins.functional.upsampled import UpsampledLogits


def given(images=2, queries=7, classes=5, size=(12, 17), dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    masks = F.interpolate(6 * torch.randn(images, queries, 4, 5, generator=generator), size, mode='bilinear')
    scores = torch.randn(images, queries, classes + 1, generator=generator).softmax(-1)[..., :-1]
    return scores.to(dtype), masks.to(dtype)


def expected(scores, masks, size):
    """As mmseg's heads compute it."""
    full = F.interpolate(masks, size, mode='bilinear', align_corners=False)
    return torch.einsum('bqc,bqhw->bchw', scores, full.sigmoid())


@pytest.mark.parametrize('size', [(48, 68), (12, 17), (300, 131), (250, 345)])
@pytest.mark.parametrize('elements', [1, 7 * 250 * 40])
def test_scores_are_those_of_the_toolbox(size, elements, monkeypatch):
    """Small maps, which torch rounds otherwise, are made as a whole."""
    monkeypatch.setattr(class_maps, '_CPU_ELEMENTS', elements)
    scores, masks = given(size=(62, 86))
    truth = expected(scores, masks, size)
    for path in (nullcontext, plain_path):
        with path():
            found = class_scores(scores, UpsampledLogits(masks, size))
        torch.testing.assert_close(found, truth, rtol=0, atol=1e-6)
        assert torch.equal(found.argmax(1), truth.argmax(1))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_scores_in_other_precisions(dtype):
    scores, masks = given(dtype=dtype)
    found = class_scores(scores, UpsampledLogits(masks, (40, 60)))
    assert torch.equal(found, expected(scores, masks, (40, 60)))


def test_scores_have_a_gradient_where_one_is_asked_for():
    scores, masks = given()
    grads = []
    for compute in (
        lambda x: class_scores(scores, UpsampledLogits(x, (24, 34))),
        lambda x: expected(scores, x, (24, 34)),
    ):
        leaf = masks.clone().requires_grad_()
        grads.append(torch.autograd.grad(compute(leaf).square().sum(), leaf)[0])
    assert torch.equal(*grads)


@pytest.mark.parametrize('elements', [1, 1 << 20])
@pytest.mark.parametrize('plain', [False, True])
def test_labels_are_those_of_the_scores(elements, plain, monkeypatch):
    """Where the best class leads by more than rounding, with a window and a second resizing."""
    for name in ('_CPU_ROW_ELEMENTS', '_ROW_ELEMENTS'):
        monkeypatch.setattr(class_maps, name, elements)
    scores, masks = given()
    window = slice(3, 45), slice(2, 60)
    for kept, size in ((None, None), (window, None), (window, (83, 40)), (None, (24, 150))):
        sums = expected(scores, masks, (48, 68))[(..., *kept)] if kept else expected(scores, masks, (48, 68))
        if size:
            sums = F.interpolate(sums, size, mode='bilinear', align_corners=False)
        best = sums[1].topk(2, 0).values
        sure = best[0] - best[1] > 1e-5
        resized = ResizedMasks(masks[1], [((48, 68), (48, 68))])
        if plain:
            with plain_path():
                labels = find_classes(resized, scores[1], kept, size)
        else:
            labels = find_classes(resized, scores[1], kept, size)
        assert labels.dtype == torch.int64
        assert sure.float().mean() > 0.99
        assert torch.equal(labels[sure], sums[1].argmax(0)[sure])


def test_labels_leave_the_logits_alone():
    scores, masks = given()
    before = masks.clone()
    find_classes(ResizedMasks(masks[0]), scores[0])
    assert torch.equal(masks, before)
