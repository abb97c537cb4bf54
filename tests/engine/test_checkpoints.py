"""What is said of a checkpoint that is not, or not quite, the model's."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseTTAModel
from torch import nn

from mmplugins.engine.checkpoints import (
    SHOWN,
    CheckpointFitHook,
    check_fit,
    compare,
    load_weights,
    tell_settings_without_effect,
    tensors_of,
)
from mmplugins.engine.launch import UsageError


def network(width=2):
    return nn.ModuleDict(dict(body=nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), head=nn.Linear(4, width)))


@pytest.fixture
def log(caplog):
    """What is logged from here on; mmengine's logger passes nothing on."""
    logger = MMLogger.get_current_instance()
    caplog.set_level('WARNING', logger=logger.name)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_a_checkpoint_of_the_model_is_silent(log):
    state = network().state_dict()
    old = {name: value for name, value in state.items() if 'num_batches_tracked' not in name}
    for each in (state, old):
        check_fit(network(), each, 'CHECKPOINT: a.pth', whole=True)
    assert log.text == ''
    assert compare(network(), old) == (8, [], [], [])


def test_prefixes_and_bare_files():
    state = {'module.head.bias': torch.zeros(2)}
    assert list(tensors_of(dict(state_dict=state, meta={}))) == list(tensors_of(state)) == ['head.bias']
    assert tensors_of(network().state_dict())._metadata['body.1'] == dict(version=2)


def test_nothing_of_the_model():
    """Names of a released code, and a training file whose weights lie deeper."""
    message = (
        r'^CHECKPOINT: a\.pth is not a checkpoint of this model: none of its 8 tensors .*8 not in it: body\.0\.wei'
    )
    for state in ({'layer1.weight': torch.zeros(4, 3)}, dict(model={}, epoch=3)):
        with pytest.raises(UsageError, match=message + r'.*, \.\.\..* in it and not of .*tools/model_converters/'):
            check_fit(network(), state, 'CHECKPOINT: a.pth')


def test_a_part_is_listed(log):
    state = network(width=5).state_dict() | {'neck.weight': torch.zeros(1)}
    del state['body.0.bias']
    check_fit(network(), state, 'CHECKPOINT: a.pth')
    (record,) = log.records
    assert record.levelname == 'WARNING'
    assert record.getMessage() == (
        'CHECKPOINT: a.pth fits the model in part: 5 of 8 tensors are loaded, the others stay as initialised. '
        '1 not in it: body.0.bias; 2 of another shape in it: head.weight (5, 4) instead of (2, 4), '
        'head.bias (5,) instead of (2,); 1 in it and not of the model: neck.weight'
    )


def test_long_lists_end(log):
    check_fit(network(), network().state_dict() | {f'x{i}': torch.zeros(1) for i in range(99)}, 'a.pth')
    assert f'99 in it and not of the model: x0, x1, {", ".join(f"x{i}" for i in range(2, SHOWN))}, ...' in log.text


def test_a_run_that_goes_on_needs_all():
    with pytest.raises(
        UsageError, match=r'of another model.*2 of another shape in it: head\.weight .*leave out --resu'
    ):
        check_fit(network(), network(width=5).state_dict(), '--resume: a.pth', whole=True)


def test_load_weights(tmp_path):
    model, trained = network(), network()
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'a.pth')
    load_weights(model, str(tmp_path / 'a.pth'), 'CHECKPOINT')
    for name, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    torch.save({'other.weight': torch.zeros(1)}, tmp_path / 'b.pth')
    with pytest.raises(UsageError, match=r'^CHECKPOINT: \S+b\.pth is not a checkpoint of this model'):
        load_weights(model, str(tmp_path / 'b.pth'), 'CHECKPOINT')


def test_the_hook_looks_through_wrappers(log):
    class Augmented(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            return data_samples_list

    model = network()
    model.test_step = lambda data: []
    runner = SimpleNamespace(model=Augmented(module=model), _load_from='a.pth', _resume=False)
    CheckpointFitHook('CHECKPOINT').after_load_checkpoint(runner, dict(state_dict=model.state_dict()))
    assert log.text == ''
    with pytest.raises(UsageError, match=r'CHECKPOINT: a\.pth is not'):
        CheckpointFitHook('CHECKPOINT').after_load_checkpoint(runner, dict(state_dict={'x': torch.zeros(1)}))


def test_settings_that_a_resumed_run_does_not_take(log):
    """The checkpoint's optimizer comes first, with its learning rate; a decayed one is no difference."""
    groups = [dict(lr=0.01, initial_lr=0.1, weight_decay=0.0), dict(lr=0.1, initial_lr=1.0, weight_decay=0.0)]
    tell_settings_without_effect(
        dict(param_groups=[dict(group, lr=0.5) for group in groups]), dict(param_groups=groups)
    )
    tell_settings_without_effect({}, {})
    assert log.text == ''
    changed = [dict(group, initial_lr=group['initial_lr'] / 2) for group in groups]
    tell_settings_without_effect(dict(param_groups=changed), dict(param_groups=groups))
    (record,) = log.records
    assert record.getMessage().startswith(
        '--resume: lr of 2 of 2 groups of parameters is 0.1 in the checkpoint and 0.05 in the config; a run that is '
        'resumed goes on with 0.1.'
    )
