"""Draws what each loss does, one picture a loss: ``python docs/draw_losses.py`` writes docs/images/losses/.

All pictures show one made-up scene and one imitated prediction: the true map, blurred and disturbed. A gradient is that
of the loss to the logits, as autograd gives it; its size at a pixel says how much the pixel moves the network.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'tools' / 'dataset_converters')]

from sample_scenes import CLASSES, draw_scene, render  # noqa: E402

from mmplugins.functional.masks.sampled_logits import uncertain_points  # noqa: E402
from mmplugins.functional.pixels.cross_entropy import pixel_cross_entropy  # noqa: E402
from mmplugins.functional.pixels.hard_pixels import ohem_pixels  # noqa: E402
from mmplugins.functional.pixels.regions import edge_weight  # noqa: E402
from mmplugins.models.losses import (  # noqa: E402
    BCEIoULoss,
    DenseMaskLoss,
    SetCriterion,
    SoftIoULoss,
    SoftJaccardLoss,
    StructureLoss,
    TopKCrossEntropyLoss,
)

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

SIZE, SEED = (144, 192), 3
IGNORED = 255
KEPT = (1.0, 0.55, 0.0)  # orange, as in the pictures of tools/analysis_tools/draw_results.py
COLOURS = np.array(list(CLASSES.values())) / 255


class Scene:
    """What all pictures are drawn from.

    Attributes:
        image: RGB in 0 to 1, (H, W, 3).
        label: Classes, int64, (1, H, W); 255 where shapes touch.
        logits: Of the imitated prediction, (1, C, H, W).
        mask: The largest object, bool, (1, H, W).
        mask_logits: Of the imitated prediction, (1, 1, H, W).
    """

    def __init__(self) -> None:
        drawn = draw_scene(np.random.default_rng(SEED), *SIZE)
        rendered = render(drawn)
        self.image = rendered.image / 255
        self.label = torch.from_numpy(rendered.semantic.astype(np.int64))[None]
        torch.manual_seed(SEED)
        classes = F.one_hot(self.label * (self.label != IGNORED), len(CLASSES)).permute(0, 3, 1, 2).float()
        self.logits = 7 * blur(classes, 3) + 2 * rough((1, len(CLASSES), *SIZE), 5)
        self.mask = torch.from_numpy(max(rendered.masks, key=lambda mask: mask.sum()).astype(bool))[None]
        self.mask_logits = 8 * blur(self.mask[None].float(), 5) - 4 + 1.5 * rough((1, 1, *SIZE), 6)


def blur(maps: Tensor, sigma: float) -> Tensor:
    """Smooths maps (N, C, H, W)."""
    radius = int(3 * sigma)
    kernel = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(maps.shape[1], 1, -1)
    for axes in (kernel[:, :, :, None], kernel[:, :, None]):
        padding = (axes.shape[2] // 2, axes.shape[3] // 2)
        maps = F.conv2d(F.pad(maps, (padding[1],) * 2 + (padding[0],) * 2, 'replicate'), axes, groups=maps.shape[1])
    return maps


def rough(shape: tuple[int, ...], sigma: float) -> Tensor:
    """Draws smooth noise of standard deviation 1."""
    noise = blur(torch.randn(shape), sigma)
    return noise / noise.std()


def gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """Returns the size of a loss's gradient at each pixel, (H, W)."""
    logits = logits.clone().requires_grad_()
    loss(logits).backward()
    return logits.grad[0].norm(dim=0)


# Panels ---------------------------------------------------------------------------------------------------------------


def draw(path: Path, panels: Mapping[str, Callable[[plt.Axes], None]]) -> None:
    """Writes a row of panels."""
    figure, axes = plt.subplots(1, len(panels), figsize=(2.9 * len(panels), 2.6), dpi=90, layout='constrained')
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        panel(axis)
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
    with BytesIO() as buffer:
        figure.savefig(buffer)
        Image.open(buffer).convert('RGB').quantize(200).save(path, optimize=True)  # a fifth of the size
    plt.close(figure)


def picture(image: np.ndarray) -> Callable[[plt.Axes], None]:
    """An image."""
    return lambda axis: axis.imshow(image)


def field(values: Tensor, cmap: str = 'magma', **limits: float) -> Callable[[plt.Axes], None]:
    """A map of numbers."""
    return lambda axis: axis.imshow(values.numpy(), cmap=cmap, **limits)


def kept(image: np.ndarray, chosen: Tensor) -> Callable[[plt.Axes], None]:
    """The pixels that a loss keeps, in orange over the image."""
    grey = np.repeat(image.mean(2, keepdims=True), 3, 2) * 0.6 + 0.2
    return picture(np.where(chosen.numpy()[..., None], KEPT, grey))


# Losses ---------------------------------------------------------------------------------------------------------------


def ohem(scene: Scene) -> dict:
    """The pixels below the threshold."""
    loss = pixel_cross_entropy(scene.logits, scene.label, IGNORED)
    panels = {
        'image': picture(scene.image),
        'prediction': picture(COLOURS[scene.logits[0].argmax(0)]),
        'probability of the true class': field((-loss[0]).exp(), 'viridis', vmin=0, vmax=1),
    }
    for min_kept in (0, 10_000):
        hard = ohem_pixels(scene.logits, scene.label, loss, thresh=0.7, min_kept=min_kept).kept[0]
        panels[f'kept: min_kept={min_kept:,} ({float(hard.float().mean()):.0%})'] = kept(scene.image, hard)
    return panels


def topk(scene: Scene) -> dict:
    """The share that is kept, along a training."""
    loss = TopKCrossEntropyLoss(top_k_percent_pixels=0.15, hard_example_mining_step=1000)
    panels = {'image': picture(scene.image), 'prediction': picture(COLOURS[scene.logits[0].argmax(0)])}
    for step in (0, 500, 1000):
        hard = gradient(lambda x, step=step: loss(x, scene.label, step=step), scene.logits) > 0
        panels[f'kept at step {step:,} of 1,000 ({float(hard.float().mean()):.0%})'] = kept(scene.image, hard)
    return panels


def jaccard(scene: Scene) -> dict:
    """What the size of a class does to its gradient."""
    plain = gradient(lambda x: F.cross_entropy(x, scene.label, ignore_index=IGNORED), scene.logits)
    soft = gradient(lambda x: SoftJaccardLoss()(x, scene.label), scene.logits)
    return {
        'image': picture(scene.image),
        'true classes': picture(np.where(scene.label[0, ..., None] == IGNORED, 0, COLOURS[scene.label[0] % IGNORED])),
        'gradient of cross entropy': field(plain),
        'gradient of the soft Jaccard loss': field(soft),
    }


def regions(scene: Scene, loss: Callable[[Tensor, Tensor], Tensor], name: str) -> dict:
    """A loss on a binary mask beside binary cross entropy."""
    target = scene.mask[:, None].float()
    return {
        'image': picture(scene.image),
        'predicted probability': field(scene.mask_logits[0, 0].sigmoid(), 'gray'),
        'gradient of cross entropy': field(
            gradient(lambda x: F.binary_cross_entropy_with_logits(x, target), scene.mask_logits)
        ),
        f'gradient of {name}': field(gradient(lambda x: loss(x, scene.mask), scene.mask_logits)),
    }


def structure(scene: Scene) -> dict:
    """The weight near the edge."""
    panels = regions(scene, StructureLoss(variant='paper'), 'the structure loss')
    weight = field(edge_weight(scene.mask[:, None].float())[0, 0], 'viridis')
    return {**dict(list(panels.items())[:2]), 'weight: 1 to 6': weight, **dict(list(panels.items())[2:])}


def points(scene: Scene) -> dict:
    """Where the mask loss samples."""
    panels = {'image': picture(scene.image), '|logit|, dark is uncertain': field(scene.mask_logits[0, 0].abs(), 'gray')}
    for share, title in ((0.0, 'anywhere'), (0.75, 'three quarters uncertain')):
        torch.manual_seed(SEED)
        chosen, _ = uncertain_points(scene.mask_logits[0], 600, 3.0, share)
        num_uncertain = int(share * 600)
        panels[f'600 points, {title}'] = scatter(scene.mask_logits[0, 0].abs(), chosen[0], num_uncertain)
    return panels


def scatter(certainty: Tensor, chosen: Tensor, num_uncertain: int) -> Callable[[plt.Axes], None]:
    """Points over |logit|: those chosen by uncertainty red, the others blue."""

    def panel(axis: plt.Axes) -> None:
        axis.imshow(certainty.numpy(), cmap='gray')
        xy = chosen.numpy() * [SIZE[1], SIZE[0]] - 0.5
        for part, colour in ((xy[num_uncertain:], 'tab:blue'), (xy[:num_uncertain], 'tab:red')):
            axis.scatter(*part.T, s=2, color=colour)

    return panel


def dense(scene: Scene) -> dict:
    """The two terms on all pixels."""
    target = scene.mask[:, None].float()
    panels = {
        'image': picture(scene.image),
        'gradient of cross entropy': field(
            gradient(lambda x: F.binary_cross_entropy_with_logits(x, target), scene.mask_logits)
        ),
    }
    for name, title in (('loss_mask', 'the focal term'), ('loss_dice', 'the dice term')):
        loss = gradient(lambda x, name=name: DenseMaskLoss()(x[0], scene.mask, avg_factor=1)[name], scene.mask_logits)
        panels[f'gradient of {title}'] = field(loss)
    return panels


def matching(scene: Scene) -> dict:
    """Which prediction takes which object."""
    objects = torch.tensor([[0.25, 0.35, 0.3, 0.4], [0.55, 0.6, 0.25, 0.3], [0.8, 0.35, 0.2, 0.5]])
    torch.manual_seed(1)
    near = objects.repeat(2, 1) + 0.05 * torch.randn(6, 4)
    queries = torch.cat((near, torch.rand(6, 4) * 0.6 + 0.2)).clamp(0.05, 0.95)
    queries[:, 2:] *= 0.8
    costs = [
        dict(type='mmplugins.ClassificationCost', weight=1.0),
        dict(type='mmplugins.BBoxL1Cost', weight=5.0, box_format='xywh'),
        dict(type='mmplugins.IoUCost', weight=2.0, iou_mode='giou'),
    ]
    criterion = SetCriterion(3, assigner=dict(type='mmplugins.BatchHungarianAssigner', match_costs=costs))
    boxes = queries[None, None].clone().requires_grad_()
    outputs = {'logits': torch.zeros(1, 1, len(queries), 4), 'boxes': boxes}
    criterion(outputs, [{'labels': torch.arange(3), 'boxes': objects}])['loss_bbox'].backward()
    taken = boxes.grad[0, 0].abs().sum(1) > 0  # only pairs have a box loss
    return {
        'three objects': outlines(objects, ['black'] * 3, 2.5),
        'twelve queries': outlines(queries, ['tab:gray'] * len(queries), 1),
        'three pairs; all others learn no-object': outlines(
            torch.cat((objects, queries)), ['black'] * 3 + ['tab:red' if one else 'lightgray' for one in taken], 1.5
        ),
    }


def outlines(boxes: Tensor, colours: list[str], width: float) -> Callable[[plt.Axes], None]:
    """Boxes cx, cy, w, h in units of the image."""

    def panel(axis: plt.Axes) -> None:
        axis.set(xlim=(0, 4), ylim=(3, 0), aspect='equal')
        axis.add_patch(plt.Rectangle((0, 0), 4, 3, fill=False, color='gainsboro'))
        order = sorted(zip(boxes.tolist(), colours, strict=True), key=lambda pair: pair[1] == 'tab:red')
        for (x, y, w, h), colour in order:
            corner, size = (4 * (x - w / 2), 3 * (y - h / 2)), (4 * w, 3 * h)
            axis.add_patch(plt.Rectangle(corner, *size, fill=False, color=colour, linewidth=width))

    return panel


PICTURES = {
    'OhemCrossEntropyLoss': ohem,
    'TopKCrossEntropyLoss': topk,
    'SoftJaccardLoss': jaccard,
    'StructureLoss': structure,
    'BCEIoULoss': lambda scene: regions(scene, BCEIoULoss(), 'BCE + IoU'),
    'SoftIoULoss': lambda scene: regions(scene, SoftIoULoss(), 'the soft IoU loss'),
    'PointSampledMaskLoss': points,
    'DenseMaskLoss': dense,
    'SetCriterion': matching,
}


def main() -> None:
    """Runs the tool."""
    parser = ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'images' / 'losses', help='folder to write to')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    scene = Scene()
    for name, panels in PICTURES.items():
        draw(args.out / f'{name}.png', panels(scene))


if __name__ == '__main__':
    main()
