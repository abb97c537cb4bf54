"""Constructors of optimizers; none of them needs mmdet or mmseg."""

from .composed_optim_wrapper_constructor import ComposedOptimWrapperConstructor

__all__ = ['ComposedOptimWrapperConstructor']
