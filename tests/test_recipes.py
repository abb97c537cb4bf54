"""The full-scale configs have the released recipes: every parameter's rate and decay, rates step by step, and sizes.

``tests/golden/recipes`` has a table for each paper (tests/golden/README.md says where its numbers come from). Which
parameters are trained, at which share of the rate and with which decay, is derived here from each paper's rule by a
walk over the modules, without mmengine's ``paramwise_cfg``; for AOT it is the released function's own output. Models
are built on ``meta``, so that nothing is downloaded or filled.
"""

import json
import math
import re
from functools import cache

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, init_default_scope
from torch import nn

from tests.locations import ROOT
from tests.toolboxes import need, need_those_of
from tools.model_converters.aot import table_of

TABLES = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / 'tests/golden/recipes').glob('*.json'))}
RECIPES = {name: recipe for table in TABLES.values() for name, recipe in table['recipes'].items()}
# Full-scale configs of ours that are no released recipe: they change the loss or the data of one that is.
OTHERS = {
    'pspnet/pspnet_r101-d8_topk_4xb2-40k_cityscapes-769x769.py',
    'pfnet/pfnet_r50_1xb16-45e_duts-416x416.py',
    'pfnet/pfnet_r50_paper-loss_1xb16-45e_cod-416x416.py',
}
AOT_MODELS = {'t': 'aott', 's': 'aots', 'b': 'aotb', 'l': 'aotl', 'r50-l': 'r50_aotl'}
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
each_recipe = pytest.mark.parametrize('name', RECIPES)


@cache
def config_of(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / name)


@cache
def model_of(name: str) -> nn.Module:
    """The config's model, without values."""
    cfg = config_of(name)
    need_those_of(cfg.default_scope, cfg.model)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        return MODELS.build(cfg.model)


# Parameters: {name: (share of the rate, weight decay)} of those that are trained --------------------------------------


def pspnet_rule(name: str, decay: float) -> dict:
    """One group: everything alike, norms and biases too."""
    return {key: (1.0, decay) for key, _ in model_of(name).named_parameters()}


def pfnet_rule(name: str, decay: float) -> dict:
    """What is named bias, norms included, at twice the rate without decay."""
    keys = [key for key, _ in model_of(name).named_parameters()]
    return {key: (2.0, 0.0) if key.endswith('bias') else (1.0, decay) for key in keys}


def detr_rule(name: str, decay: float) -> dict:
    """The backbone at a tenth of the rate; its stem, first stage and batch norms are frozen."""
    rule = {}
    for prefix, module in model_of(name).named_modules():
        backbone = prefix.startswith('backbone')
        if backbone and (isinstance(module, NORMS) or not re.match(r'backbone\.layer[234]\.', f'{prefix}.')):
            continue
        for key, _ in module.named_parameters(recurse=False):
            rule[f'{prefix}.{key}'] = (0.1 if backbone else 1.0, decay)
    return rule


def mask_rule(name: str, decay: float) -> dict:
    """MaskFormer's and Mask2Former's train_net.py, module by module; detectron2's frozen batch norm has no parameters.

    Their pixel decoder's level embedding is a bare parameter, which decays; mmdet's is an Embedding.
    """
    trained_norms = config_of(name).model.backbone.norm_cfg.requires_grad
    rule = {}
    for prefix, module in model_of(name).named_modules():
        backbone = 'backbone' in prefix
        if backbone and isinstance(module, NORMS) and not trained_norms:
            continue
        embedding = isinstance(module, nn.Embedding) and not prefix.endswith('pixel_decoder.level_encoding')
        for key, _ in module.named_parameters(recurse=False):
            none = embedding or isinstance(module, NORMS)
            rule[f'{prefix}.{key}'] = (0.1 if backbone else 1.0, 0.0 if none else decay)
    return rule


def aot_rule(name: str, decay: float) -> dict:
    """The released ``get_trainable_params`` as it ran; 'encoder.' has a tenth of the distance to the least rate."""
    parameters = TABLES['aot']['parameters']
    table = parameters[AOT_MODELS[re.match(r'aot/aot_([\w-]+?)_(4xb4|pretrain)', name)[1]]]
    table = parameters.get(table) if isinstance(table, str) else table
    full, encoder = (rate['initial'] for rate in RECIPES[name]['rates'])
    # LSTT.mask_token: no code reads it, so that it has no gradient and never changes; a buffer of ours
    released = {key: decay for key in table['decayed'] if key != 'LSTT.mask_token'}
    released |= dict.fromkeys(table['not_decayed'], 0.0)
    released.pop('LSTT.mask_token', None)
    names = table_of(released_names(name))
    return {names[key]: (encoder / full if key.startswith('encoder.') else 1.0, d) for key, d in released.items()}


def released_names(name: str) -> set[str]:
    """Enough of the released names for the converter to know the model."""
    model = config_of(name).model
    backbone = 'layer1.0.conv1' if model.backbone.type == 'mmseg.ResNet' else 'features.0.0'
    return {f'encoder.{backbone}.weight', *(f'LSTT.layers.{i}.linear_Q.weight' for i in range(model.num_blocks))}


RULES = dict(pspnet=pspnet_rule, pfnet=pfnet_rule, detr=detr_rule, maskformer=mask_rule, mask2former=mask_rule)
RULES['aot'] = aot_rule
COUNTS = {  # of the trained parameters, as a check of the walk
    'pspnet/pspnet_r101-d8_ohem_4xb2-40k_cityscapes-769x769.py': 340,
    'aot/aot_t_4xb4-100k_ytvos2019-davis2017-465x465.py': 105,  # and mask_token
    'aot/aot_r50-l_4xb4-100k_ytvos2019-davis2017-465x465.py': 162,
}


@each_recipe
def test_every_parameter(name):
    """The optimizer's groups hold the trained parameters, each once, with the rule's rate and decay; and no others."""
    recipe, model = RECIPES[name], model_of(name)
    wrapper = build_optim_wrapper(model, config_of(name).optim_wrapper)
    names = {parameter: key for key, parameter in model.named_parameters()}
    found = {}
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            assert names[parameter] not in found
            found[names[parameter]] = (group['lr'] / recipe['optimizer']['lr'], group['weight_decay'])
    expected = RULES[name.split('/')[0]](name, recipe['optimizer']['weight_decay'])
    assert sorted(found) == sorted(expected)
    assert sorted(found) == sorted(key for key, parameter in model.named_parameters() if parameter.requires_grad)
    wrong = {key: (found[key], expected[key]) for key in found if found[key] != pytest.approx(expected[key], rel=1e-9)}
    assert wrong == {}
    assert len(found) == COUNTS.get(name, len(found))


@each_recipe
def test_optimizer_and_clipping(name):
    recipe, wrapper = RECIPES[name], config_of(name).optim_wrapper
    optimizer = dict(wrapper.optimizer)
    assert {key: optimizer[key] for key in recipe['optimizer']} == recipe['optimizer']
    # what else is set are the defaults of PyTorch, as in the released codes
    assert {key: optimizer[key] for key in optimizer if key not in recipe['optimizer']}.items() <= dict(
        eps=1e-8, betas=(0.9, 0.999)
    ).items()
    assert wrapper.get('clip_grad') == recipe['clip']
    assert wrapper.get('accumulative_counts', 1) == 1


@cache
def stepped_rates(schedule: str, initial: tuple[float, ...], steps: int, epoch_length: int | None) -> list[list[float]]:
    """Steps the schedulers of a config, as JSON, through a whole training: the rates of one weight for each group."""
    groups = [dict(params=[nn.Parameter(torch.zeros(1))], lr=rate) for rate in initial]
    wrapper = OptimWrapper(torch.optim.SGD(groups, lr=1.0))
    defaults = dict(optimizer=wrapper, epoch_length=epoch_length)
    schedulers = [PARAM_SCHEDULERS.build(config, default_args=defaults) for config in json.loads(schedule)]
    rates = []
    for _ in range(steps):
        rates.append([group['lr'] for group in wrapper.optimizer.param_groups])
        wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return rates


@each_recipe
def test_rates_step_by_step(name):
    """By epochs or by iterations, as the schedule counts; the last step has the released rate too."""
    recipe, cfg = RECIPES[name], config_of(name)
    initial = tuple(rate['initial'] for rate in recipe['rates'])
    epoch_length = recipe.get('epoch_length')
    steps = recipe['length'] * (epoch_length or 1)
    rates = stepped_rates(json.dumps(cfg.param_scheduler), initial, steps, epoch_length)
    listed = [int(step) for step in recipe['rates'][0]['steps']]
    assert (listed[0], listed[1], listed[-1]) == (0, 1, steps - 1)
    for step in listed:
        expected = [rate['steps'][str(step)] for rate in recipe['rates']]
        assert rates[step] == pytest.approx(expected, rel=1e-9, abs=1e-20), f'step {step}'


@each_recipe
def test_rates_are_those_of_the_groups(name):
    """The rates that a table lists are what the optimizer's groups begin with; else its steps would prove nothing."""
    recipe = RECIPES[name]
    shares = {share for share, _ in RULES[name.split('/')[0]](name, recipe['optimizer']['weight_decay']).values()}
    initial = sorted(share * recipe['optimizer']['lr'] for share in shares)
    assert initial == pytest.approx(sorted(rate['initial'] for rate in recipe['rates']), rel=1e-9)


@each_recipe
def test_batch_and_length(name):
    recipe, cfg = RECIPES[name], config_of(name)
    gpus, batch = map(int, re.search(r'_(\d+)xb(\d+)-', name).groups())
    assert cfg.train_dataloader.batch_size == batch
    assert gpus * batch == recipe['batch']
    assert cfg.train_cfg['max_iters' if recipe['unit'] == 'iterations' else 'max_epochs'] == recipe['length']


def value_at(node, path: str):
    """Value of a dotted path; ``a.b//c`` gives all values of the key c anywhere below a.b, in order."""
    path, _, key = path.partition('//')
    for part in path.split('.'):
        node = node[part]
    return list(values_below(node, key)) if key else node


def values_below(node, key: str):
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    for name, child in children:
        if name == key:
            yield child
        else:
            yield from values_below(child, key)


def plain(value):
    return json.loads(json.dumps(value))  # tuples become lists


@each_recipe
def test_settings(name):
    """Thresholds, sizes, object limits, weights of losses and costs."""
    settings, cfg = RECIPES[name]['settings'], config_of(name).to_dict()
    found = {path: plain(value_at(cfg, path)) for path in settings}
    wrong = {path: (value, settings[path]) for path, value in found.items() if value != settings[path]}
    assert wrong == {}


def test_every_full_scale_config_is_compared():
    names = {path.relative_to(ROOT / 'configs').as_posix() for path in (ROOT / 'configs').glob('*/*.py')}
    data = ('cityscapes', 'cod-', 'duts', 'coco-', 'ade20k', 'ytvos', 'static')
    full_scale = {name for name in names if any(part in name for part in data)}
    assert full_scale == set(RECIPES) | OTHERS
    assert len(RECIPES) == 21


# What settings alone do not show --------------------------------------------------------------------------------------


def test_pspnet_dilation_and_activation():
    """The released network: 2 and 4 from the first block of stages 3 and 4 on; leaky ReLU of 0.01 in both heads."""
    model = model_of('pspnet/pspnet_r101-d8_ohem_4xb2-40k_cityscapes-769x769.py')
    for stage, dilation in ((model.backbone.layer3, 2), (model.backbone.layer4, 4)):
        assert {block.conv2.dilation for block in stage} == {(dilation, dilation)}
    for head in (model.decode_head, model.auxiliary_head):
        slopes = [module.negative_slope for module in head.modules() if isinstance(module, nn.LeakyReLU)]
        assert set(slopes) == {0.01}
        assert not any(isinstance(module, nn.ReLU) for module in head.modules())
    assert len([module for module in model.decode_head.modules() if isinstance(module, nn.LeakyReLU)]) == 5


def test_pspnet_classifiers_begin_as_pytorchs():
    """Uniform within 1 / sqrt(fan-in), weight and bias, after ``init_weights`` too: 512 inputs, 0.0442."""
    cfg = config_of('pspnet/pspnet_r101-d8_ohem_4xb2-40k_cityscapes-769x769.py')
    need('mmseg')
    init_default_scope('mmseg')
    torch.manual_seed(0)
    for config in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head = MODELS.build(config)
        head.init_weights()
        bound = 1 / math.sqrt(512)
        for parameter, least in ((head.conv_seg.weight, 0.99), (head.conv_seg.bias, 0.7)):
            assert least * bound < parameter.abs().max() <= bound
        assert head.conv_seg.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@each_recipe
def test_no_module_hides_an_initialisation(name):
    """mmengine goes down from module to module, and past one that has no ``init_weights`` it sees nothing."""
    model = model_of(name)
    seen, queue = set(), [model]
    while queue:
        module = queue.pop()
        seen.add(module)
        queue += [child for child in module.children() if hasattr(child, 'init_weights')]
    (backbone,) = (module for key, module in model.named_modules() if key.split('.')[-1] == 'backbone')
    assert isinstance(backbone, BaseModule)
    assert backbone in seen
