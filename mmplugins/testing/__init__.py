"""What our tests and a user's own tests share; ``mmplugins.testing.losses``, which needs pytest, is apart."""

from .fill import fill_state_dict, fill_value
from .golden import golden_dir, load_golden
from .values import assert_relative, relative_error

__all__ = ['assert_relative', 'fill_state_dict', 'fill_value', 'golden_dir', 'load_golden', 'relative_error']
