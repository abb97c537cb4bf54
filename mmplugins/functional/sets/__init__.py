"""Matching and losses of a set of predictions."""
