"""What the losses on binary masks must pass beside the contract of every loss."""

import pytest
import torch

from mmplugins.testing.losses import LossContract


class RegionLossContract(LossContract):
    def example(self, dtype=torch.float32):
        generator = torch.Generator().manual_seed(0)
        logits = 2 * torch.randn(2, 1, 7, 9, generator=generator, dtype=torch.float64)
        mask = torch.zeros(2, 7, 9, dtype=torch.int64)
        mask[:, 3:6, 1:5] = 1
        mask[0, :2, 3:] = 255
        return logits.to(dtype), mask

    @pytest.mark.parametrize('dtype', [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32])
    @pytest.mark.parametrize('channel', [False, True])
    def test_mask_dtypes_and_channel_axis(self, dtype, channel):
        logits, mask = self.example()
        mask = mask.clamp(max=1)
        expected = self.run(self.build(), logits, mask)
        mask = mask[:, None] if channel else mask
        assert self.run(self.build(), logits, mask.to(dtype)) == expected

    def test_soft_masks_lie_between(self):
        logits, mask = self.example()
        mask = mask.clamp(max=1).float()
        logits = 3 * (2 * mask - 1)[:, None]
        values = [float(self.run(self.build(), logits, (1 - s) * mask + s * (1 - mask))) for s in (0, 0.25, 0.5, 1)]
        assert values == sorted(values)
        assert values[0] < values[-1] - 1e-1

    def test_ignored_predictions_change_nothing(self):
        logits, mask = self.example()
        logits.requires_grad_()
        value = self.run(self.build(), logits, mask)
        (grad,) = torch.autograd.grad(value, logits)
        ignored = (mask == 255)[:, None]
        assert torch.count_nonzero(grad[ignored]) == 0
        for other in (1e4, float('inf'), float('nan')):
            changed = logits.detach().masked_fill(ignored, other).requires_grad_()
            again = self.run(self.build(), changed, mask)
            assert again == value
            assert torch.equal(torch.autograd.grad(again, changed)[0], grad)

    def test_weight_zero_is_ignored(self):
        logits, mask = self.example()
        expected = self.run(self.build(), logits, mask)
        weight = (mask != 255).float()
        torch.testing.assert_close(self.run(self.build(), logits, mask.clamp(max=1) * weight, weight=weight), expected)

    def test_padding_with_ignored_pixels_changes_nothing(self):
        logits, mask = self.example()
        pad = (0, 4, 0, 3)
        logits_padded = torch.nn.functional.pad(logits, pad, value=5.0)
        mask_padded = torch.nn.functional.pad(mask, pad, value=255)
        torch.testing.assert_close(
            self.run(self.build(), logits_padded, mask_padded), self.run(self.build(), logits, mask)
        )

    @pytest.mark.parametrize('foreground', [0, 1])
    @pytest.mark.parametrize('logit', [-1e4, 1e4])
    def test_empty_and_full_masks_stay_finite(self, foreground, logit):
        logits = torch.full((2, 1, 7, 9), logit, requires_grad=True)
        value = self.run(self.build(), logits, torch.full((2, 7, 9), foreground))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(logits.grad).all()

    def test_wrong_masks_raise(self):
        logits, mask = self.example()
        mask = mask.clamp(max=1)
        with pytest.raises(ValueError, match=r'hold 0 and 255 but no 1.*threshold'):
            self.run(self.build(), logits, (255 * mask).to(torch.uint8))
        with pytest.raises(ValueError, match=r'must lie in \[0, 1\], got 0 to 255.*divide'):
            self.run(self.build(), logits, 255.0 * mask)
        with pytest.raises(ValueError, match=r'must hold 0 and 1, got 0, 255'):
            self.run(self.build(ignore_index=None), logits, 255 * mask)
        with pytest.raises(ValueError, match='resize the logits to the size of the mask'):
            self.run(self.build(), logits, mask[:, :4])
        with pytest.raises(ValueError, match='give the head out_channels=1'):
            self.run(self.build(), logits.expand(2, 2, 7, 9), mask)
        with pytest.raises(ValueError, match=r'expected a weight for each pixel, \(2, 7, 9\), got \(7, 9\)'):
            self.run(self.build(), logits, mask, weight=torch.ones(7, 9))

    @pytest.mark.parametrize('shape', [(2, 0, 9), (2, 7, 0), (0, 7, 9)])
    def test_images_without_pixels_have_no_loss(self, shape):
        """Fuzzing found 1, the soft IoU loss of an empty mask."""
        logits = torch.zeros(shape[0], 1, *shape[1:], requires_grad=True)
        value = self.run(self.build(), logits, torch.zeros(shape, dtype=torch.bool))
        assert float(value) == 0
        value.backward()
