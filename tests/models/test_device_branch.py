"""The branch that devices take, without a device: whole steps of heads and criteria on torch's 'meta'.

A meta tensor has a shape and no values: whatever reads one on the host raises, as it would wait on CUDA, and so does an
operator between tensors of two devices. What a step is allowed to bring to the host is patched to bring zeros. The
values of the plain path are tested elsewhere, on the CPU.
"""

import copy

import numpy as np
import pytest
import torch

from mmplugins.functional import device as device_module
from mmplugins.registry import MODELS, TASK_UTILS
from tests.models.losses.set_scenes import hungarian, scene, total

META = torch.device('meta')
MASK_COSTS = [
    dict(type='mmplugins.ClassificationCost', weight=2.0),
    dict(type='mmplugins.CrossEntropyLossCost', weight=5.0),
    dict(type='mmplugins.FocalLossCost', binary_input=True),
    dict(type='mmplugins.DiceCost', pred_act=True, eps=1.0, weight=5.0),
]


@pytest.fixture
def transfers(monkeypatch):
    """Lets costs and classes come to the host as zeros, and checks nothing at once; counts what comes and goes."""
    from mmplugins.models.task_modules.assigners import batch_hungarian_assigner as assigner

    seen = {'costs': 0, 'checks': 0, 'uploads': 0}

    def to_host(blocks):
        assert all(block.device == META for block in blocks)
        seen['costs'] += 1
        return [np.zeros(tuple(block.shape), np.float32) for block in blocks]

    def push(reads, value, reader):
        assert value.device == META
        seen['checks'] += 1
        return False

    monkeypatch.setattr(assigner, 'to_host', to_host)
    monkeypatch.setattr(device_module.DeferredReads, 'push', push)
    original = torch.Tensor.to

    def count(tensor, *args, **kwargs):
        moved = original(tensor, *args, **kwargs)
        if moved.device != tensor.device:
            assert (tensor.device.type, moved.device.type) == ('cpu', 'meta')
            seen['uploads'] += 1
        return moved

    monkeypatch.setattr(torch.Tensor, 'to', count)
    return seen


def on_device(tree):
    """Copies a structure of tensors to the device, without what the fixture counts."""
    if isinstance(tree, torch.Tensor):
        return torch.empty_like(tree, device=META, requires_grad=tree.requires_grad)
    if isinstance(tree, dict):
        return {name: on_device(value) for name, value in tree.items()}
    return [on_device(value) for value in tree]


def backward(losses, leaves):
    assert all(value.device == META for value in losses.values())
    for grad, leaf in zip(torch.autograd.grad(total(losses), leaves), leaves, strict=True):
        assert grad.device == META
        assert grad.shape == leaf.shape


@pytest.mark.parametrize('counts', [(3, 0, 1), (0, 0)])
def test_criterion_of_boxes(transfers, counts):
    outputs, targets = scene(counts)
    criterion = MODELS.build(dict(type='mmplugins.SetCriterion', num_classes=4, assigner=hungarian())).to(META)
    outputs, transfers['uploads'] = on_device(outputs), 0
    backward(criterion(outputs, on_device(targets)), list(outputs.values()))
    assert transfers == {'costs': 1, 'checks': int(sum(counts) > 0), 'uploads': 1}  # the matched pairs, in one copy


@pytest.mark.parametrize('counts', [(3, 0, 1), (0, 0)])
@pytest.mark.parametrize('ignore', [False, True])
@pytest.mark.parametrize('as_list', [False, True])
@pytest.mark.parametrize('mask_layers', ['all', 'last'])
@pytest.mark.parametrize(
    'mask_loss', [dict(type='mmplugins.PointSampledMaskLoss', num_points=20), dict(type='mmplugins.DenseMaskLoss')]
)
def test_criterion_of_masks(transfers, counts, ignore, as_list, mask_layers, mask_loss):
    outputs, targets = scene(counts)
    del outputs['boxes']
    for target in targets:
        target['masks'] = torch.zeros(len(target.pop('boxes')), 16, 24, dtype=torch.bool)
        if ignore:
            target['valid'] = torch.ones(16, 24, dtype=torch.bool)
    outputs['masks'] = torch.zeros(2, len(counts), 6, 8, 12, requires_grad=True)
    settings = dict(losses=('labels', 'masks'), mask_layers=mask_layers, mask_loss=mask_loss)
    costs = MASK_COSTS if mask_layers == 'all' else MASK_COSTS[:1]
    criterion = MODELS.build(
        dict(type='mmplugins.SetCriterion', num_classes=4, assigner=hungarian(*costs), **settings)
    ).to(META)
    outputs, transfers['uploads'] = on_device(outputs), 0
    given = {**outputs, 'masks': list(outputs['masks'])} if as_list else outputs
    backward(criterion(given, on_device(targets)), list(outputs.values()))
    assert transfers['costs'] == 1
    assert transfers['uploads'] == 1


def test_assigner(transfers):
    from mmengine.structures import InstanceData

    assigner = TASK_UTILS.build(hungarian())
    scores, boxes = torch.zeros(2, 6, 5, device=META), torch.zeros(2, 6, 4, device=META)
    found = InstanceData(labels=torch.zeros(3, dtype=torch.int64, device=META), bboxes=torch.zeros(3, 4, device=META))
    meta = {'img_shape': (10, 10)}
    pairs = assigner.assign_batch([InstanceData(scores=scores, bboxes=boxes)], [found], [meta])
    assert [[len(query) for query, _ in layer] for layer in pairs] == [[3], [3]]
    pytest.importorskip('mmdet', reason='assign returns its AssignResult')
    result = assigner.assign(InstanceData(scores=scores[0], bboxes=boxes[0]), found, meta)
    assert result.gt_inds.device == result.labels.device == META
    assert transfers == {'costs': 2, 'checks': 0, 'uploads': 1}


def test_detr_head(transfers):
    pytest.importorskip('mmdet', reason='the head stands on that of mmdet')
    from tests.models.dense_heads.detr_models import batch, our_head, toolbox_head

    head = our_head(toolbox_head()).to(META)
    hidden, instances, metas = batch((3, 0, 2))
    hidden, instances, transfers['uploads'] = on_device(hidden), [one.to('meta') for one in instances], 0
    losses = head.loss_by_feat(*head(hidden.requires_grad_()), instances, metas)
    backward(losses, [hidden])
    assert transfers == {'costs': 1, 'checks': 1, 'uploads': 2}  # sizes of the images, and the pairs


@pytest.mark.parametrize('ignore_aware', [False, True])
@pytest.mark.parametrize('model', ['Mask2Former', 'MaskFormer'])
@pytest.mark.parametrize('semantic', [False, True])
def test_mask_heads(transfers, monkeypatch, model, semantic, ignore_aware):
    pytest.importorskip('mmdet', reason='the heads stand on those of mmdet')
    from mmplugins.models.dense_heads import mask_targets
    from tests.models.mask_models import features, sample, small_head

    if semantic:
        pytest.importorskip('mmseg', reason='the heads stand on those of mmseg')
        from mmplugins.models.decode_heads import mask_seg_heads as module
        from tests.models.decode_heads.test_mask_seg_heads import sample as semantic_sample

        samples = [semantic_sample(), semantic_sample((1,))]
    else:
        module, samples = mask_targets, [sample(3), sample(2, seed=1)]
        for one in samples:
            one.gt_instances.masks = one.gt_instances.masks.to_tensor(torch.bool, 'cpu')
    # The classes of all images come to the host in one copy.
    monkeypatch.setattr(module, 'present_classes', lambda labels, *args: [([4, 5], 0)] * len(labels))
    monkeypatch.setattr(mask_targets, '_check_things', lambda *args: None)  # after that
    head = small_head(model, semantic=semantic, ignore_aware=ignore_aware)
    if model == 'Mask2Former':  # mmdet's pixel decoder reads sizes on the host
        decoded = on_device(list(head.pixel_decoder(features())))
        head.pixel_decoder.forward = lambda x: decoded
    head.to(META)
    samples = [copy.deepcopy(one).to('meta') for one in samples]
    inputs, transfers['uploads'] = [on_device(one) for one in features()], 0
    losses = head.loss(inputs, samples, *([{}] if semantic else []))
    backward(losses, [parameter for name, parameter in head.named_parameters() if name.startswith('cls_embed')])
    assert transfers['costs'] == 1
    assert transfers['uploads'] == 3  # the classes of each image, and the pairs
