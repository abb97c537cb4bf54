import pytest

from tests.ops.plain import use_plain


@pytest.fixture
def plain(monkeypatch):
    """Lets mmcv's functions call the plain operators."""
    use_plain(monkeypatch)
