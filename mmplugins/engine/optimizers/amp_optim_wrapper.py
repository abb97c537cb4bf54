"""Training in mixed precision on any device, the CPU included, which mmengine's wrapper refuses."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper as ToolboxAmpOptimWrapper
from mmengine.optim import OptimWrapper
from torch import nn

from mmplugins.functional.compat import FLOAT16_ON_CPU_SINCE, VERSION
from mmplugins.registry import OPTIM_WRAPPERS

CPU_DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16}


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(ToolboxAmpOptimWrapper):
    """mmengine's wrapper for automatic mixed precision, on the CPU too; elsewhere nothing differs from mmengine's.

    On the CPU the forward pass runs under ``torch.autocast('cpu', dtype)``. bfloat16 has the range of float32, so no
    loss is scaled; float16 has not, and its losses are scaled as on a GPU.

    Args:
        loss_scale: 'dynamic', a number or a dict, as mmengine's; unused for bfloat16 on the CPU.
        dtype: 'float16' or 'bfloat16', or torch's; None: bfloat16 on the CPU, else what autocast takes by default.
        use_fsdp: As mmengine's; not on the CPU.
        **kwargs: What mmengine's OptimWrapper takes, such as ``optimizer``.

    Raises:
        ValueError: On the CPU another ``dtype``, float16 with a PyTorch that cannot scale losses there, ``use_fsdp``,
            or a ``loss_scale`` of another kind.

    Examples:
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> wrapper = AmpOptimWrapper(optimizer=torch.optim.SGD([weight], lr=0.5))
        >>> wrapper.update_params(weight.sum())
        >>> weight.item()
        0.5
    """

    def __init__(
        self,
        loss_scale: str | float | dict = 'dynamic',
        dtype: str | torch.dtype | None = None,
        use_fsdp: bool = False,
        **kwargs,
    ) -> None:
        self._on_cpu = get_device() == 'cpu'
        if not self._on_cpu:
            super().__init__(loss_scale, dtype, use_fsdp, **kwargs)
            return
        OptimWrapper.__init__(self, **kwargs)  # mmengine's refuses the CPU
        if use_fsdp:
            raise ValueError('use_fsdp needs a GPU; leave it out on the CPU')
        self.cast_dtype = _cpu_dtype(dtype)
        self._scale_update_param = loss_scale if isinstance(loss_scale, float) else None
        self.loss_scaler = _cpu_scaler(self.cast_dtype, loss_scale)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Runs the forward pass in mixed precision; mmengine calls it.

        Args:
            model: The model.
        """
        if not self._on_cpu:
            with super().optim_context(model):
                yield
            return
        with OptimWrapper.optim_context(self, model), torch.autocast('cpu', dtype=self.cast_dtype):
            yield


def _cpu_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """Returns what autocast computes in on the CPU."""
    found = CPU_DTYPES.get(str(dtype or 'bfloat16').removeprefix('torch.'))
    if found is None:
        raise ValueError(f'mixed precision on the CPU takes a dtype of {tuple(CPU_DTYPES)}, got {dtype}')
    if found == torch.float16 and VERSION < FLOAT16_ON_CPU_SINCE:
        needed = '.'.join(map(str, FLOAT16_ON_CPU_SINCE))
        raise ValueError(
            f'float16 on the CPU needs PyTorch {needed}, got {torch.__version__}; take bfloat16, or a newer PyTorch'
        )
    return found


def _cpu_scaler(dtype: torch.dtype, loss_scale: str | float | dict) -> object:
    """Returns torch's scaler of losses, one that does nothing for bfloat16."""
    if loss_scale != 'dynamic' and not isinstance(loss_scale, float | dict):
        raise ValueError(f"loss_scale must be 'dynamic', a float or a dict, got {loss_scale!r}")
    if dtype == torch.bfloat16:
        return torch.cuda.amp.GradScaler(enabled=False) if VERSION < FLOAT16_ON_CPU_SINCE else _scaler(enabled=False)
    if isinstance(loss_scale, dict):
        return _scaler(**loss_scale)
    return _scaler(init_scale=loss_scale) if isinstance(loss_scale, float) else _scaler()


def _scaler(**settings: float | int | bool) -> object:
    return torch.amp.GradScaler('cpu', **settings)
