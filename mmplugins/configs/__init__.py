"""Pure-Python configs (``read_base``): types are classes, bases are imported; docs/configs.md tells how to use them.

The configs of the papers are in ``configs/``. These are the same as the two of them that they are named after.
"""
