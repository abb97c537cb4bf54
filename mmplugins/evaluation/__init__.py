"""Evaluation; the registry imports the packages below when a type is built, this one imports nothing."""
