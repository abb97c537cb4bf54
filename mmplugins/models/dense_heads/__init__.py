"""Dense heads for mmdet's detectors. Without mmdet they are placeholders that say what to install."""

__all__: list[str] = []
