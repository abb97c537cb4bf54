"""The arithmetic of metrics, on numpy arrays."""

from .video_objects import object_scores, series_statistics
from .video_results import object_results, results_table, summarize, write_results

__all__ = ['object_results', 'object_scores', 'results_table', 'series_statistics', 'summarize', 'write_results']
