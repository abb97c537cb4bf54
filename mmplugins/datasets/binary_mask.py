"""Images with one binary mask each: salient and camouflaged object detection, and any other foreground and background.

Follows the released code of PFNet (CVPR 2021), which pairs ``image/x.jpg`` with ``mask/x.png``. Deliberate differences:
any of png, jpg and jpeg is taken on either side, faulty files are all named before training starts, and a mask is
binary (the released code trains on grey mask pixels as soft targets).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import path as osp
from typing import NamedTuple

import numpy as np
from mmengine import fileio
from mmseg.datasets import BaseSegDataset
from PIL.Image import Image

from mmplugins.registry import DATASETS

from .transforms.image_files import (
    grey_values,
    loader_turns,
    open_image,
    orientation_of,
    read_lines,
    turned_message,
)

SUFFIXES = ('.png', '.jpg', '.jpeg')
MAX_LISTED = 20


class FileFacts(NamedTuple):
    """What opening a file told.

    Attributes:
        size: Width and height in pixels.
        largest: Of a mask, the largest grey value.
        two_valued: Of a mask, whether there are no others but it and 0.
        orientation: Of an image, its EXIF orientation, 1 upright.
        error: What is wrong with the file, with its name.
    """

    size: tuple[int, int] | None = None
    largest: int = 0
    two_valued: bool = False
    orientation: int = 1
    error: str | None = None


@DATASETS.register_module()
class BinaryMaskDataset(BaseSegDataset):
    """A folder of images and a folder of masks, matched by the file name without its suffix.

    It is mmseg's BaseSegDataset with three differences: several suffixes are accepted at once, in any case; subfolders
    are not searched; and files are checked at construction. One error names every image without a mask, mask without
    an image, name that stands for two files, unreadable or truncated file, mask that is all background beside others
    because it holds 0 and 1, mask in an alpha channel, image with an EXIF orientation that the pipeline would apply
    and, for training, mask of another size than its image. Several data sets make one through mmengine's ConcatDataset.

    A pipeline loads the masks with ``mmplugins.LoadBinaryMask``: 0 background, 1 foreground. Put 'dataset_name' into
    the ``meta_keys`` of ``PackSegInputs``, and ``mmplugins.SaliencyMetric`` reports each test set under its name.

    Args:
        data_prefix: Folders ``img_path`` and ``seg_map_path`` below ``data_root``. Without ``seg_map_path`` there are
            no masks, which only ``test_mode`` allows.
        img_suffix: Suffixes of images.
        seg_map_suffix: Suffixes of masks; '_mask.png' matches ``x_mask.png`` with ``x.jpg``.
        mask_threshold: Grey value, 0 to 255, above which a mask's pixel is foreground.
        dataset_name: Name of the data set in a report of several.
        check_files: Read every file once at construction; False trusts them, the names are matched all the same.
        **kwargs: What BaseSegDataset takes. ``ann_file`` lists the names to use, one a line; with a suffix
            of images it says which of two files.

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: A folder holds no images, files are at fault, no mask of the set exceeds the threshold, or
            ``reduce_zero_label`` is set: 0 is the background.
    """

    METAINFO = dict(classes=('background', 'foreground'), palette=[[0, 0, 0], [255, 255, 255]])

    def __init__(
        self,
        data_prefix: dict | None = None,
        img_suffix: str | Sequence[str] = SUFFIXES,
        seg_map_suffix: str | Sequence[str] = SUFFIXES,
        mask_threshold: int = 127,
        dataset_name: str | None = None,
        check_files: bool = True,
        **kwargs,
    ) -> None:
        self.mask_threshold = mask_threshold
        self.dataset_name = dataset_name
        self.check_files = check_files
        if kwargs.get('reduce_zero_label'):
            raise ValueError(
                f'{type(self).__name__} has the labels 0, background, and 1, foreground, none of which can be left '
                'out; leave reduce_zero_label False'
            )
        super().__init__(
            data_prefix=dict(img_path='Imgs', seg_map_path='GT') if data_prefix is None else data_prefix,
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            **kwargs,
        )

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> None:
        """Returns None: ``metainfo`` may rename the two classes, but 0 stays the background."""
        return

    def load_data_list(self) -> list[dict]:
        """Pairs and checks the files; called by mmengine when the data set is initialised.

        Returns:
            One dict an image, sorted by name, as BaseSegDataset returns it, and ``mask_threshold``, ``dataset_name``.
        """
        with_masks = 'seg_map_path' in self.data_prefix
        if not (with_masks or self.test_mode):
            raise ValueError(
                f'training needs masks, got data_prefix={self.data_prefix}; add seg_map_path, or set test_mode=True'
            )
        images = self._files('img_path', self.img_suffix)
        masks = self._files('seg_map_path', self.seg_map_suffix) if with_masks else {}
        names = sorted(images)
        if self.ann_file:
            names = self._listed(images)
            if not names:
                raise ValueError(f'ann_file {self.ann_file} lists no names; give one a line, without suffix')

        problems = self._match(names, images, masks if with_masks else None)
        if self.check_files and not problems:
            problems = self._read([images[name][0] for name in names], [masks[name][0] for name in names if with_masks])
        if problems:
            raise ValueError(self._report(problems))
        return [self._data_info(images[name][0], masks[name][0] if with_masks else None) for name in names]

    def _data_info(self, image: str, mask: str | None) -> dict:
        info = dict(
            img_path=image,
            label_map=None,
            reduce_zero_label=self.reduce_zero_label,
            seg_fields=[],
            mask_threshold=self.mask_threshold,
            dataset_name=self.dataset_name,
        )
        return info if mask is None else dict(info, seg_map_path=mask)

    def _files(self, prefix: str, suffixes: str | Sequence[str]) -> dict[str, list[str]]:
        """Lists a folder: paths by name without suffix."""
        folder = self.data_prefix[prefix]
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise FileNotFoundError(f'{prefix} {folder} is no folder; check data_root and data_prefix')
        # the longest suffix first, so that of '.png' and '_mask.png' the latter is cut off
        suffixes = sorted((suffixes,) if isinstance(suffixes, str) else suffixes, key=len, reverse=True)
        files = {}
        for file in fileio.list_dir_or_file(folder, list_dir=False, backend_args=self.backend_args):
            suffix = next((suffix for suffix in suffixes if file.lower().endswith(suffix.lower())), None)
            if suffix is not None:
                files.setdefault(file[: -len(suffix)], []).append(osp.join(folder, file))
        if not files:
            raise ValueError(f'{prefix} {folder} holds no file that ends in one of {suffixes}, in upper or lower case')
        return files

    def _listed(self, images: dict[str, list[str]]) -> list[str]:
        """Reads the names of ann_file; of a name with a suffix, only that file stays among the images."""
        files = {osp.basename(path): (name, path) for name, paths in images.items() for path in paths}
        names = []
        for line in read_lines(self.ann_file, self.backend_args):
            name, path = files.get(line, (line, None))
            if path is not None and line not in images:
                images[name] = [path]
                line = name
            names.append(line)
        return names

    def _match(self, names: list[str], images: dict, masks: dict | None) -> list[str]:
        """Finds names that do not stand for exactly one image and one mask."""
        problems = []
        for kind, files in (('image', images), ('mask', masks)):
            if files is None:
                continue
            problems += [f'{name}: no {kind} in the folder' for name in names if name not in files]
            option = 'img_suffix' if kind == 'image' else 'seg_map_suffix'
            problems += [
                f'{name}: two {kind} files, {sorted(files[name])}; give {option} the suffix to use'
                for name in names
                if len(files.get(name, ())) > 1
            ]
        if masks is not None and not self.ann_file:
            problems += [f'{masks[name][0]}: no image of this name' for name in sorted(masks) if name not in images]
        return problems

    def _read(self, images: list[str], masks: list[str]) -> list[str]:
        """Reads every file and finds those at fault."""
        paths = images + masks
        with ThreadPoolExecutor() as pool:
            coarse = [True] * len(images) + [False] * len(masks)
            facts = dict(zip(paths, pool.map(self._file_facts, paths, coarse), strict=True))
        problems = [facts[path].error for path in paths if facts[path].error]
        if not self.test_mode:  # training transforms move image and mask together; a test resizes the prediction
            problems += [
                f'{image}: size {facts[image].size}, but its mask {facts[mask].size} (width, height)'
                for image, mask in zip(images, masks, strict=True)
                if facts[image].size and facts[mask].size and facts[image].size != facts[mask].size
            ]
        if masks and loader_turns(self.pipeline.transforms):
            problems += [
                turned_message(path, facts[path].orientation) for path in images if facts[path].orientation != 1
            ]
        largest = max((facts[path].largest for path in masks), default=0)
        if self.mask_threshold is not None and largest > self.mask_threshold:
            problems += [
                f'{path}: all background, its values are 0 and {facts[path].largest}, mask_threshold is '
                f'{self.mask_threshold}, and other masks go up to {largest}; save it as 0 and 255'
                for path in masks
                if facts[path].two_valued and 0 < facts[path].largest <= self.mask_threshold
            ]
        if self.mask_threshold is not None and 0 < largest <= self.mask_threshold:  # None: object numbers, a subclass's
            problems.append(
                f'no mask has a foreground: the largest grey value of all is {largest}, mask_threshold is '
                f'{self.mask_threshold}; for masks stored as 0 and 1 set mask_threshold=0'
            )
        return problems

    def _file_facts(self, path: str, coarse: bool) -> FileFacts:
        try:
            with open_image(path, self.backend_args) as image:
                size = image.size
                if coarse:  # a JPEG at an eighth of its size: all its bytes are read, few pixels are computed
                    tag = orientation_of(image)
                    image.draft('L', (1, 1))
                    image.load()
                    return FileFacts(size, orientation=tag)
                grey = self._mask_values(image, path)
                largest = int(grey.max(initial=0))
                return FileFacts(size, largest, two_valued=bool(((grey == 0) | (grey == largest)).all()))
        except Exception as error:  # Pillow raises errors of many kinds on damaged files
            ours = isinstance(error, ValueError) and path in str(error)
            return FileFacts(error=str(error) if ours else f'{path}: unreadable, {type(error).__name__}: {error}')

    def _mask_values(self, image: Image, path: str) -> np.ndarray:
        """Returns the grey values of a mask, uint8 (H, W)."""
        return grey_values(image, self.mask_threshold, path)

    def _report(self, problems: list[str]) -> str:
        listed = '\n  '.join(problems[:MAX_LISTED])
        more = f'\n  ... and {len(problems) - MAX_LISTED} more' if len(problems) > MAX_LISTED else ''
        return (
            f'{len(problems)} problem(s) with the files of {self.data_prefix}:\n  {listed}{more}\n'
            'Mend or remove the files, or list the names to use in ann_file.'
        )
