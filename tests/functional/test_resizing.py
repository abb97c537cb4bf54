import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmplugins.functional import resizing
from mmplugins.functional.resizing import BandedResizer, PlainResizer

SIZE = st.integers(1, 40)


def up(resizer, maps):
    wide = resizer.widen(maps)
    return torch.cat([resizer.rows(wide, block) for block in range(len(resizer.blocks))], 1)


def down(resizer, fields):
    total = None
    for number, rows in enumerate(resizer.blocks):
        total = resizer.add_rows(total, [field[:, rows] for field in fields], number)
    return resizer.narrow(total)


@settings(max_examples=60, deadline=None)
@given(SIZE, SIZE, SIZE, SIZE, st.sampled_from([1, 64, 1 << 16]), st.sampled_from([BandedResizer, PlainResizer]))
def test_equals_interpolate_and_its_gradient(height, width, full_height, full_width, block, kind):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resizing, '_PIXELS', block)
        patch.setattr(resizing, '_COLUMNS', max(block // 8, 1))
        maps = torch.randn(2, height, width, requires_grad=True)
        resizer = kind((height, width), (full_height, full_width), maps.dtype)
        expected = F.interpolate(maps[:, None], (full_height, full_width), mode='bilinear', align_corners=False)[:, 0]
        torch.testing.assert_close(up(resizer, maps.detach()), expected.detach(), rtol=1e-5, atol=1e-5)
        fields = torch.randn(3, *expected.shape)
        for found, field in zip(down(resizer, fields), fields, strict=True):
            (grad,) = torch.autograd.grad((expected * field).sum(), maps, retain_graph=True)
            torch.testing.assert_close(found, grad, rtol=1e-4, atol=1e-4)


def test_blocks_are_rows():
    resizer = BandedResizer((8, 8), (1024, 1024), torch.float32)
    assert len(resizer.blocks) == 16
    assert [block.start for block in resizer.blocks[:3]] == [0, 64, 128]
    assert resizer.blocks[-1].stop == 1024


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_equals_cpu():
    maps, fields = torch.randn(2, 8, 10), torch.randn(3, 2, 31, 45)
    resizers = [kind((8, 10), (31, 45), maps.dtype) for kind in (BandedResizer, PlainResizer)]
    torch.testing.assert_close(up(resizers[1], maps.cuda()).cpu(), up(resizers[0], maps), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(down(resizers[1], fields.cuda()).cpu(), down(resizers[0], fields), rtol=1e-4, atol=1e-4)
