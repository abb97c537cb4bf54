"""The example of docs/set_prediction.md runs as it stands there, and learns."""

import re

import pytest
import torch

from tests.locations import ROOT

TEXT = (ROOT / 'docs' / 'set_prediction.md').read_text()


def example(index: int) -> str:
    return re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)[index]


@pytest.mark.slow
def test_the_example_learns():
    torch.manual_seed(0)
    space: dict = {}
    exec(example(0), space)
    loss, class_error, cardinality_error = torch.tensor(space['history']).T
    assert loss[-20:].mean() < 0.55 * loss[:5].mean()
    assert class_error[:5].mean() > 35
    assert class_error[-20:].mean() < 20
    assert cardinality_error[-20:].mean() < 0.5 * cardinality_error[:5].mean()

    pictures, targets = space['make_batch'](64)  # pictures that it has not seen
    with torch.no_grad():
        losses = space['criterion'](space['model'](pictures), targets)
    assert losses['class_error'] < 20
    assert losses['loss_iou'] < 2 * 0.7  # a mean generalised IoU above 0.3


def test_the_settings_are_real():
    space: dict = {}
    exec(example(0).split('\ncriterion =')[0], space)
    exec(example(1), space)


def test_the_page_is_linked():
    assert '(set_prediction.md)' in (ROOT / 'docs' / 'README.md').read_text()
