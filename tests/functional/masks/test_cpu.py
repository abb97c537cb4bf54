import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmplugins.functional.masks import cpu
from mmplugins.functional.masks.cpu import Resizer

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
@given(SIZE, SIZE, SIZE, SIZE, st.sampled_from([1, 64, 1 << 16]), st.sampled_from(['cpu', 'cuda']))
def test_equals_interpolate_and_its_gradient(height, width, full_height, full_width, block, way):
    """On the CPU, the way of the CPU and the way of other devices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, '_CPU_BLOCK', block)
        patch.setattr(cpu, '_COLUMNS', max(block // 8, 1))
        maps = torch.randn(2, height, width, requires_grad=True)
        resizer = Resizer((height, width), (full_height, full_width), maps.dtype, torch.device(way))
        expected = F.interpolate(maps[:, None], (full_height, full_width), mode='bilinear', align_corners=False)[:, 0]
        torch.testing.assert_close(up(resizer, maps.detach()), expected.detach(), rtol=1e-5, atol=1e-5)
        fields = torch.randn(3, *expected.shape)
        for found, field in zip(down(resizer, fields), fields, strict=True):
            (grad,) = torch.autograd.grad((expected * field).sum(), maps, retain_graph=True)
            torch.testing.assert_close(found, grad, rtol=1e-4, atol=1e-4)


def test_blocks_are_rows():
    resizer = Resizer((8, 8), (1024, 1024), torch.float32, torch.device('cpu'))
    assert len(resizer.blocks) == 16
    assert [block.start for block in resizer.blocks[:3]] == [0, 64, 128]
    assert resizer.blocks[-1].stop == 1024


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_equals_cpu():
    maps, fields = torch.randn(2, 8, 10), torch.randn(3, 2, 31, 45)
    resizers = [Resizer((8, 10), (31, 45), maps.dtype, torch.device(name)) for name in ('cpu', 'cuda')]
    torch.testing.assert_close(up(resizers[1], maps.cuda()).cpu(), up(resizers[0], maps), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(down(resizers[1], fields.cuda()).cpu(), down(resizers[0], fields), rtol=1e-4, atol=1e-4)
