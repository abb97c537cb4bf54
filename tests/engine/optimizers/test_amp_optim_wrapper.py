import pytest
import torch
from mmengine.optim import AmpOptimWrapper as ToolboxAmpOptimWrapper
from mmengine.registry import OPTIM_WRAPPERS as ROOT
from torch import nn

from mmplugins.engine.optimizers import AmpOptimWrapper, amp_optim_wrapper
from mmplugins.functional.compat import FLOAT16_ON_CPU_SINCE, VERSION

needs_float16 = pytest.mark.skipif(VERSION < FLOAT16_ON_CPU_SINCE, reason='no float16 on the CPU')


@pytest.fixture(autouse=True)
def _cpu(monkeypatch):
    monkeypatch.setattr(amp_optim_wrapper, 'get_device', lambda: 'cpu')


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def build(model: nn.Module, **settings) -> AmpOptimWrapper:
    return AmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.5), **settings)


def step(wrapper, model: nn.Module) -> torch.Tensor:
    with wrapper.optim_context(model):
        output = model(torch.ones(4, 3))
    wrapper.update_params(output.float().square().mean())
    return output


def test_it_is_built_by_its_scope(model):
    wrapper = ROOT.build(dict(type='mmplugins.AmpOptimWrapper', optimizer=torch.optim.SGD(model.parameters(), lr=1.0)))
    assert type(wrapper) is AmpOptimWrapper
    assert isinstance(wrapper, ToolboxAmpOptimWrapper)


@pytest.mark.parametrize('clip', [None, dict(max_norm=0.1)])
def test_bfloat16_by_hand(model, clip):
    """The step is that of the same autocast and an optimizer without a wrapper; no loss is scaled."""
    other = nn.Linear(3, 2)
    other.load_state_dict(model.state_dict())
    assert step(build(model, clip_grad=clip), model).dtype == torch.bfloat16
    optimizer = torch.optim.SGD(other.parameters(), lr=0.5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = other(torch.ones(4, 3))
    output.float().square().mean().backward()
    if clip:
        nn.utils.clip_grad_norm_(other.parameters(), **clip)
    optimizer.step()
    for ours, expected in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, expected)


@needs_float16
@pytest.mark.parametrize('scale', ['dynamic', 1024.0, dict(init_scale=8.0, growth_interval=1)])
def test_float16_scales_the_loss(model, scale):
    wrapper = build(model, dtype='float16', loss_scale=scale)
    assert wrapper.loss_scaler.get_scale() == {'dynamic': 65536.0}.get(str(scale), scale if scale == 1024.0 else 8.0)
    before = model.weight.detach().clone()
    assert step(wrapper, model).dtype == torch.float16
    assert not torch.equal(model.weight, before)
    assert model.weight.isfinite().all()
    assert wrapper.loss_scaler.get_scale() == {'dynamic': 65536.0}.get(str(scale), scale if scale == 1024.0 else 16.0)


@needs_float16
def test_a_step_that_overflows_is_left_out(model):
    wrapper = build(model, dtype='float16')
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        loss = model(torch.ones(4, 3)).float().sum() * torch.inf
    wrapper.update_params(loss)
    assert torch.equal(model.weight, before)
    assert wrapper.loss_scaler.get_scale() == 32768


@pytest.mark.parametrize('dtype', ['bfloat16', pytest.param('float16', marks=needs_float16)])
def test_state_comes_back(model, dtype):
    wrapper = build(model, dtype=dtype)
    step(wrapper, model)
    other = build(model, dtype=dtype)
    other.load_state_dict(wrapper.state_dict())
    assert other.loss_scaler.state_dict() == wrapper.loss_scaler.state_dict()


def test_accumulation(model):
    wrapper = build(model, accumulative_counts=2)
    before = model.weight.detach().clone()
    step(wrapper, model)
    assert torch.equal(model.weight, before)
    step(wrapper, model)
    assert not torch.equal(model.weight, before)


def test_errors(model, monkeypatch):
    with pytest.raises(ValueError, match=r"takes a dtype of \('bfloat16', 'float16'\), got float64"):
        build(model, dtype='float64')
    with pytest.raises(ValueError, match=r'takes a dtype of .*, got torch\.float32'):
        build(model, dtype=torch.float32)
    with pytest.raises(ValueError, match='use_fsdp needs a GPU'):
        build(model, use_fsdp=True)
    with pytest.raises(ValueError, match="loss_scale must be 'dynamic', a float or a dict, got 'static'"):
        build(model, loss_scale='static')
    monkeypatch.setattr(amp_optim_wrapper, 'VERSION', (2, 2))
    with pytest.raises(ValueError, match=r'float16 on the CPU needs PyTorch 2\.3, got .*; take bfloat16'):
        build(model, dtype='float16')


@pytest.mark.filterwarnings('ignore::FutureWarning')  # newer versions would have the scaler's other name
def test_bfloat16_with_an_old_pytorch(model, monkeypatch):
    monkeypatch.setattr(amp_optim_wrapper, 'VERSION', (2, 2))
    wrapper = build(model)
    before = model.weight.detach().clone()
    step(wrapper, model)
    assert not torch.equal(model.weight, before)


def test_elsewhere_it_is_mmengines(model, monkeypatch):
    """mmengine's own check speaks where there is neither a CPU nor a GPU to train on."""
    monkeypatch.setattr(amp_optim_wrapper, 'get_device', lambda: 'mps')
    if torch.cuda.is_available():
        pytest.skip('mmengine builds it')
    with pytest.raises(AssertionError, match='only available training'):
        build(model)
