"""Draws images, truth and predictions of a semantic segmentation model in one picture.

    python tools/analysis_tools/draw_results.py CONFIG CHECKPOINT --out grid.png

If the decode head trains with ``OhemCrossEntropyLoss``, a last column shows the pixels that the loss would train on:
its selection, made on the drawn validation images.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.fileio import get
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import load_checkpoint
from rich.progress import track
from torch import Tensor, nn

from mmplugins.engine.launch import CfgOptions, UsageError, check_checkpoint, check_data, load_config, use_cpu
from mmplugins.functional.hard_pixels import ohem_pixels
from mmplugins.functional.pixel_cross_entropy import pixel_cross_entropy
from mmplugins.models.losses import OhemCrossEntropyLoss

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.patches import Patch

UNLABELLED_COLOUR = (0, 0, 0)
KEPT_COLOUR = (255, 120, 0)


class Sample(NamedTuple):
    """A validation image and what the model made of it; H and W are the image's own height and width.

    Attributes:
        image: RGB, uint8, shape (H, W, 3).
        truth: Class indices, int64, shape (H, W).
        prediction: Class indices, int64, shape (H, W).
        logits: Shape (C, H, W); one channel for a binary model.
    """

    image: np.ndarray
    truth: Tensor
    prediction: Tensor
    logits: Tensor


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(description='Draw images, truth, predictions and the pixels that OHEM keeps.')
    parser.add_argument('config', help='config file of a semantic segmentation model')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', type=Path, required=True, help='picture to write (.png, .pdf, ...)')
    parser.add_argument('--num', type=int, default=6, help='number of validation images (default: 6)')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', help='override settings')
    parser.set_defaults(work_dir=None, launcher='none')
    args = parser.parse_args(argv)
    if args.num < 1:
        parser.error(f'--num must be at least 1, got {args.num}')
    try:
        cfg = load_config(args, str(Path(__file__).parent))  # as a file in tools/
        check_checkpoint(args.checkpoint, 'CHECKPOINT')
        check_data(cfg, 'val_dataloader')
        draw(cfg, args.checkpoint, args.num, args.out)
    except UsageError as error:
        sys.exit(f'draw_results.py: error: {error}')
    print(f'{args.out}')


def draw(cfg: Config, checkpoint: str, num: int, out: Path) -> None:
    """Predicts some validation images and writes the picture.

    Args:
        cfg: A config with ``val_dataloader`` and an mmseg-like model.
        checkpoint: Weights of the model.
        num: Number of images, taken at equal distances from the validation set.
        out: The picture.

    Raises:
        UsageError: The model's output holds no semantic segmentation.
    """
    if get_device() == 'cpu':
        use_cpu(cfg)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    model = MODELS.build(cfg.model)
    load_checkpoint(model, checkpoint, map_location='cpu')
    model.to(get_device()).eval()

    places = np.unique(np.linspace(0, len(dataset) - 1, num).round().astype(int))
    samples = [predict(model, dataset[int(place)]) for place in track(places, description='predicting')]
    loss, ignore_index = ohem_loss(model)
    kept = None if loss is None else kept_pixels(samples, loss, ignore_index, training_pixels(cfg))
    figure = draw_grid(samples, kept, dataset.metainfo['classes'], dataset.metainfo.get('palette'), ignore_index)
    figure.suptitle(f'{Path(cfg.filename).stem}: {Path(checkpoint).name}', fontsize=10, color='grey')
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    plt.close(figure)


def predict(model: nn.Module, data: dict) -> Sample:
    """Predicts one item of the validation set."""
    with torch.no_grad():
        result = model.test_step(pseudo_collate([data]))[0]
    for name in ('gt_sem_seg', 'pred_sem_seg', 'seg_logits'):
        if name not in result:
            raise UsageError(f"the model's output lacks {name}; this tool draws semantic segmentation (mmseg) models")
    image = _read_image(result.img_path)
    truth = result.gt_sem_seg.data.squeeze(0).long().cpu()
    return Sample(image, truth, result.pred_sem_seg.data.squeeze(0).long().cpu(), result.seg_logits.data.float().cpu())


def _read_image(path: str) -> np.ndarray:
    import mmcv

    return mmcv.imfrombytes(get(path), channel_order='rgb')


# What OHEM keeps ------------------------------------------------------------------------------------------------------


def ohem_loss(model: nn.Module) -> tuple[OhemCrossEntropyLoss | None, int]:
    """Finds the OHEM loss of the (last) decode head, None if there is none, and the head's ignored label."""
    head = model.decode_head
    if isinstance(head, nn.ModuleList):
        head = head[-1]
    losses = [module for module in head.modules() if isinstance(module, OhemCrossEntropyLoss)]
    return (losses[0] if losses else None), head.ignore_index


def training_pixels(cfg: Config) -> int | None:
    """Number of pixels of a training batch, None if the config does not tell."""
    size = (cfg.model.get('data_preprocessor') or {}).get('size') or cfg.get('crop_size')
    return cfg.train_dataloader.batch_size * size[0] * size[1] if size else None


def kept_pixels(
    samples: list[Sample], loss: OhemCrossEntropyLoss, ignore_index: int, batch_pixels: int | None
) -> list[np.ndarray]:
    """Selects pixels with the settings of an OHEM loss.

    Images of one size are one batch, as in training; else each image is its own. A ``min_kept`` that is a count belongs
    to a training batch and is scaled to the pixels that are there.

    Args:
        samples: The images.
        loss: The loss.
        ignore_index: Label that takes no part.
        batch_pixels: Number of pixels of a training batch; None: ``min_kept`` is taken as it is.

    Returns:
        For each image the kept pixels, bool, shape (H, W).
    """
    alike = len({sample.truth.shape for sample in samples}) == 1
    kept = []
    for batch in [samples] if alike else [[sample] for sample in samples]:
        logits = torch.stack([sample.logits for sample in batch])  # (N, C, H, W)
        label = torch.stack([sample.truth for sample in batch])  # (N, H, W)
        min_kept = loss.min_kept
        if isinstance(min_kept, int) and batch_pixels is not None:
            min_kept = round(min_kept * label.numel() / batch_pixels)
        hard = ohem_pixels(
            logits,
            label,
            pixel_cross_entropy(logits, label, ignore_index),
            loss.thresh,
            min_kept,
            loss.threshold_stride,
            ignore_index,
        )
        kept.extend(hard.kept.numpy())
    return kept


# The picture ----------------------------------------------------------------------------------------------------------


def draw_grid(
    samples: list[Sample],
    kept: list[np.ndarray] | None,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None,
    ignore_index: int,
) -> plt.Figure:
    """Draws a row for each image.

    Args:
        samples: The images.
        kept: For each image the pixels that OHEM keeps, bool, shape (H, W); None leaves the column out.
        classes: Names.
        palette: (R, G, B) of each class, 0 to 255; None for matplotlib's own colours.
        ignore_index: Label that is drawn as unlabelled.

    Returns:
        The figure.
    """
    if palette is None:
        palette = [[round(255 * part) for part in plt.get_cmap('tab20')(i % 20)[:3]] for i in range(len(classes))]
    titles = ['image', 'truth', 'prediction'] + ([] if kept is None else ['hard pixels (OHEM)'])
    height, width = samples[0].truth.shape
    cell = 2.8  # inches
    legend_height = 0.7 + 0.05 * len(classes)
    figure, axes = plt.subplots(
        len(samples),
        len(titles),
        figsize=(len(titles) * cell, len(samples) * (cell * height / width + 0.25) + legend_height),
        dpi=130,
        squeeze=False,
        layout='constrained',
    )
    figure.get_layout_engine().set(h_pad=0.02, w_pad=0.04)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=12)
    for i, (row, sample) in enumerate(zip(axes, samples, strict=True)):
        valid = sample.truth != ignore_index
        right = (sample.prediction == sample.truth)[valid].float().mean()
        pictures = [sample.image, *(colourise(index, palette) for index in (sample.truth, sample.prediction))]
        notes = ['', '', f'{right:.0%} of the pixels right' if valid.any() else 'no labels']
        if kept is not None:
            pictures.append(highlight(sample.image, kept[i]))
            notes.append(f'{kept[i].sum() / max(1, int(valid.sum())):.0%} of the pixels')
        for axis, picture, note in zip(row, pictures, notes, strict=True):
            axis.imshow(picture, interpolation='nearest')
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel(note, fontsize=9, labelpad=2)
            axis.spines[:].set_visible(False)

    seen = {
        index for sample in samples for part in (sample.truth, sample.prediction) for index in part.unique().tolist()
    }
    legend = [(name, palette[i]) for i, name in enumerate(classes) if i in seen]
    legend += [('unlabelled', UNLABELLED_COLOUR)] if seen - set(range(len(classes))) else []
    legend += [('hard', KEPT_COLOUR)] if kept is not None else []
    patches = [Patch(facecolor=np.array(colour) / 255, edgecolor='grey', label=name) for name, colour in legend]
    figure.legend(handles=patches, loc='outside lower center', ncols=5, frameon=False, fontsize=9)
    return figure


def colourise(index: Tensor, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Gives each class its colour and everything else the unlabelled one.

    Args:
        index: Class indices, shape (H, W).
        palette: (R, G, B) of each class, 0 to 255.

    Returns:
        uint8, shape (H, W, 3).
    """
    colours = np.full((256, 3), UNLABELLED_COLOUR, dtype=np.uint8)
    colours[: len(palette)] = palette
    return colours[index.clamp(0, 255).numpy()]


def highlight(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Colours the pixels of a mask, bool, shape (H, W), on a pale grey copy of an image, uint8, shape (H, W, 3)."""
    grey = 0.45 * image.mean(axis=2, keepdims=True) + 0.5 * 255
    return np.where(mask[..., None], np.array(KEPT_COLOUR), grey).astype(np.uint8)


if __name__ == '__main__':
    main()
