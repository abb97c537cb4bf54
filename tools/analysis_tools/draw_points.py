"""Draws where the mask loss of a Mask2Former falls: the sampled points over |logit| of the query that got an object.

    python tools/analysis_tools/draw_points.py CONFIG init iter_200.pth iter_1000.pth --out points.png

One row for each training image, with its largest object; one column for each checkpoint, 'init' being the network
before training. Dark is uncertain. Red points were chosen because they are uncertain, blue ones are anywhere. The
checkpoints see the same images, and all of them match objects and queries as in training, on random points.
"""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# Before torch starts its threads; tools/train.py says why.
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import set_random_seed
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmplugins.engine.checkpoints import load_weights
from mmplugins.engine.launch import CfgOptions, UsageError, check_checkpoint, check_data, load_config, use_cpu
from mmplugins.functional.masks.ignored import find_ignored
from mmplugins.functional.masks.sampled_logits import grid_values, uncertain_points
from mmplugins.functional.masks.sampled_masks import sample_masks
from mmplugins.visualization.figures import draw_outlined, new_figure
from mmplugins.visualization.figures import draw_points as draw_sampled

UNTRAINED = 'init'


class Target(NamedTuple):
    """A training image; H and W are those of the padded input.

    Attributes:
        image: RGB, uint8, shape (H, W, 3), padding black.
        labels: Of the G objects, int64, shape (G,).
        masks: bool, shape (G, H, W).
        valid: bool, shape (H, W), False for ignored pixels; None: there are none.
        largest: Index of the object with the most pixels.
    """

    image: np.ndarray
    labels: Tensor
    masks: Tensor
    valid: Tensor | None
    largest: int


class Points(NamedTuple):
    """What a checkpoint makes of a target.

    Attributes:
        certainty: |logit| of the matched query, shape (h, w).
        points: x,y in 0 to 1, shape (P, 2), those chosen by uncertainty first.
        num_uncertain: How many of them were chosen by uncertainty.
        score: Probability that the query gives to the object's class.
    """

    certainty: np.ndarray
    points: np.ndarray
    num_uncertain: int
    score: float


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(description='Draw the points that the mask loss of Mask2Former samples.')
    parser.add_argument('config', help='config file of a Mask2Former')
    parser.add_argument(
        'checkpoints', nargs='+', help=f"checkpoint files, a column each; '{UNTRAINED}': before training"
    )
    parser.add_argument('--out', type=Path, required=True, help='picture to write (.png, .pdf, ...)')
    parser.add_argument('--num', type=int, default=3, help='number of training images (default: 3)')
    parser.add_argument('--seed', type=int, default=0, help='of the augmentation, weights and points (default: 0)')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', help='override settings')
    parser.set_defaults(work_dir=None, launcher='none')
    args = parser.parse_args(argv)
    if args.num < 1:
        parser.error(f'--num must be at least 1, got {args.num}')
    try:
        cfg = load_config(args, str(Path(__file__).parent))  # as a file in tools/
        for checkpoint in args.checkpoints:
            if checkpoint != UNTRAINED:
                check_checkpoint(checkpoint, 'CHECKPOINT')
        check_data(cfg, 'train_dataloader')
        draw(cfg, args.checkpoints, args.num, args.seed, args.out)
    except UsageError as error:
        sys.exit(f'draw_points.py: error: {error}')
    print(f'{args.out}')


def draw(cfg: Config, checkpoints: Sequence[str], num: int, seed: int, out: Path) -> None:
    """Samples the points of some training images and writes the picture.

    Args:
        cfg: A config with ``train_dataloader`` and a Mask2Former of mmdet or mmseg with our head.
        checkpoints: Weights of the model, or ``UNTRAINED``.
        num: Number of images, taken at equal distances from the training set.
        seed: Of everything random.
        out: The picture.

    Raises:
        UsageError: The head samples no points.
    """
    if get_device() == 'cpu':
        use_cpu(cfg)
    set_random_seed(seed)
    model = MODELS.build(cfg.model)
    model.init_weights()
    if not hasattr(head_of(model), 'num_points'):
        raise UsageError('the head samples no points; this tool draws those of Mask2Former (train_cfg.num_points)')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    places = np.unique(np.linspace(0, len(dataset) - 1, num).round().astype(int))
    items = [dataset[int(place)] for place in places]
    rows: list[tuple[Target, list[Points]]] = []
    for column, checkpoint in enumerate(checkpoints):
        if checkpoint != UNTRAINED:
            load_weights(model, checkpoint, 'CHECKPOINT')
        model.to(get_device()).eval()
        for row, item in enumerate(items):
            torch.manual_seed(seed)
            target, found = sample_points(model, item)
            if column == 0:
                rows.append((target, []))
            rows[row][1].append(found)
    figure = draw_grid(rows, [Path(name).stem if name != UNTRAINED else 'before training' for name in checkpoints])
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def head_of(model: nn.Module) -> nn.Module:
    """Returns the head of mmdet's Mask2Former or mmseg's EncoderDecoder."""
    return model.panoptic_head if hasattr(model, 'panoptic_head') else model.decode_head


@torch.no_grad()
def sample_points(model: nn.Module, item: dict) -> tuple[Target, Points]:
    """Samples the points of an image's largest object.

    1. Predict, the last layer of the decoder.
    2. Match all objects and queries on random points, as in training.
    3. Sample the points of the largest object's query.

    Args:
        model: With our head; in evaluation mode.
        item: Of the training set.

    Returns:
        The target and its points.

    Raises:
        UsageError: The image has no objects.
    """
    head = head_of(model)
    data = model.data_preprocessor(pseudo_collate([item]), training=True)
    sample = data['data_samples'][0]
    scores, masks = (layers[-1][0] for layers in head(model.extract_feat(data['inputs']), [sample]))  # step 1
    target = target_of(head, item, sample, data['inputs'].shape[-2:])

    points = torch.rand(head.num_points, 2, device=masks.device)
    predictions = InstanceData(scores=scores, masks=grid_values(masks.float(), points))
    objects = InstanceData(labels=target.labels, masks=sample_masks(target.masks, points))
    assigned = head.assigner.assign(predictions, objects, img_meta=sample.metainfo)  # step 2
    query = int((assigned.gt_inds == target.largest + 1).nonzero()[0])

    (ignored,) = find_ignored([target.valid], 1, masks.shape[-2:])
    chosen, _ = uncertain_points(
        masks[query][None].float(),
        head.num_points,
        head.oversample_ratio,
        head.importance_sample_ratio,
        valid_points=None if ignored is None else ignored.valid_points,
    )  # step 3
    score = scores[query].softmax(-1)[target.labels[target.largest]].item()
    num_uncertain = int(head.importance_sample_ratio * head.num_points)
    return target, Points(masks[query].abs().cpu().numpy(), chosen[0].cpu().numpy(), num_uncertain, score)


def target_of(head: nn.Module, item: dict, sample: object, size: Sequence[int]) -> Target:
    """Returns the objects of an image as the head sees them.

    Args:
        head: Our head for mmdet or for mmseg.
        item: Of the training set, for the image.
        sample: The preprocessed data sample.
        size: H and W of the padded input.
    """
    image = np.zeros((*size, 3), dtype=np.uint8)
    pixels = item['inputs'].numpy()[::-1].transpose(1, 2, 0)  # BGR, as mmcv reads it
    image[: pixels.shape[0], : pixels.shape[1]] = pixels
    (target,) = head.targets([sample])
    labels, masks = target['labels'], target['masks']
    if not len(labels):
        raise UsageError(f'{sample.get("img_path")} has no objects as augmented; take another --seed or --num')
    return Target(image, labels, masks, target.get('valid'), int(masks.flatten(1).sum(1).argmax()))


def draw_grid(rows: Sequence[tuple[Target, Sequence[Points]]], titles: Sequence[str]) -> Figure:
    """Draws a row for each target: the image with the object's outline, and its points for each checkpoint.

    Args:
        rows: Targets, and for each its points for each checkpoint.
        titles: Of the checkpoints.

    Returns:
        The figure.
    """
    height, width = rows[0][0].image.shape[:2]
    columns = 1 + len(titles)
    size = (2.6 * columns, 2.6 * len(rows) * height / width + 0.6)
    figure, axes = new_figure(len(rows), columns, size)
    for row, (target, found) in zip(axes, rows, strict=True):
        draw_outlined(row[0], target.image, target.masks[target.largest].cpu().numpy())
        for axis, one in zip(row[1:], found, strict=True):
            draw_sampled(axis, one.certainty, one.points, one.num_uncertain, target.image.shape[0] / width)
            axis.set_xlabel(f'class probability {one.score:.2f}', fontsize=7)
    for axis, title in zip(axes[0], ['image, largest object', *titles], strict=True):
        axis.set_title(title, fontsize=9)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.supxlabel('|logit| of the matched query, dark: near 0; points: red uncertain, blue anywhere', fontsize=8)
    return figure


if __name__ == '__main__':
    main()
