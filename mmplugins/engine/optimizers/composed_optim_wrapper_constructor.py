"""Parameter groups whose rules add up: a rate by name and a decay by the kind of layer.

Papers: MaskFormer (NeurIPS 2021), Mask2Former (CVPR 2022). Released code: train_net.py, ``build_optimizer``: the
backbone has a tenth of the rate; norm layers, the backbone's too, and embeddings have no weight decay. In mmengine's
constructor a custom key puts all other rules out of force, so that the norm layers of a backbone with a rate of its own
decay.
"""

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmplugins.registry import OPTIM_WRAPPER_CONSTRUCTORS

NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ComposedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, but a custom key changes only what it names.

    Where the custom key of a parameter names no ``decay_mult``, the rule of its layer's kind holds: ``norm_decay_mult``
    in norm layers (batch, synchronised, instance, group, layer), ``embed_decay_mult`` in ``nn.Embedding``. A key that
    names ``decay_mult`` is obeyed.

    Args:
        optim_wrapper_cfg: As mmengine's, ``weight_decay`` included if a decay is to be multiplied.
        paramwise_cfg: As mmengine's, and ``embed_decay_mult``, what the weight decay of embeddings is multiplied by;
            missing: 1.

    Raises:
        ValueError: A decay is to be multiplied, and the optimizer has no ``weight_decay``.

    Examples:
        >>> from torch.nn import BatchNorm2d, Conv2d, Embedding, ModuleDict, Sequential
        >>> backbone = Sequential(Conv2d(3, 4, 1, bias=False), BatchNorm2d(4))
        >>> model = ModuleDict(dict(backbone=backbone, queries=Embedding(2, 4)))
        >>> build = ComposedOptimWrapperConstructor(
        ...     dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=1.0)),
        ...     dict(custom_keys=dict(backbone=dict(lr_mult=0.1)), norm_decay_mult=0.0, embed_decay_mult=0.0),
        ... )
        >>> [(group['lr'], group['weight_decay']) for group in build(model).optimizer.param_groups]
        [(0.1, 1.0), (0.1, 0.0), (0.1, 0.0), (1.0, 0.0)]
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        if self.base_wd is None and 'embed_decay_mult' in self.paramwise_cfg:
            raise ValueError('embed_decay_mult multiplies the weight decay: give the optimizer a weight_decay')

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: int | float | None = None
    ) -> None:
        """Adds the groups of a module and of those inside it; mmengine calls it.

        Args:
            params: Groups, one for each parameter; extended in place.
            module: The module.
            prefix: Its name.
            is_dcn_module: Whether the module around it is a deformable convolution.
        """
        settings = self.paramwise_cfg
        decay = self._decay_of(module)
        if decay is not None:
            keys = settings.get('custom_keys', {})
            named = {key: {'decay_mult': decay, **values} for key, values in keys.items()}
            for name, _ in module.named_parameters(recurse=False):
                full_name = f'{prefix}.{name}'
                if not any(key in full_name for key in keys):
                    named[full_name] = {'decay_mult': decay}
            self.paramwise_cfg = {**settings, 'custom_keys': named}
        try:
            super().add_params(params, module, prefix, is_dcn_module)
        finally:
            self.paramwise_cfg = settings

    def _decay_of(self, module: nn.Module) -> float | None:
        """Gives what the decay of the module's own parameters is multiplied by; None: no rule for its kind."""
        if isinstance(module, NORMS):
            return self.paramwise_cfg.get('norm_decay_mult')
        if isinstance(module, nn.Embedding):
            return self.paramwise_cfg.get('embed_decay_mult')
        return None
