"""Metrics of salient and camouflaged object detection, computed by PyPI's pysodmetrics.

S-measure (ICCV 2017, alpha 0.5), E-measure (IJCAI 2018), weighted F-measure (CVPR 2014), F-measure (beta squared 0.3)
and MAE. Follows PFNet's released ``infer.py`` up to the written map; the released evaluation is MATLAB code of the same
metrics. Deliberate difference: mmseg's EncoderDecoder resizes the logits to the image's own size and takes the sigmoid
then, the released code resizes the sigmoid map. A map that comes at another size is resized here as the released code
does it.
"""

import logging
import os.path as osp
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from PIL import Image

from mmplugins.registry import METRICS

INSTALL = 'pip install pysodmetrics==1.6.2'


@METRICS.register_module()
class SaliencyMetric(BaseMetric):
    """S-measure, E-measure, F-measure, weighted F-measure and MAE of foreground maps.

    It reads mmseg's data samples: ``seg_logits``, which EncoderDecoder has already put through the sigmoid if the head
    has one output channel, (1, H, W) in [0, 1]; or the logits of two classes, (2, H, W), whose softmax gives the
    foreground; and the mask in ``gt_sem_seg``, (1, H, W), of 0 and 1. Predictions merged by mmseg's SegTTAModel, which
    leaves the last augmentation's ``seg_logits``, are refused where that shows; ``mmplugins.SegTTAModel`` merges both.
    The steps for each image:

    1. The map becomes uint8 by cutting off the fraction of 255 times its value, as a released PNG has it.
    2. It is resized to the image's own size (``ori_shape``), bilinear, if it is not there yet; written if asked for.
    3. It is resized to the mask's size, should the mask's differ from the image's.
    4. pysodmetrics stretches the map to [0, 1] by its own minimum and maximum (a constant map stays as it is) and
       measures it; so all of them, MAE too, are those of the stretched map.

    A part of an image that is empty, as where the object lies in the last row or column, weighs nothing in the
    S-measure (in pysodmetrics it makes the whole set NaN). An object of one pixel has the S-measure 0 in pysodmetrics
    1.6.0 and older, whatever the map; the pack's extra asks for 1.6.2. Of constant maps the measures tell little: a
    black one has an adaptive F of about 0.3, for its threshold is 0, and E exceeds 1, for it is divided by the number
    of pixels less one; the log warns of them.

    Results are fractions under the names Sm, wFm, MAE, and adp (threshold twice the map's mean), mean and max (over 256
    thresholds, of the curve averaged over the images) of Em and Fm. Where data samples have the meta key
    'dataset_name', each test set is reported under it, as 'CAMO/Sm'.

    Args:
        output_dir: Folder for the maps as 8-bit grey PNG, ``<output_dir>/<dataset_name>/<image>.png``; None: none.
        format_only: Write the maps and measure nothing, for images without masks.
        **kwargs: What mmengine's BaseMetric takes (collect_device, prefix, collect_dir).

    Raises:
        ImportError: pysodmetrics is not installed.
        ValueError: ``format_only`` without ``output_dir``.
    """

    default_prefix = ''  # no prefix, and no warning of mmengine that there is none

    def __init__(self, output_dir: str | None = None, format_only: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        if format_only and output_dir is None:
            raise ValueError('format_only writes the maps and nothing else; say where with output_dir')
        if not format_only:
            _import_pysodmetrics()
        self.output_dir = output_dir
        self.format_only = format_only
        self._written: dict[str, str] = {}
        self._unnamed_folders: set[str] = set()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Measures and writes the maps of one batch.

        Args:
            data_batch: Not used.
            data_samples: Dicts of mmseg's SegDataSample, with ``seg_logits``, ``gt_sem_seg`` and meta keys.
        """
        for sample in data_samples:
            levels = _levels(_foreground(sample))
            levels = _resize(levels, tuple(sample.get('ori_shape', levels.shape)[:2]))
            if self.output_dir is not None:
                self._write(levels, sample)
            if not self.format_only:
                self._warn_if_merged(sample)
                mask = _mask(sample)
                self.results.append((sample.get('dataset_name'), measure(_resize(levels, mask.shape), mask)))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Averages over each test set.

        Args:
            results: Name of the test set and what ``measure`` returned, one pair an image, from all processes.

        Returns:
            Metrics by name; 'dataset_name/metric' where the test set has a name.

        Raises:
            ValueError: There are no results.
        """
        if self.format_only:
            print_log(f'maps are in {self.output_dir}', logger='current')
            return {}
        if not results:
            raise ValueError('no image was measured: the test set is empty; check data_root of the test_dataloader')
        metrics = {}
        for name in dict.fromkeys(name for name, _ in results):
            images = [values for key, values in results if key == name]
            summary = summarize(images)
            constant = sum(bool(image['constant']) for image in images)
            if constant > len(images) / 2:
                print_log(
                    f'{name or "test set"}: {constant} of {len(images)} maps are of one value, the predictions have '
                    'collapsed; F- and E-measure mean nothing then',
                    logger='current',
                    level=logging.WARNING,
                )
            line = '  '.join(f'{key} {value:.4f}' for key, value in summary.items())
            print_log(f'{name or "test set"} ({len(images)} images): {line}', logger='current')
            metrics.update({f'{name}/{key}' if name else key: value for key, value in summary.items()})
        return metrics

    def _write(self, levels: np.ndarray, sample: dict) -> None:
        path = osp.join(self.output_dir, sample.get('dataset_name') or '', Path(sample['img_path']).stem + '.png')
        other = self._written.setdefault(path, sample['img_path'])
        if other != sample['img_path']:
            raise ValueError(
                f'{other} and {sample["img_path"]} would both be written to {path}; give each data set a dataset_name '
                "and put 'dataset_name' into the meta_keys of PackSegInputs"
            )
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(path)

    def _warn_if_merged(self, sample: dict) -> None:
        folder = osp.dirname(sample.get('img_path', ''))
        if sample.get('dataset_name') is not None or folder in self._unnamed_folders:
            return
        self._unnamed_folders.add(folder)
        if len(self._unnamed_folders) == 2:
            warnings.warn(
                f'images of {sorted(self._unnamed_folders)} are reported as one test set; for one report each, give '
                "each data set a dataset_name and put 'dataset_name' into the meta_keys of PackSegInputs",
                stacklevel=2,
            )


def measure(levels: np.ndarray, mask: np.ndarray) -> dict[str, float | np.ndarray]:
    """Measures one map.

    Args:
        levels: Foreground map, shape (H, W), uint8.
        mask: The annotated mask, shape (H, W), bool.

    Returns:
        Floats Sm, wFm, MAE, adpEm, adpFm, constant (1 for a map of one value), and float64 curves Em, Fm, shape (256,),
        from the highest threshold down.
    """
    sod = _import_pysodmetrics()
    smeasure, emeasure, weighted, mae = _smeasure(sod), sod.Emeasure(), sod.WeightedFmeasure(), sod.MAE()
    fmeasure = sod.FmeasureV2({'fm': sod.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3)})
    truth = mask.astype(np.uint8) * 255  # pysodmetrics takes grey values above 128 for foreground
    for metric in (smeasure, emeasure, weighted, mae, fmeasure):
        metric.step(levels, truth)
    em, fm = emeasure.get_results()['em'], fmeasure.get_results()['fm']
    return {
        'Sm': smeasure.get_results()['sm'],
        'wFm': weighted.get_results()['wfm'],
        'MAE': mae.get_results()['mae'],
        'adpEm': em['adp'],
        'adpFm': fm['adaptive'],
        'Em': em['curve'],
        'Fm': fm['dynamic'],
        'constant': float(levels.min() == levels.max()),
    }


def summarize(images: list[dict[str, float | np.ndarray]]) -> dict[str, float]:
    """Averages the results of ``measure`` over a test set; mean and maximum are those of the average curve."""
    average = {key: np.mean([image[key] for image in images], axis=0) for key in images[0]}
    summary = {key: average[key] for key in ('Sm', 'wFm', 'MAE')}
    for key in ('Em', 'Fm'):
        summary.update({f'adp{key}': average[f'adp{key}'], f'mean{key}': average[key].mean()})
        summary[f'max{key}'] = average[key].max()
    return {key: float(value) for key, value in summary.items()}


def _smeasure(sod: Any) -> Any:
    """Returns pysodmetrics' S-measure, in which an empty part, whose weight is 0, has the similarity 0, not NaN."""

    class Smeasure(sod.Smeasure):
        def ssim(self, pred: np.ndarray, gt: np.ndarray) -> float:
            return super().ssim(pred, gt) if pred.size else 0.0

    return Smeasure(alpha=0.5)


def _import_pysodmetrics() -> Any:
    try:
        return import_module('py_sod_metrics')
    except ImportError as error:
        raise ImportError(f'SaliencyMetric needs pysodmetrics ({error}); run `{INSTALL}`') from error


def _foreground(sample: dict) -> np.ndarray:
    """Returns the foreground probability, shape (H, W), float32."""
    scores = sample['seg_logits']['data'].detach().float().cpu()
    if scores.dim() != 3 or scores.shape[0] not in (1, 2):
        raise ValueError(
            f'seg_logits must be (1, H, W) or (2, H, W), got {tuple(scores.shape)}; '
            'the metric is for one foreground class, a head with out_channels=1 or num_classes=2'
        )
    if scores.shape[0] == 2:
        scores = scores.softmax(dim=0)[1:]
    if not bool(((scores >= 0) & (scores <= 1)).all()):  # catches NaN too
        raise ValueError(
            f'seg_logits of one channel must be the sigmoid map in [0, 1], as EncoderDecoder gives it, got values from '
            f'{float(scores.min()):.3g} to {float(scores.max()):.3g} for {sample.get("img_path")}'
        )
    foreground = scores[0].numpy()
    if 'pred_sem_seg' in sample:
        _check_agreement(foreground, sample['pred_sem_seg']['data'].squeeze(0).cpu().numpy() == 1, sample)
    return foreground


def _check_agreement(foreground: np.ndarray, label: np.ndarray, sample: dict) -> None:
    """Raises ValueError if no threshold makes ``pred_sem_seg`` of ``seg_logits``: they are of two predictions."""
    if label.shape != foreground.shape:
        return
    inside, outside = foreground[label], foreground[~label]
    if inside.size and (inside.min() < 0.02 or (outside.size and outside.max() > inside.min() + 1e-3)):
        raise ValueError(
            f'pred_sem_seg of {sample.get("img_path")} calls a pixel of probability {inside.min():.3g} foreground'
            + (f' and one of {outside.max():.3g} background' if outside.size else '')
            + ": it is not that of seg_logits. mmseg's SegTTAModel merges pred_sem_seg alone; use "
            "tta_model=dict(type='mmplugins.SegTTAModel')"
        )


def _mask(sample: dict) -> np.ndarray:
    """Returns the annotated mask, shape (H, W), bool."""
    if 'gt_sem_seg' not in sample:
        raise ValueError(
            f'{sample.get("img_path")} has no mask (gt_sem_seg); put mmplugins.LoadBinaryMask into the test pipeline, '
            'or set format_only=True to write the maps alone'
        )
    mask = sample['gt_sem_seg']['data'].squeeze(0).cpu()
    if bool((mask > 1).any()):
        raise ValueError(
            f'the mask of {sample.get("img_path")} must hold 0 and 1, got {torch.unique(mask).tolist()[:10]}; '
            'load it with mmplugins.LoadBinaryMask'
        )
    own, network = tuple(sample.get('ori_shape', ())[:2]), tuple(sample.get('img_shape', ())[:2])
    if tuple(mask.shape) == network != own:
        raise ValueError(
            f'the mask of {sample.get("img_path")} has the size of the network input, {network}, and not the '
            f"image's, {own}; in the test pipeline put LoadBinaryMask after Resize"
        )
    return mask.numpy() == 1


def _levels(probability: np.ndarray) -> np.ndarray:
    """Turns [0, 1] into uint8 0 to 255, fractions cut off."""
    return (probability * 255).astype(np.uint8)


def _resize(levels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resizes to (height, width), bilinear by Pillow (smoothed where it shrinks); nothing happens at the same size."""
    if levels.shape == shape:
        return levels
    return np.asarray(Image.fromarray(levels).resize(shape[::-1], Image.Resampling.BILINEAR))
