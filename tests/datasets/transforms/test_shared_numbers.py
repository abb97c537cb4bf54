"""What mmcv 2.0.1 does, put into the mmcv that is there."""

import weakref

import pytest

pytest.importorskip('mmcv', reason='transforms need it')
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmplugins.datasets.transforms.shared_numbers import mend_shared_numbers


def shared(self, instance, owner=None):
    self.instance_ref = weakref.ref(instance)
    return self


class Named(BaseTransform):
    def __init__(self, name):
        self.name = name

    @cache_randomness
    def draw(self):
        return self.name

    def transform(self, results):
        return results


def test_each_transform_draws_for_itself(monkeypatch):
    monkeypatch.setattr(cache_randomness, '__get__', shared)
    one, other = Named('one'), Named('other')

    def drawn():
        first, second = one.draw, other.draw
        return first(), second()

    assert drawn() == ('other', 'other')
    mend_shared_numbers('2.1.0')
    assert drawn() == ('other', 'other')
    mend_shared_numbers('2.0.1')
    assert drawn() == ('one', 'other')
    mended = cache_randomness.__get__
    mend_shared_numbers('2.0.1')
    assert cache_randomness.__get__ is mended
