"""DETR as our configs build it, without weights to download."""

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from tests.locations import ROOT


def build(num_classes: int, config: str = '_base_/models/detr_r50.py', depth: int = 50) -> nn.Module:
    """Builds the model of a config.

    Args:
        num_classes: Classes without no-object.
        config: File, from configs/.
        depth: Of the ResNet.
    """
    init_default_scope('mmdet')
    model = Config.fromfile(ROOT / 'configs' / config).model
    model.backbone.update(depth=depth, init_cfg=None)
    model.bbox_head.num_classes = num_classes
    return MODELS.build(model)
