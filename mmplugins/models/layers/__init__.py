"""Modules that two or more heads share; they need mmcv (mmcv-lite will do)."""
