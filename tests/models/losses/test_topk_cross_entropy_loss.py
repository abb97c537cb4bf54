import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub

from mmplugins.models.losses import TopKCrossEntropyLoss
from mmplugins.testing import assert_relative, load_golden
from mmplugins.testing.losses import LossContract
from tests.locations import golden_files


class TestContract(LossContract):
    loss_type = 'TopKCrossEntropyLoss'
    settings = dict(top_k_percent_pixels=0.3, hard_example_mining_step=0)


class TestContractAnnealed(LossContract):
    loss_type = 'TopKCrossEntropyLoss'
    settings = dict(hard_example_mining_step=100, class_weight=[1.0, 0.5, 2.0, 1.0, 3.0])
    call = dict(step=40)


@pytest.mark.parametrize('path', golden_files('aot_losses_*.npz'))
def test_golden(path):
    golden = load_golden(path)
    loss = TopKCrossEntropyLoss(
        top_k_percent_pixels=golden['top_k_percent_pixels'], hard_example_mining_step=golden['hard_example_mining_step']
    )
    samples = [(golden[f'logits{j}'].requires_grad_(), golden[f'label{j}']) for j in range(3)]
    values = torch.stack([loss(logits, label, step=golden['step']) for logits, label in samples])
    values.mean().backward()
    assert_relative(values, golden['loss_ce'], 1e-5, 'loss')
    for j, (logits, _) in enumerate(samples):
        assert_relative(logits.grad, golden[f'grad_ce{j}'], 1e-5, f'gradient of sample {j}')


def case():
    return TestContract().example()


def test_each_image_keeps_its_own_share():
    logits, label = case()
    loss = TopKCrossEntropyLoss(top_k_percent_pixels=0.3, hard_example_mining_step=0)
    one_by_one = torch.stack([loss(logits[i : i + 1], label[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(loss(logits, label), one_by_one.mean())
    kept = loss(logits, label, reduction_override='none') > 0
    assert kept.flatten(1).sum(1).tolist() == [int(0.3 * 63)] * 2


def test_everything_kept_is_cross_entropy_over_all_pixels():
    logits, label = case()
    expected = F.cross_entropy(logits, label, ignore_index=255, reduction='none').mean()
    torch.testing.assert_close(
        TopKCrossEntropyLoss(top_k_percent_pixels=1.0, hard_example_mining_step=0)(logits, label), expected
    )
    torch.testing.assert_close(
        TopKCrossEntropyLoss(top_k_percent_pixels=0.15, hard_example_mining_step=1000)(logits, label, step=0), expected
    )


def test_pixel_weight_comes_after_the_selection():
    logits, label = case()
    weight = torch.rand(label.shape, generator=torch.Generator().manual_seed(0))
    plain = TopKCrossEntropyLoss(top_k_percent_pixels=0.3, hard_example_mining_step=0)(
        logits, label, reduction_override='none'
    )
    expected = (plain * weight).sum() / (2 * int(0.3 * 63))
    torch.testing.assert_close(
        TopKCrossEntropyLoss(top_k_percent_pixels=0.3, hard_example_mining_step=0)(logits, label, weight=weight),
        expected,
    )


def test_class_weight_scales_before_the_selection():
    """Logits 0: every pixel loses ln 2; weights 1 and 3, so the one pixel kept is that of class 1: 3 ln 2."""
    logits, label = torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])
    value = TopKCrossEntropyLoss(top_k_percent_pixels=0.5, hard_example_mining_step=0, class_weight=[1.0, 3.0])(
        logits, label
    )
    assert float(value) == pytest.approx(3 * 0.6931472)


def test_step_comes_from_the_runner():
    logits, label = case()
    loss = TopKCrossEntropyLoss(top_k_percent_pixels=0.15, hard_example_mining_step=100)
    MessageHub.get_instance('test_step_without_a_runner')
    with pytest.raises(RuntimeError, match=r'pass step=<iteration> to the loss, or set hard_example_mining_step=0'):
        loss(logits, label)
    MessageHub.get_instance('test_step_in_a_runner').update_info('iter', 60)
    assert loss(logits, label) == loss(logits, label, step=60)
    assert loss(logits, label) != loss(logits, label, step=0)


@pytest.mark.slow
def test_annealing_does_not_compile_each_step_anew():
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    logits, label = case()
    loss = TopKCrossEntropyLoss(top_k_percent_pixels=0.15, hard_example_mining_step=100)
    compiled = torch.compile(loss, backend=count)
    for step in range(12):
        torch.testing.assert_close(compiled(logits, label, step=step), loss(logits, label, step=step))
        if step == 3:
            settled = len(graphs)
    assert len(graphs) == settled


def test_images_without_pixels():
    value = TopKCrossEntropyLoss(top_k_percent_pixels=0.15, hard_example_mining_step=0)(
        torch.zeros(2, 3, 0, 4), torch.zeros(2, 0, 4, dtype=torch.long)
    )
    assert float(value) == 0


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(top_k_percent_pixels=0.0), r'top_k_percent_pixels is a share in \(0, 1\], got 0.0'),
        (dict(top_k_percent_pixels=15), r'got 15; 0.15 is usual'),
        (dict(hard_example_mining_step=-1), 'hard_example_mining_step is a number of steps, 0 or more, got -1'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        TopKCrossEntropyLoss(**settings)


def test_bad_labels():
    logits, label = case()
    with pytest.raises(ValueError, match=r'labels hold 5 \(.* pixels\), but there are 5 classes'):
        TopKCrossEntropyLoss(top_k_percent_pixels=0.3, hard_example_mining_step=0)(
            logits, label.masked_fill(label == 0, 5)
        )


def test_one_channel_is_refused():
    """Its softmax is 1: loss and gradient would be 0 for ever, whatever the labels."""
    label = torch.zeros(2, 4, 5, dtype=torch.long)
    with pytest.raises(ValueError, match=r'two classes or more, got \(2, 1, 4, 5\).* num_classes=2 .*StructureLoss'):
        TopKCrossEntropyLoss(hard_example_mining_step=0)(torch.randn(2, 1, 4, 5), label)
