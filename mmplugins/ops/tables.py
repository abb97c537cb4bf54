"""Maps as tables, a row a pixel and a column a channel, and back."""

from torch import Tensor

from mmplugins.functional.device import full_precision


def table_of(maps: Tensor) -> Tensor:
    """Makes a table of maps.

    Args:
        maps: (B, C, H, W), floating.

    Returns:
        (B * H * W, C), float32 or float64, contiguous.
    """
    return full_precision(maps).permute(0, 2, 3, 1).flatten(0, 2).contiguous()


def add_to_map(maps: Tensor, table: Tensor) -> None:
    """Adds a table to the maps that it stands for.

    Args:
        maps: (B, C, H, W); changed in place.
        table: (B * H * W, C).
    """
    images, channels, height, width = maps.shape
    maps += table.view(images, height, width, channels).permute(0, 3, 1, 2).to(maps.dtype)
