import pytest
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmplugins.engine.optimizers import ComposedOptimWrapperConstructor


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.SyncBatchNorm(4), nn.Embedding(2, 4))
        self.head = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.Embedding(2, 4))
        self.level = nn.Embedding(2, 4)


def settings_of(paramwise, model=None):
    """Rate and decay by name, of a base rate 1 and a base decay 2."""
    model = model or Model()
    config = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=2.0),
        constructor='mmplugins.ComposedOptimWrapperConstructor',
        paramwise_cfg=paramwise,
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optim_wrapper(model, config).optimizer.param_groups
    found = {names[id(group['params'][0])]: (group['lr'], group['weight_decay']) for group in groups}
    assert len(found) == len(groups)
    return found


NORMS = ('backbone.1', 'backbone.2', 'head.1', 'head.2')
EMBEDDINGS = ('backbone.3', 'head.3', 'level')


def test_rules_add_up():
    keys = dict(backbone=dict(lr_mult=0.5), level=dict(decay_mult=1.0))
    found = settings_of(dict(custom_keys=keys, norm_decay_mult=0.0, embed_decay_mult=0.25))
    assert found.keys() == dict(Model().named_parameters()).keys()
    for name, values in found.items():
        decay = 0.0 if name.startswith(NORMS) else 0.5 if name.startswith(EMBEDDINGS[:2]) else 2.0
        assert values == (0.5 if name.startswith('backbone') else 1.0, decay), name


def test_a_key_that_names_a_decay_is_obeyed():
    found = settings_of(dict(custom_keys={'backbone.1': dict(decay_mult=3.0)}, norm_decay_mult=0.0))
    assert found['backbone.1.weight'] == found['backbone.1.bias'] == (1.0, 6.0)
    assert found['backbone.2.weight'] == (1.0, 0.0)
    assert found['level.weight'] == (1.0, 2.0)


def test_without_rules_as_mmengine():
    keys = dict(custom_keys=dict(backbone=dict(lr_mult=0.5)))
    model = Model()
    ours = settings_of(keys, model)
    assert set(ours.values()) == {(0.5, 2.0), (1.0, 2.0)}
    model.backbone[0].weight.requires_grad = False
    assert settings_of(keys, model).keys() == ours.keys() - {'backbone.0.weight'}


def test_settings_are_as_before():
    constructor = ComposedOptimWrapperConstructor(
        dict(optimizer=dict(type='SGD', lr=1.0, weight_decay=1.0)), dict(norm_decay_mult=0.0, embed_decay_mult=0.0)
    )
    constructor(Model())
    assert constructor.paramwise_cfg == dict(norm_decay_mult=0.0, embed_decay_mult=0.0)


def test_no_decay_to_multiply():
    with pytest.raises(ValueError, match='embed_decay_mult multiplies the weight decay: give the optimizer'):
        ComposedOptimWrapperConstructor(dict(optimizer=dict(type='SGD', lr=1.0)), dict(embed_decay_mult=0.0))
