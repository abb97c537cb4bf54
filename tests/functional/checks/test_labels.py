import copy
import pickle

import pytest
import torch

from mmplugins.functional.checks.labels import check_label_range, check_label_shape, check_weight_shape
from mmplugins.functional.device import DeferredReads


def test_shapes():
    logits = torch.zeros(2, 3, 4, 5)
    check_label_shape(logits, torch.zeros(2, 4, 5, dtype=torch.uint8))
    for shape in [(2, 1, 4, 5), (2, 4, 4), (1, 4, 5)]:
        with pytest.raises(ValueError, match=r'expected logits \(N, C, H, W\) and labels \(N, H, W\), got \(2, 3, 4'):
            check_label_shape(logits, torch.zeros(shape, dtype=torch.long))
    with pytest.raises(ValueError, match=r'two classes or more, got \(2, 1, 4, 5\): the softmax over one channel is 1'):
        check_label_shape(logits[:, :1], torch.zeros(2, 4, 5, dtype=torch.long))
    with pytest.raises(TypeError, match=r'labels must be integers \(class indices\), got torch.float32'):
        check_label_shape(logits, torch.zeros(2, 4, 5))
    check_weight_shape(None, torch.zeros(2, 4, 5))
    with pytest.raises(ValueError, match=r'expected a weight for each pixel, \(2, 4, 5\), got \(2, 5\)'):
        check_weight_shape(torch.zeros(2, 5), torch.zeros(2, 4, 5))


def test_range_accepts_classes_and_ignored():
    label = torch.tensor([[0, 2, 255]])
    assert check_label_range(label, 3, 255, DeferredReads()) is label
    assert check_label_range(label[:, :0], 3, 255, DeferredReads()).numel() == 0


def test_range_names_the_values():
    label = torch.tensor([[0, 3, 255, -1, 7, 7]])
    message = r'labels hold -1, 3, 7 \(4 pixels\), but there are 3 classes, so labels must lie in 0..2 or be ignore_ind'
    with pytest.raises(ValueError, match=message):
        check_label_range(label, 3, 255, DeferredReads())
    with pytest.raises(ValueError, match=r'labels hold 255 \(1 pixels\)'):
        check_label_range(label.clamp(0, 255)[:, 2:3], 3, -100, DeferredReads())
    with pytest.raises(ValueError, match=r'10, 11, 12, \.\.\. \(97 pixels\)'):
        check_label_range(torch.arange(3, 100), 3, 255, DeferredReads())


class FakeEvent:
    """Stands for a CUDA event: what was queued arrives when the test says so."""

    def __init__(self):
        self.arrived = False

    def query(self):
        return self.arrived

    def synchronize(self):
        self.arrived = True


def test_reads_wait_for_arrival_and_keep_order():
    reads, seen, events = DeferredReads(max_pending=2), [], [FakeEvent() for _ in range(3)]
    for i, event in enumerate(events):
        reads._pending.append((event, torch.tensor(i), lambda value: seen.append(int(value))))
    events[1].arrived = True
    reads.poll()  # three are pending, two may be: the oldest is waited for, the second has arrived
    assert seen == [0, 1]
    assert len(reads) == 1
    events[2].arrived = True
    reads.poll()
    assert seen == [0, 1, 2]


def test_flush_waits_for_all():
    reads, seen = DeferredReads(), []
    for i in range(3):
        reads._pending.append((FakeEvent(), torch.tensor(i), lambda value: seen.append(int(value))))
    reads.flush()
    assert seen == [0, 1, 2]
    assert len(reads) == 0


def test_reads_on_the_cpu_are_immediate():
    reads, seen = DeferredReads(), []
    reads.push(torch.tensor(3.0, requires_grad=True), lambda value: seen.append(value.item()))
    assert seen == [3.0]
    assert len(reads) == 0


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda reads: pickle.loads(pickle.dumps(reads))])
def test_reads_are_not_copied_with_a_model(duplicate):
    reads = DeferredReads(max_pending=5)
    reads._pending.append((FakeEvent(), torch.tensor(1), print))
    assert len(duplicate(reads)) == 0
    assert duplicate(reads).max_pending == 5


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_range_on_cuda_raises_later_and_never_syncs():
    reads = DeferredReads()
    label = torch.tensor([[0, 3, 255]], device='cuda')
    torch.cuda.set_sync_debug_mode('error')
    try:
        safe = check_label_range(label, 3, 255, reads)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert safe.tolist() == [[0, 255, 255]]
    torch.cuda.synchronize()
    with pytest.raises(ValueError, match=r'labels hold 3 \(1 pixels\)'):
        check_label_range(label.clamp(max=2), 3, 255, reads)
