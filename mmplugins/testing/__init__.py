"""What our tests and a user's own tests share."""

from .fill import fill_state_dict, fill_value
from .golden import golden_dir, load_golden
from .losses import LossContract
from .values import assert_relative, relative_error

__all__ = [
    'LossContract',
    'assert_relative',
    'fill_state_dict',
    'fill_value',
    'golden_dir',
    'load_golden',
    'relative_error',
]
