"""Pictures of masks."""

from .object_masks import object_palette, paint_objects, write_index_image

__all__ = ['object_palette', 'paint_objects', 'write_index_image']
