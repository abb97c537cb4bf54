"""Checkpoints of released codes: tables of names, and detectron2's pickles."""
