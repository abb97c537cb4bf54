import pytest
import torch

from mmplugins.functional.device import empty_buffer, zeros_buffer

CPU = torch.device('cpu')


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('shape', [(3, 4), (3, 1 << 21), (0, 5), (1 << 22,)])
def test_shapes_and_dtypes(shape, dtype):
    for make in (empty_buffer, zeros_buffer):
        buffer = make(shape, dtype, CPU)
        assert buffer.shape == shape
        assert buffer.dtype == dtype
        assert buffer.is_contiguous()
    assert torch.count_nonzero(buffer) == 0
    buffer.add_(1)
    assert (buffer == 1).all()


def test_a_buffer_outlives_its_maker_and_is_a_gradient_like_any():
    leaf = torch.zeros(2000, 1000, requires_grad=True)
    leaf.backward(zeros_buffer(leaf.shape, leaf.dtype, CPU) + 1)
    part = zeros_buffer((2000, 1000), torch.float32, CPU)[7]
    assert torch.equal(part + 1, leaf.grad[7])
