"""The arithmetic of metrics, on numpy arrays and tensors."""

from .label_maps import ClassAreas, class_areas
from .panoptic import count_segments, panoptic_quality
from .video_objects import object_scores, series_statistics
from .video_results import object_results, results_table, summarize, write_results

__all__ = [
    'ClassAreas',
    'class_areas',
    'count_segments',
    'object_results',
    'object_scores',
    'panoptic_quality',
    'results_table',
    'series_statistics',
    'summarize',
    'write_results',
]
