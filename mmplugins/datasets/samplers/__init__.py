"""Samplers of data loaders; they need no host."""

from .video_sampler import VideoSampler

__all__ = ['VideoSampler']
