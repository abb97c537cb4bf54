"""Wrappers of optimizers and their constructors; none of them needs mmdet or mmseg."""

from .amp_optim_wrapper import AmpOptimWrapper
from .composed_optim_wrapper_constructor import ComposedOptimWrapperConstructor

__all__ = ['AmpOptimWrapper', 'ComposedOptimWrapperConstructor']
