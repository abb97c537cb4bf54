"""The examples of docs/look.md build, and the page names what there is."""

import inspect
import re

import pytest
from mmengine.hooks import CheckpointHook

from mmplugins.engine.hooks import LossPictureHook, ValLossHook
from mmplugins.models.losses import OhemCrossEntropyLoss, StructureLoss
from mmplugins.registry import HOOKS
from tests.locations import ROOT

TEXT = (ROOT / 'docs' / 'look.md').read_text()
EXAMPLES = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)


@pytest.mark.parametrize('index', range(3))
def test_hooks_of_the_examples_are_built(index):
    space: dict = {}
    exec(EXAMPLES[index], space)
    hooks = [HOOKS.build(hook) for hook in space['custom_hooks']]
    assert [type(hook) for hook in hooks] == [LossPictureHook if index == 2 else ValLossHook]
    if 'default_hooks' in space:
        assert HOOKS.build(space['default_hooks']['checkpoint']).key_indicators == ['val/loss']
    assert len(EXAMPLES) == 3


def test_methods_that_are_asked_for_are_those_of_the_losses():
    for loss, method in ((OhemCrossEntropyLoss, 'kept_pixels'), (StructureLoss, 'pixel_weight')):
        names = [name for name in inspect.signature(getattr(loss, method)).parameters if name != 'self']
        told = re.search(rf'`{method}\((.*?)\)`', TEXT)[1].replace('**', '').split(', ')
        assert [name.split('=')[0] for name in told] == names


def test_the_best_checkpoint_has_the_least_loss():
    assert CheckpointHook(save_best='val/loss').rules == ['less']


def test_the_page_and_its_pictures_are_there():
    assert '(look.md)' in (ROOT / 'docs' / 'README.md').read_text()
    pictures = re.findall(r'\(images/(\w+\.png)\)', TEXT)
    assert len(pictures) == 7
    for name in pictures:
        assert (ROOT / 'docs/images' / name).stat().st_size < 300_000
