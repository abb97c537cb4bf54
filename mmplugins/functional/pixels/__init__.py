"""Losses of single pixels and of regions, and the choice of hard pixels."""
