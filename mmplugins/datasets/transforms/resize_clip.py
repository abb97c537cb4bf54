"""Resizes frames to the sizes that AOT takes.

Follows the released code of AOT (``dataloaders/video_transforms.py``, ``MultiRestrictSize``). Deliberate differences:
one scale, and no mask is touched, as there in tests.
"""

import mmcv
from mmcv.transforms import BaseTransform

from mmplugins.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeClip(BaseTransform):
    """Shrinks frames to bounds, then rounds their sides to ``stride`` k + 1, or ``stride`` k.

    1. Scale by ``max_short_edge`` / shorter side if that is below 1.
    2. Scale by ``max_long_edge`` / longer side if that is still below 1. Sides are cut to integers.
    3. Round each side to the nearest size that fits; the ratio of the sides changes a little.

    Masks keep their size: predictions are compared, and masks given, at the original one.

    Required Keys:

    - img (list of np.uint8 or np.float32, shape (H, W, 3))

    Modified Keys:

    - img

    Added Keys:

    - img_shape, (H, W)

    Args:
        max_short_edge: Bound of the shorter side in pixels; None: no bound.
        max_long_edge: Bound of the longer side in pixels; None: no bound.
        stride: Of the network's coarsest features.
        align_corners: Whether sizes are ``stride`` k + 1; else ``stride`` k.
        interpolation: As mmcv's ``imresize`` takes it.
    """

    def __init__(
        self,
        max_short_edge: float | None = None,
        max_long_edge: float | None = 1040,
        stride: int = 16,
        align_corners: bool = True,
        interpolation: str = 'bilinear',
    ) -> None:
        self.max_short_edge = max_short_edge
        self.max_long_edge = max_long_edge
        self.stride = stride
        self.align_corners = align_corners
        self.interpolation = interpolation

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """Returns the height and width that frames of a size get."""
        sides = float(height), float(width)
        for bound, edge in ((self.max_short_edge, min), (self.max_long_edge, max)):  # 1., 2.
            if bound is not None and edge(sides) > bound:
                scale = bound / edge(sides)
                sides = sides[0] * scale, sides[1] * scale
        extra = int(self.align_corners)
        sides = [max(1, round((int(side) - extra) / self.stride)) * self.stride + extra for side in sides]  # 3.
        return sides[0], sides[1]

    def transform(self, results: dict) -> dict:
        """Resizes the frames of one clip."""
        height, width = self.size_for(*results['img'][0].shape[:2])
        results['img'] = [
            mmcv.imresize(frame, (width, height), interpolation=self.interpolation) for frame in results['img']
        ]
        results['img_shape'] = (height, width)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(max_short_edge={self.max_short_edge}, max_long_edge={self.max_long_edge}, '
            f'stride={self.stride}, align_corners={self.align_corners}, interpolation={self.interpolation!r})'
        )
