import pytest
import torch

from mmplugins.registry import MODELS


def build(**settings):
    return MODELS.build(dict(type='mmplugins.VOSDataPreprocessor', **settings))


def test_values():
    """A BGR pixel (3, 2, 1) with mean (1, 1, 1) and deviation (1, 2, 4) becomes (0, 0.5, 0.5)."""
    clip = torch.tensor([3, 2, 1], dtype=torch.uint8).view(1, 3, 1, 1).expand(4, 3, 5, 6)
    data = build(mean=[1.0] * 3, std=[1.0, 2.0, 4.0])({'inputs': [clip, clip], 'data_samples': [1, 2]})
    assert data['inputs'].shape == (2, 4, 3, 5, 6)
    assert data['inputs'].dtype == torch.float32
    assert data['inputs'][1, 2, :, 3, 4].tolist() == [0, 0.5, 0.5]
    assert data['data_samples'] == [1, 2]


def test_channels_in_order():
    clip = torch.tensor([3.0, 2.0, 1.0]).view(1, 3, 1, 1)
    data = build(mean=[0.0] * 3, std=[1.0] * 3, bgr_to_rgb=False)({'inputs': clip[None]})
    assert data['inputs'].flatten().tolist() == [3, 2, 1]
    assert data['data_samples'] is None


def test_unequal_clips():
    clips = [torch.zeros(2, 3, 5, 6), torch.zeros(2, 3, 5, 7)]
    with pytest.raises(ValueError, match=r'of one shape \(T, 3, H, W\), got \[\(2, 3, 5, 6\), \(2, 3, 5, 7\)\]; crop'):
        build()({'inputs': clips})
    with pytest.raises(ValueError, match=r'of one shape \(T, 3, H, W\), got \[\(3, 5, 6\)\]'):
        build()({'inputs': [torch.zeros(3, 5, 6)]})
