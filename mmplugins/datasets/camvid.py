"""CamVid: street scenes from a car, 11 classes (Brostow et al., Pattern Recognition Letters 2009)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from mmengine import fileio
from mmseg.datasets import BaseSegDataset

from mmplugins.registry import DATASETS

from .transforms.image_files import open_image

IGNORED = 255
MAX_LISTED = 20


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
        check_files: Read every file once at construction; False trusts them.
        **kwargs: As mmseg's BaseSegDataset takes them.

    Raises:
        FileNotFoundError: There is no folder of images.
        ValueError: It has no images; or files are at fault: images without a label map, unreadable or truncated files,
            a label map of another size, with colours or with labels that are neither classes nor 255.
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
        self,
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        reduce_zero_label: bool = False,
        check_files: bool = True,
        **kwargs,
    ) -> None:
        self.check_files = check_files
        super().__init__(
            img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, reduce_zero_label=reduce_zero_label, **kwargs
        )

    def load_data_list(self) -> list[dict]:
        """Lists and checks the files; called by mmengine when the data set is initialised.

        Returns:
            One dict an image, as BaseSegDataset returns it.
        """
        folder = self.data_prefix['img_path']
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise FileNotFoundError(f'img_path {folder} is no folder; check data_root and data_prefix')
        infos = super().load_data_list()
        if not infos:
            raise ValueError(f'there is no image that ends in {self.img_suffix} in {folder}; check img_suffix')
        paths = [info['seg_map_path'] for info in infos if 'seg_map_path' in info]
        missing = [path for path in paths if not fileio.exists(path, backend_args=self.backend_args)]
        if missing:
            raise ValueError(
                f'{len(missing)} of {len(infos)} images have no label map, such as {missing[0]}; check '
                'data_prefix.seg_map_path and seg_map_suffix'
            )
        if self.check_files:
            with ThreadPoolExecutor() as pool:
                problems = [problem for found in pool.map(self._problems, infos) for problem in found]
            if problems:
                raise ValueError(_report(problems, folder))
        return infos

    def _problems(self, info: dict) -> list[str]:
        """Reads an image and its label map; says what is wrong with them."""
        sizes, problems = [], []
        for path in (info['img_path'], info.get('seg_map_path')):
            if path is None:
                continue
            try:
                with open_image(path, self.backend_args) as image:
                    sizes.append(image.size)
                    if path == info['img_path']:
                        image.draft('L', (1, 1))  # all bytes are read, few pixels are computed
                        image.load()
                    elif image.mode not in ('L', 'P', '1') and not image.mode.startswith('I'):
                        problems.append(f'{path}: mode {image.mode} has colours, no labels; save it as a grey image')
                    else:
                        problems += self._label_problems(np.asarray(image), path)
            except Exception as error:  # Pillow raises errors of many kinds on damaged files
                problems.append(f'{path}: unreadable, {type(error).__name__}: {error}')
        if not problems and len(set(sizes)) > 1:
            problems.append(f'{info["img_path"]}: size {sizes[0]}, but its label map {sizes[1]} (width, height)')
        return problems

    def _label_problems(self, label: np.ndarray, path: str) -> list[str]:
        number = len(self.METAINFO['classes']) + int(self.reduce_zero_label)
        wrong = np.setdiff1d(label, [*range(number), IGNORED]).tolist()
        if not wrong:
            return []
        return [f'{path}: labels {wrong[:10]}, but there are {number} classes, 0 to {number - 1}, and {IGNORED}']


def _report(problems: Sequence[str], folder: str) -> str:
    listed = '\n  '.join(problems[:MAX_LISTED])
    more = f'\n  ... and {len(problems) - MAX_LISTED} more' if len(problems) > MAX_LISTED else ''
    return f'{len(problems)} problem(s) with the files of {folder}:\n  {listed}{more}\nMend or remove the files.'
