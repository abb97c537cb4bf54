"""Lets mmcv before 2.1.0 move all frames of a clip alike.

mmcv's TransformBroadcaster has a transform draw its random numbers once for all frames, by remembering what its methods
returned. Until 2.1.0 all transforms of a class shared the memory's owner: as soon as two of a class are alive, a call
of one may look into the other, and the frames of a clip are flipped or scaled apart, with or without an error.
"""

import copy

from mmcv.transforms.utils import cache_randomness

from mmplugins.hosts import older


def mend_shared_numbers(version: str) -> None:
    """Gives each transform an owner of its own, as mmcv 2.1.0 does.

    Args:
        version: Of mmcv; nothing is done from 2.1.0 on.
    """
    if not older(version, '2.1.0'):
        return
    bind = cache_randomness.__get__

    def bind_apart(self: cache_randomness, instance: object, owner: type | None = None) -> cache_randomness:
        return bind(copy.copy(self), instance, owner)

    if bind.__name__ != bind_apart.__name__:  # not yet mended
        cache_randomness.__get__ = bind_apart
