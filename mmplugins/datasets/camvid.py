"""CamVid: street scenes from a car, 11 classes (Brostow et al., Pattern Recognition Letters 2009)."""

from mmseg.datasets import BaseSegDataset

from mmplugins.registry import DATASETS


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid with the 11 classes and the split of SegNet.

    Label maps hold the class index of each pixel, 255 where unlabelled. Expected below ``data_root``, as the
    default ``data_prefix`` of our configs says: ``images/{train,val,test}/*.jpg`` and
    ``annotations/{train,val,test}/*.png``.

    Args:
        img_suffix: Suffix of the images.
        seg_map_suffix: Suffix of the label maps.
        reduce_zero_label: Whether label 0 means unlabelled; it does not.
        **kwargs: As mmseg's BaseSegDataset takes them.
    """

    METAINFO = dict(
        classes=(
            'sky',
            'building',
            'pole',
            'road',
            'pavement',
            'tree',
            'sign',
            'fence',
            'car',
            'pedestrian',
            'bicyclist',
        ),
        palette=[
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    )

    def __init__(
        self, img_suffix: str = '.jpg', seg_map_suffix: str = '.png', reduce_zero_label: bool = False, **kwargs
    ) -> None:
        super().__init__(
            img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, reduce_zero_label=reduce_zero_label, **kwargs
        )
