"""PFNet as the tests build it: from its configs, small or filled like the golden one."""

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmplugins.conversion.convert import rename_tensors
from mmplugins.testing import fill_state_dict
from tests.locations import ROOT
from tools.model_converters.pfnet import TABLE


def build(config):
    """Builds an mmseg model whatever the default scope."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(config)


def small_pfnet(head=None, **model):
    """PFNet on a narrow ResNet-18."""
    config = Config.fromfile(ROOT / 'configs/_base_/models/pfnet_r50.py').model
    config.backbone.update(depth=18, base_channels=8, stem_channels=8, init_cfg=None)
    config.decode_head.update(dict(in_channels=[8, 16, 32, 64], channels=[8, 16, 32, 64]) | (head or {}))
    for key, value in model.items():
        config[key] = value
    torch.manual_seed(0)
    return build(config)


def filled_pfnet():
    """PFNet on ResNet-50 from the shipped config, filled from the released names through the converter."""
    config = Config.fromfile(ROOT / 'configs/_base_/models/pfnet_r50.py').model
    config.backbone.init_cfg = None
    model = build(config)
    shapes = rename_tensors(model.state_dict(), TABLE, reverse=True)
    model.load_state_dict(rename_tensors(fill_state_dict(shapes), TABLE))
    return model


def data_samples(masks, **metainfo):
    """Data samples of masks (N, H, W)."""
    shape = tuple(masks.shape[1:])
    meta = dict(ori_shape=shape, img_shape=shape, pad_shape=shape, padding_size=[0, 0, 0, 0]) | metainfo
    return [SegDataSample(gt_sem_seg=PixelData(data=mask[None].long()), metainfo=dict(meta)) for mask in masks]
