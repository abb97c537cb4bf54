"""Assigners for mmdet's heads. Without mmdet they are placeholders that say what to install."""

__all__: list[str] = []
