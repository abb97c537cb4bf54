import pytest
import torch

from mmplugins.functional.checks.sets import check_objects, check_outputs, join_objects
from mmplugins.functional.device import DeferredReads

LOGITS = torch.zeros(2, 2, 5, 4)
NAMES = ['a.jpg', 'b.jpg']


def target(labels: list[int], boxes: list[list[float]] | None = None) -> dict:
    boxes = boxes or [[0.5, 0.5, 0.2, 0.2]] * len(labels)
    return {'labels': torch.tensor(labels, dtype=torch.int64), 'boxes': torch.tensor(boxes).reshape(-1, 4)}


def outputs(**change) -> dict:
    return {'logits': LOGITS, 'boxes': torch.zeros(2, 2, 5, 4), 'masks': torch.zeros(2, 2, 5, 8, 8), **change}


def join(*targets, needed=('labels', 'boxes')):
    return join_objects(targets, needed, LOGITS, NAMES)


def test_good_outputs_pass():
    needed = ['logits', 'boxes', 'masks']
    given = outputs()
    assert all(value is given[key] for key, value in check_outputs(given, needed, 3).items())
    assert list(check_outputs(given, ['logits'], 3)) == ['logits']
    half = {key: value.half() for key, value in given.items()}
    assert [value.dtype for value in check_outputs(half, needed, 3).values()] == [*2 * [torch.float32], torch.float16]
    layers = list(given['masks'])
    assert check_outputs(outputs(masks=layers), needed, 3)['masks'] is layers
    assert check_outputs(outputs(masks=layers[1]), needed, 3, 'last')['masks'].shape == (1, 2, 5, 8, 8)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'logits': torch.zeros(2, 5, 4)}, r'expected logits \(L, B, Q, 4\): 3 classes and no-object'),
        ({'logits': torch.zeros(2, 2, 5, 3)}, r'got \(2, 2, 5, 3\); for a single layer add an axis, .* num_classes'),
        ({'logits': torch.zeros(2, 0, 5, 4)}, r'L and B at least 1, got \(2, 0, 5, 4\)'),
        ({'boxes': torch.zeros(2, 2, 6, 4)}, r'expected boxes \(L, B, Q, 4\) .* got \(2, 2, 6, 4\)'),
        (
            {'masks': torch.zeros(2, 6, 8, 8)},
            r'expected masks \(L, B, Q, h, w\), or .* got 1 layers of \[\(2, 6, 8, 8\)\]',
        ),
        (
            {'masks': torch.zeros(2, 5, 8, 8)},
            r"mask_layers='all' needs the masks of 2 layers, got those of 1; give all",
        ),
        ({'masks': [torch.zeros(2, 5, 8, 8)] * 3}, r"mask_layers='all' needs the masks of 2 layers, got those of 3"),
    ],
)
def test_wrong_outputs_raise(change, message):
    with pytest.raises(ValueError, match=message):
        check_outputs(outputs(**change), ['logits', 'boxes', 'masks'], 3)


def test_missing_and_integer_outputs_raise():
    with pytest.raises(ValueError, match=r"outputs lack 'boxes', got \['logits'\]; give the prediction"):
        check_outputs({'logits': LOGITS}, ['logits', 'boxes'], 3)
    with pytest.raises(TypeError, match=r"outputs\['boxes'\] must be floating, got torch.int64"):
        check_outputs(outputs(boxes=torch.zeros(2, 2, 5, 4, dtype=torch.int64)), ['logits', 'boxes'], 3)


def test_objects_are_joined():
    found = join(target([2, 0]), target([]))
    assert found.labels.tolist() == [2, 0]
    assert found.boxes.shape == (2, 4)
    assert found.counts == [2, 0]
    assert join(target([2]), target([1]), needed=('labels',)).boxes is None


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'labels': torch.tensor([[1]])}, r'labels of b.jpg must be class indices \(G,\), got torch.int64 \(1, 1\)'),
        ({'boxes': torch.zeros(2, 4)}, r'expected boxes \(G, 4\) with G=1 as the labels of b.jpg, got .*2, 4'),
        ({'boxes': torch.zeros(1, 5)}, r'expected boxes \(G, 4\) with G=1'),
        ({'masks': torch.zeros(1, 4)}, r'expected masks \(G, H, W\) with G=1'),
    ],
)
def test_wrong_shapes_raise(wrong, message):
    with pytest.raises(ValueError, match=message):
        join(
            {**target([1]), 'masks': torch.zeros(1, 8, 8)}, {**target([1]), **wrong}, needed=('labels', 'boxes', *wrong)
        )


def test_misuse_raises():
    with pytest.raises(ValueError, match='expected a target for each of 2 images, got 1'):
        join(target([1]))
    with pytest.raises(ValueError, match=r"the target of a.jpg lacks 'boxes', got \['labels'\]; an image without"):
        join({'labels': torch.tensor([1])}, target([1]))
    with pytest.raises(TypeError, match=r'labels of a.jpg must be class indices .* got torch.float32'):
        join({**target([1]), 'labels': torch.tensor([1.0])}, target([1]))
    with pytest.raises(ValueError, match=r"'boxes' of b.jpg are on meta, the predictions on cpu; move the targets"):
        join(target([1]), {**target([1]), 'boxes': torch.zeros(1, 4, device='meta')})


def test_good_objects_pass_unchanged():
    objects = join(target([2, 0], [[0.5, 0.5, 0, 0], [1.2, -0.3, 1, 0.1]]), target([]))
    found = check_objects(objects, 3, NAMES, DeferredReads())
    assert found is objects
    empty = join(target([]), target([]))
    assert check_objects(empty, 3, NAMES, DeferredReads()) is empty


@pytest.mark.parametrize('label', [3, -1])
def test_wrong_label_raises_with_the_image(label):
    objects = join(target([1, 2]), target([0, label]))
    message = rf'object 1 of b.jpg has the label {label}, but there are 3 classes, so labels must lie in 0..2'
    with pytest.raises(ValueError, match=message):
        check_objects(objects, 3, NAMES, DeferredReads())


@pytest.mark.parametrize(
    ('box', 'shown'),
    [
        ([0.5, 0.5, float('nan'), 0.1], r'0.5, 0.5, nan, 0.1'),
        ([0.5, float('inf'), 0.1, 0.1], r'0.5, inf, 0.1, 0.1'),
        ([0.5, 0.5, -0.1, 0.1], r'0.5, 0.5, -0.1, 0.1'),
        ([320, 240, 64, 48], r'320, 240, 64, 48'),
    ],
)
def test_wrong_box_raises_with_the_image(box, shown):
    objects = join(target([]), target([0, 1], [[0.5, 0.5, 1, 1], box]))
    message = rf'object 1 of b.jpg has the box \(cx, cy, w, h\) = \({shown}\); it must be finite, .* units of the image'
    with pytest.raises(ValueError, match=message):
        check_objects(objects, 3, NAMES, DeferredReads())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_on_the_device_errors_come_later_and_nothing_fails_before():
    objects = join(target([1, 7], [[0.5, 0.5, 1, 1], [0.5, 0.5, -1, 1]]), target([]))
    reads = DeferredReads()
    found = check_objects(type(objects)(objects.labels.cuda(), objects.boxes.cuda(), objects.counts), 3, NAMES, reads)
    assert found.labels.tolist() == [1, 3]
    assert found.boxes[1].tolist() == [0.5, 0.5, 0, 0]
    with pytest.raises(ValueError, match=r'object 1 of a.jpg has the label 7'):
        reads.flush()
