"""Pretrained weights that a config names arrive in its backbone, and can be fetched with what is installed."""

import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from tests.locations import ROOT
from tests.toolboxes import need_those_of


def model_configs() -> dict[str, tuple[str, str]]:
    """Configs that stand for all: one of those whose backbone, and the types of what is around it, are the same.

    Returns:
        The config's name and default scope, by backbone and types.
    """
    groups = {}
    files = [*(ROOT / 'configs').glob('*/*.py'), *(ROOT / 'configs/_base_/models').glob('*.py')]
    for path in sorted(files):
        cfg = Config.fromfile(path)
        if 'model' not in cfg:
            continue
        parts = {name: part.get('type') for name, part in cfg.model.items() if isinstance(part, dict)}
        scope = 'mmdet' if {'bbox_head', 'panoptic_head'} & parts.keys() else 'mmseg'
        key = json.dumps([cfg.model.type, parts, cfg.model.backbone], sort_keys=True, default=str)
        groups.setdefault(key, (path.relative_to(ROOT / 'configs').as_posix(), scope))
    return groups


GROUPS = [pytest.param(*group, id=group[0]) for group in model_configs().values()]
NAMED = {name for (name, _) in model_configs().values()}


def built(name: str, scope: str, checkpoint: Path):
    """The model of a config, its backbone's weights to be read from a file."""
    model = Config.fromfile(ROOT / 'configs' / name).model
    need_those_of(scope, model)
    init_default_scope(scope)
    model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint))
    return MODELS.build(model)


def backbone_of(model) -> torch.nn.Module:
    return model.network.encoder.backbone if hasattr(model, 'network') else model.backbone


def test_every_family_is_there():
    assert len(GROUPS) >= 16
    families = {Config.fromfile(ROOT / 'configs' / name).model.type for name in NAMED}
    segmentors = {'EncoderDecoder', 'mmplugins.ClassMapSegmentor'}
    assert families == {'mmplugins.AOT', *segmentors, 'DETR', 'MaskFormer', 'Mask2Former'}
    assert any('swinb' in name for name in NAMED)


@pytest.mark.parametrize(('name', 'scope'), GROUPS)
def test_weights_arrive(name, scope, tmp_path):
    """A file that fills the backbone with constants, one for each tensor; and one that is not there."""
    path = tmp_path / 'backbone.pth'
    model = built(name, scope, path)
    with pytest.raises(FileNotFoundError, match=r'backbone\.pth'):
        model.init_weights()

    state = backbone_of(model).state_dict()
    constants = {
        key: torch.full_like(tensor, 0.5 + index / len(state)) if tensor.is_floating_point() else tensor
        for index, (key, tensor) in enumerate(state.items())
    }
    torch.save(dict(state_dict=constants), path)
    model = built(name, scope, path)
    model.init_weights()
    arrived = backbone_of(model).state_dict()
    assert len(arrived) > 50
    assert [key for key in constants if not torch.equal(arrived[key], constants[key])] == []


def checkpoint_of(name: str, scope: str) -> str:
    """The address of a config's weights; other servers' files are a toolbox's, for its own backbone."""
    return str(Config.fromfile(ROOT / 'configs' / name).model.backbone.get('init_cfg'))


def torchvision_names(blocks: tuple[int, ...]) -> set[str]:
    """Names in torchvision's files of a ResNet, without what batch norm counts, which the oldest file lacks."""
    names = {'conv1.weight', 'fc.weight', 'fc.bias'}
    norms = ['bn1']
    for stage, count in enumerate(blocks, 1):
        names.add(f'layer{stage}.0.downsample.0.weight')
        norms.append(f'layer{stage}.0.downsample.1')
        for block in range(count):
            names |= {f'layer{stage}.{block}.conv{i}.weight' for i in (1, 2, 3)}
            norms += [f'layer{stage}.{block}.bn{i}' for i in (1, 2, 3)]
    return names | {f'{norm}.{part}' for norm in norms for part in ('weight', 'bias', 'running_mean', 'running_var')}


@pytest.mark.parametrize(
    ('name', 'scope'), [group for group in GROUPS if 'pytorch.org' in checkpoint_of(*group.values)]
)
def test_names_are_those_of_the_file(name, scope, tmp_path):
    """mmengine passes over what a file lacks, so a backbone with other names would start at random without a word."""
    with torch.device('meta'):
        state = backbone_of(built(name, scope, tmp_path)).state_dict()
    wanted = {key for key in state if not key.endswith('num_batches_tracked')}
    assert wanted <= torchvision_names((3, 4, 6, 3))  # ResNet-50 in all of them


def test_no_checkpoint_needs_torchvision():
    """mmengine's ``torchvision://`` and ``modelzoo://`` import torchvision, which nothing here installs."""
    files = [path for folder in ('configs', 'docs') for path in (ROOT / folder).rglob('*') if path.is_file()]
    files += [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *(ROOT / 'tools').rglob('*.py')]
    texts = {path: path.read_text() for path in files if path.suffix in ('.py', '.md', '.yml')}
    assert len(texts) > 80
    assert [str(path) for path, text in texts.items() if re.search('(torchvision|modelzoo)://', text)] == []
    named = {
        address
        for text in texts.values()
        for address in re.findall(r'https://download\.pytorch\.org/models/([\w.-]+)', text)
    }
    # torchvision's first weights; 19c8e357 is the first file of the same ResNet-50, which PFNet's code names
    assert named == {'resnet50-0676ba61.pth', 'resnet50-19c8e357.pth', 'resnet101-63fe2227.pth'}
