"""Draws images, truth and predictions of a segmentation model in one picture.

    python tools/analysis_tools/draw_results.py CONFIG CHECKPOINT --out grid.png

What the columns show follows the model: classes in their colours, or, for a model with one channel, the mask and the
predicted probability. If the decode head trains with ``OhemCrossEntropyLoss``, a last column shows the pixels that the
loss would train on: its selection, made on the drawn validation images. With ``StructureLoss`` a column shows its edge
weight. Of a model of objects and regions (instance or panoptic, mmdet) the predicted segments are drawn.
"""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

# Before torch starts its threads; tools/train.py says why.
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.fileio import get
from mmengine.registry import DATASETS, MODELS
from mmengine.structures import BaseDataElement
from result_columns import (
    Sample,
    Segments,
    binary_columns,
    class_columns,
    edge_weight_column,
    find_loss,
    hard_pixel_column,
    segment_column,
)
from rich.progress import track
from torch import nn

from mmplugins.datasets.transforms.image_files import loader_turns
from mmplugins.engine.checkpoints import load_weights
from mmplugins.engine.launch import CfgOptions, UsageError, check_checkpoint, check_data, load_config, use_cpu
from mmplugins.evaluation.metrics.coco_panoptic_metric import INSTANCE_OFFSET
from mmplugins.models.losses import OhemCrossEntropyLoss, StructureLoss
from mmplugins.visualization.figures import Column, Legend, draw_columns


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(description='Draw images, truth, predictions and what the loss looks at.')
    parser.add_argument('config', help='config file of a segmentation model')
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
        cfg: A config with ``val_dataloader`` and a model like mmseg's, or mmdet's of instance or panoptic masks.
        checkpoint: Weights of the model.
        num: Number of images, taken at equal distances from the validation set.
        out: The picture.

    Raises:
        UsageError: The model's output holds no segmentation.
    """
    if get_device() == 'cpu':
        use_cpu(cfg)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    model = MODELS.build(cfg.model)
    load_weights(model, checkpoint, 'CHECKPOINT')
    model.to(get_device()).eval()

    num_classes = len(dataset.metainfo['classes'])
    places = np.unique(np.linspace(0, len(dataset) - 1, num).round().astype(int))
    turned = loader_turns(dataset.pipeline.transforms)
    samples = [
        predict(model, dataset[int(place)], num_classes, turned) for place in track(places, description='predicting')
    ]
    figure = draw_columns(*columns_of(samples, model, cfg, dataset.metainfo))
    figure.suptitle(f'{Path(cfg.filename).stem}: {Path(checkpoint).name}', fontsize=10, color='grey')
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def predict(model: nn.Module, data: dict, num_classes: int, turned: bool = True) -> Sample | Segments:
    """Predicts one item of the validation set; ``turned`` says whether its loader applies orientation tags."""
    with torch.no_grad():
        result = model.test_step(pseudo_collate([data]))[0]
    if 'pred_panoptic_seg' in result or 'masks' in result.get('pred_instances', {}):
        return _segments(result, num_classes, turned)
    for name in ('gt_sem_seg', 'pred_sem_seg', 'seg_logits'):
        if name not in result:
            raise UsageError(f"the model's output lacks {name}; this tool draws models of segmentation")
    image = _read_image(result.img_path, turned)
    truth = result.gt_sem_seg.data.squeeze(0).long().cpu()
    return Sample(image, truth, result.pred_sem_seg.data.squeeze(0).long().cpu(), result.seg_logits.data.float().cpu())


def _segments(result: BaseDataElement, num_classes: int, turned: bool) -> Segments:
    """Gives the panoptic segments of a prediction, or its instances above a score of 0.5, the surest on top."""
    image = _read_image(result.img_path, turned)
    classes = torch.full(image.shape[:2], -1)
    numbers = torch.full(image.shape[:2], -1)
    if 'pred_panoptic_seg' in result:
        found = torch.as_tensor(result.pred_panoptic_seg.sem_seg).squeeze(0).long().cpu()  # class + 1000 * instance
        for number in found.unique().tolist():
            if number % INSTANCE_OFFSET < num_classes:
                classes[found == number] = number % INSTANCE_OFFSET
                numbers[found == number] = number
        return Segments(image, classes, numbers)
    instances = result.pred_instances.cpu()
    for index in instances.scores.argsort().tolist():
        if instances.scores[index] > 0.5:
            classes[instances.masks[index]] = instances.labels[index]
            numbers[instances.masks[index]] = index
    return Segments(image, classes, numbers)


def _read_image(path: str, turned: bool) -> np.ndarray:
    import mmcv

    flag = 'color' if turned else 'color_ignore_orientation'
    return mmcv.imfrombytes(get(path), flag, channel_order='rgb', backend='cv2')


def columns_of(samples: list[Sample], model: nn.Module, cfg: Config, metainfo: dict) -> tuple[list[Column], Legend]:
    """Chooses the columns that fit a model, and gives their legend."""
    image = Column('image', [sample.image for sample in samples], [''] * len(samples))
    if isinstance(samples[0], Segments):
        column, legend = segment_column(samples, metainfo['classes'], metainfo['palette'])
        return [image, column], legend
    structure, ignore_index = find_loss(model, StructureLoss)
    if len(samples[0].logits) == 1:
        (mask, prediction), legend = binary_columns(samples, ignore_index)
        weights = [] if structure is None else [edge_weight_column(samples, structure, ignore_index)]
        return [image, mask, *weights, prediction], legend
    columns, legend = class_columns(samples, metainfo['classes'], metainfo.get('palette'), ignore_index)
    ohem, _ = find_loss(model, OhemCrossEntropyLoss)
    if ohem is None:
        return [image, *columns], legend
    hard, hard_legend = hard_pixel_column(samples, ohem, ignore_index, training_pixels(cfg))
    return [image, *columns, hard], legend + hard_legend


def training_pixels(cfg: Config) -> int | None:
    """Number of pixels of a training batch, None if the config does not tell."""
    size = (cfg.model.get('data_preprocessor') or {}).get('size') or cfg.get('crop_size')
    return cfg.train_dataloader.batch_size * size[0] * size[1] if size else None


if __name__ == '__main__':
    main()
