"""The contract of a loss, as a test class: subclass it, say what to build and on what, and pytest runs the slots."""

import pytest
import torch
from torch import Tensor

from mmplugins.registry import MODELS

from .values import assert_relative


class LossContract:
    """Tests that every registered loss must pass.

    Attributes:
        loss_type: Registered name, without the scope.
        settings: Constructor arguments under which the contract holds.
        call: Arguments of every call, beside prediction and target.
    """

    loss_type: str
    settings: dict = {}
    call: dict = {}

    def example(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Returns a small prediction and a target with some ignored pixels; deterministic."""
        generator = torch.Generator().manual_seed(0)
        logits = 2 * torch.randn(2, 5, 7, 9, generator=generator, dtype=torch.float64)
        label = torch.randint(0, 5, (2, 7, 9), generator=generator)
        label[:, :2, 3:] = 255
        return logits.to(dtype), label

    def ignored(self, target: Tensor) -> Tensor:
        """Returns a target of which every pixel is ignored."""
        return torch.full_like(target, 255)

    def build(self, **settings):
        """Builds the loss through the registry."""
        return MODELS.build({'type': f'mmplugins.{self.loss_type}', **self.settings, **settings})

    def run(self, loss, pred: Tensor, target: Tensor, **call) -> Tensor:
        """Calls the loss."""
        return loss(pred, target, **{**self.call, **call})

    def test_smoke(self):
        pred, target = self.example()
        pred.requires_grad_()
        value = self.run(self.build(), pred, target)
        value.backward()
        assert value.shape == ()
        assert value.dtype == torch.float32
        assert value > 0
        assert torch.isfinite(pred.grad).all()
        assert pred.grad.abs().sum() > 0

    def test_name_and_weight(self):
        pred, target = self.example()
        one = self.run(self.build(), pred, target)
        three = self.run(self.build(loss_weight=3.0), pred, target)
        torch.testing.assert_close(three, 3 * one)
        assert self.build().loss_name.startswith('loss_')
        assert self.build(loss_name='loss_mine').loss_name == 'loss_mine'

    def test_reductions(self):
        pred, target = self.example()
        loss = self.build()
        elements = self.run(loss, pred, target, reduction_override='none')
        total = self.run(loss, pred, target, reduction_override='sum')
        mean = self.run(loss, pred, target)
        torch.testing.assert_close(elements.sum(), total)
        torch.testing.assert_close(self.run(loss, pred, target, avg_factor=7.0), total / 7)
        assert elements.dim() >= 1
        assert float(mean) != float(total)
        with pytest.raises(ValueError, match='reduction must be one of'):
            self.run(loss, pred, target, reduction_override='average')
        with pytest.raises(ValueError, match='avg_factor divides a mean'):
            self.run(loss, pred, target, reduction_override='sum', avg_factor=7.0)

    @pytest.mark.parametrize('reduction', ['mean', 'sum', 'none'])
    def test_reduction_is_a_setting(self, reduction):
        pred, target = self.example()
        value = self.run(self.build(reduction=reduction), pred, target)
        assert torch.equal(value, self.run(self.build(), pred, target, reduction_override=reduction))
        other = 'sum' if reduction == 'mean' else 'mean'
        overridden = self.run(self.build(reduction=other), pred, target, reduction_override=reduction)
        assert torch.equal(overridden, value)
        assert f"reduction='{reduction}'" in repr(self.build(reduction=reduction))

    def test_unknown_reduction_raises_when_built(self):
        with pytest.raises(ValueError, match=r"reduction must be one of .*, got 'average'"):
            self.build(reduction='average')

    def test_stands_beside_others(self):
        pred, target = self.example()
        loss = self.build()
        weight = torch.ones(target.shape[0], *target.shape[-2:])
        value = self.run(loss, pred, target, weight=weight, ignore_index=255, an_argument_of_another_loss=1)
        torch.testing.assert_close(value, self.run(loss, pred, target))

    def test_zero_weight_gives_zero(self):
        pred, target = self.example()
        pred.requires_grad_()
        value = self.run(self.build(), pred, target, weight=torch.zeros(target.shape[0], *target.shape[-2:]))
        value.backward()
        assert float(value) == 0
        assert torch.count_nonzero(pred.grad) == 0

    def test_everything_ignored_is_zero_and_attached(self):
        pred, target = self.example()
        pred.requires_grad_()
        value = self.run(self.build(), pred, self.ignored(target), ignore_index=255)
        assert float(value) == 0
        assert value.requires_grad
        value.backward()
        assert torch.count_nonzero(pred.grad) == 0
        assert torch.isfinite(pred.grad).all()

    @pytest.mark.parametrize('avg_factor', [0.0, torch.tensor(0.0)])
    def test_everything_ignored_stays_zero_under_an_average_factor_of_zero(self, avg_factor):
        pred, target = self.example()
        assert float(self.run(self.build(), pred, self.ignored(target), ignore_index=255, avg_factor=avg_factor)) == 0

    def test_nan_logits_give_nan(self):
        pred, target = self.example()
        pred[0, :, 5, 1] = float('nan')
        assert torch.isnan(self.run(self.build(), pred, target))

    def test_gradcheck(self):
        pred, target = self.example(torch.float64)
        loss = self.build()
        assert torch.autograd.gradcheck(lambda x: self.run(loss, x, target), pred.requires_grad_())

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_logits_are_computed_in_float32(self, dtype):
        pred, target = self.example(dtype)
        pred.requires_grad_()
        expected = self.run(self.build(), pred.detach().float(), target)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            value = self.run(self.build(), pred, target)
            value.backward()
        assert value.dtype == torch.float32
        assert pred.grad.dtype == dtype
        torch.testing.assert_close(value, expected, rtol=0, atol=0)
        exact = pred.detach().float().requires_grad_()
        self.run(self.build(), exact, target).backward()
        torch.testing.assert_close(pred.grad, exact.grad.to(dtype), rtol=0, atol=0)

    def test_large_images_are_summed_exactly(self):
        pred, target = (x.repeat(1, *[1] * (x.dim() - 3), 40, 40) for x in self.example())
        value = self.run(self.build(), pred.requires_grad_(), target)
        expected = self.run(self.build(), exact := pred.detach().double().requires_grad_(), target)
        assert_relative(value, float(expected), 1e-5, 'loss')
        (grad,), (exact_grad,) = torch.autograd.grad(value, pred), torch.autograd.grad(expected, exact)
        assert_relative(grad, exact_grad, 1e-5, 'gradient')

    def test_integer_logits_raise(self):
        pred, target = self.example()
        with pytest.raises(TypeError, match='must be floating-point logits'):
            self.run(self.build(), pred.long(), target)

    def test_input_is_left_alone(self):
        pred, target = self.example()
        pred_before, target_before = pred.clone(), target.clone()
        self.run(self.build(), pred, target)
        assert torch.equal(pred, pred_before)
        assert torch.equal(target, target_before)

    @pytest.mark.slow
    def test_compiled_equals_eager(self):
        pred, target = self.example()
        pred.requires_grad_()
        loss = self.build()
        expected = self.run(loss, pred, target)
        (expected_grad,) = torch.autograd.grad(expected, pred)
        torch._dynamo.reset()
        value = self.run(torch.compile(loss), pred, target)
        (grad,) = torch.autograd.grad(value, pred)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(grad, expected_grad)

    @pytest.mark.cuda
    @pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
    def test_cuda_equals_cpu(self):
        pred, target = self.example()
        loss = self.build()
        expected = self.run(loss, pred.requires_grad_(), target)
        (expected_grad,) = torch.autograd.grad(expected, pred)
        on_device, target, loss = pred.detach().cuda().requires_grad_(), target.cuda(), loss.cuda()
        self.run(loss, on_device, target)  # the first call may set something up
        torch.cuda.set_sync_debug_mode('error')  # a step never waits for the device
        try:
            value = self.run(loss, on_device, target)
            (grad,) = torch.autograd.grad(value, on_device)
        finally:
            torch.cuda.set_sync_debug_mode('default')
        torch.testing.assert_close(value.cpu(), expected)
        torch.testing.assert_close(grad.cpu(), expected_grad)
