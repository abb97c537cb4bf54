"""What heads match with: costs and assigners. As in mmdet; its module path, not mmseg's."""
