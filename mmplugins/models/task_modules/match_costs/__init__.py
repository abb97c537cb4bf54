"""Match costs; none of them needs mmdet or mmseg."""

__all__: list[str] = []
