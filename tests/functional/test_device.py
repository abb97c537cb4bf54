import re

import pytest
import torch

from mmplugins.functional.device import (
    DeferredReads,
    cpu_kernels,
    empty_buffer,
    full_precision,
    plain_path,
    upload,
    zeros_buffer,
)
from tests.locations import ROOT

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


def test_one_switch_chooses_the_plain_path():
    assert cpu_kernels(CPU)
    assert cpu_kernels(torch.zeros(1))
    assert not cpu_kernels(torch.device('meta'))
    with plain_path():
        assert not cpu_kernels(CPU)
        with plain_path():
            pass
        assert not cpu_kernels(CPU)
    assert cpu_kernels(CPU)


def test_precision_of_the_losses():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        expected = torch.float64 if dtype == torch.float64 else torch.float32
        assert full_precision(torch.zeros(1, dtype=dtype)).dtype == expected


def test_upload_copies_what_is_not_there():
    values = torch.arange(3)
    assert upload(values, CPU) is values
    there = upload(values, torch.device('meta'))
    assert there.device.type == 'meta'
    assert upload(there, torch.device('meta')) is there


def test_on_the_cpu_a_reader_runs_at_once():
    reads, seen = DeferredReads(), []
    assert reads.push(torch.tensor(3), lambda value: seen.append(int(value)))
    assert seen == [3]
    assert len(reads) == 0


def test_the_documentation_lists_every_module_that_asks_the_switch():
    """No other module looks at a device's type, but for those that copy; operators have block sizes of their own."""
    text = (ROOT / 'docs' / 'architecture.md').read_text()
    section = text.split('## Where the CPU goes its own way')[1].split('## ')[0]
    listed = {
        f'mmplugins/{name}'
        for line in section.splitlines()
        for name in re.findall(r'`([\w/]+\.py)`', line)
        if '|' in line
    }
    asking, looking = set(), set()
    for path in (ROOT / 'mmplugins').rglob('*.py'):
        source, name = path.read_text(), path.relative_to(ROOT).as_posix()
        if '.mim' in name or name.startswith('mmplugins/ops/'):
            continue
        if re.search(r'\bcpu_kernels\(', source.replace('def cpu_kernels(', '')):
            asking.add(name)
        if re.search(r'device\.type [!=]=', source):
            looking.add(name)
    assert asking == listed
    assert looking == {
        'mmplugins/functional/device.py',
        'mmplugins/functional/sets/matching.py',  # what is on the host already is not copied there
        'mmplugins/functional/sets/pairs.py',  # an error
    }
