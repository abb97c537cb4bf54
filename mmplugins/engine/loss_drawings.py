"""Figures of what a ``LossRecorder`` recorded; each function returns None where there is nothing of its kind."""

from collections.abc import Mapping, Sequence
from functools import partial

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mmplugins.visualization.figures import Column, draw_columns, draw_outlined, draw_points, new_figure
from mmplugins.visualization.object_masks import paint_objects
from mmplugins.visualization.pictures import class_colours, colourise, edges, grey, heat, highlight, input_images

from .loss_records import Clip, LossRecorder, Matching, Pixels, Points

MOST_OBJECTS = 10  # of an image, the largest, that a matching shows
IGNORED = 255
COSTS = {  # headings
    'ClassificationCost': 'class',
    'FocalLossCost': 'focal',
    'BBoxL1Cost': 'box L1',
    'IoUCost': 'IoU',
    'CrossEntropyLossCost': 'CE',
    'DiceCost': 'dice',
}


def draw_pixels(record: LossRecorder, meta: Mapping | None) -> Figure | None:
    """Draws images, truth, prediction, and the pixels that losses keep, or how they weigh them.

    Args:
        record: Of a step.
        meta: Of the data set: ``classes`` and ``palette``, if there are any.
    """
    if not record.pixels or record.inputs is None or record.inputs.dim() != 4:
        return None
    images = list(input_images(record.inputs, record.model.data_preprocessor))
    blank = [''] * len(images)
    _, first = _main(record.pixels)
    binary = first.kind == 'weight' or first.targets[-1].is_floating_point()
    columns = [Column('image', images, blank), *_truth(first, binary, meta, blank)]
    for name, found in record.pixels.items():
        columns.append(_seen(_short(name, record.pixels), found, images))
    return draw_columns(columns)


def draw_matching(record: LossRecorder, meta: Mapping | None) -> Figure | None:
    """Draws which query of the last layer took which object, and what its costs are.

    Args:
        record: Of a step.
        meta: Of the data set: ``classes``, if there are any.
    """
    found = record.matching
    if found is None or record.inputs is None:
        return None
    images = input_images(record.inputs, record.model.data_preprocessor)
    shown = [index for index in range(len(images)) if len(found.pairs[-1][index][0])]
    if not shown:
        return None
    ratio = images.shape[1] / images.shape[2]
    row_height = max(3.6 * ratio, 0.2 * (MOST_OBJECTS + 3))
    figure, axes = new_figure(len(shown), 2, (10.5, row_height * len(shown) + 0.2), (1, 1.1))
    for (left, right), index in zip(axes, shown, strict=True):
        rows = _pairs_of(found, index)
        left.imshow(images[index])
        for number, (query, target) in enumerate(rows):
            _outline(left, found, index, query, target, _colour(number), images.shape[1:3])
        left.set(xticks=[], yticks=[], xlim=(0, images.shape[2]), ylim=(images.shape[1], 0))
        left.set_xlabel('objects solid, the queries that took them dashed', fontsize=8)
        _write_costs(right, found, index, rows, (meta or {}).get('classes'))
    return figure


def draw_sampled_points(record: LossRecorder) -> Figure | None:
    """Draws the largest object of each image, and the points at which its query's mask is compared with it."""
    found = record.points
    if found is None or record.inputs is None or not len(found.image):
        return None
    images = input_images(record.inputs, record.model.data_preprocessor)
    rows = [row for row in (_largest(found, index) for index in range(len(images))) if row is not None]
    if not rows:
        return None
    height, width = images.shape[1:3]
    figure, axes = new_figure(len(rows), 2, (7.2, 3.5 * len(rows) * height / width + 0.6))
    for (left, right), row in zip(axes, rows, strict=True):
        index = int(found.image[row])
        draw_outlined(left, images[index], found.targets[index][found.object[row]].cpu().numpy() > 0.5)
        certainty = found.masks[index, found.query[row]].float().abs().cpu().numpy()
        points = found.points[row].cpu().numpy()
        draw_points(right, certainty, points, found.num_uncertain, height / width)
    for axis, title in zip(axes[0], ('largest object', '|mask logit| of its query'), strict=True):
        axis.set_title(title, fontsize=9)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.supxlabel('dark: |logit| near 0; points: red chosen as uncertain, blue anywhere', fontsize=8)
    return figure


def draw_clip(record: LossRecorder) -> Figure | None:
    """Draws the first clip: its objects, the identities that its memory gets, predictions, and kept pixels."""
    clip = record.clip
    if clip is None or record.inputs is None or record.inputs.dim() != 5:
        return None
    frames = input_images(record.inputs[0], record.model.data_preprocessor)  # (T, H, W, 3)
    truth = record.samples[0].gt_sem_seg.data.cpu()
    columns = []
    for index, frame in enumerate(frames):
        pictures, notes = [_painted(frame, truth[index])], [_reading_note(clip, index)]
        joins = index < len(clip.identities)
        pictures.append(_painted(frame, clip.identities[index][0]) if joins else _pale(frame))
        notes.append('identities, to the memory' if joins else 'not needed in the memory')
        decoded = index - (len(frames) - len(clip.decoded))
        pictures.append(_painted(frame, clip.decoded[decoded][0]) if decoded >= 0 else _pale(frame))
        notes.append('prediction' if decoded >= 0 else 'not decoded')
        for name, found in record.pixels.items():
            kept = _of_frame(found, index, len(frames))
            pictures.append(_pale(frame) if kept is None else highlight(frame, kept[0].cpu().numpy()))
            notes.append('' if kept is None else f'{kept[0].float().mean():.0%} kept by {_short(name, record.pixels)}')
        columns.append(Column(f'frame {index}' + (', reference' if index == 0 else ''), pictures, notes))
    return draw_columns(columns, cell=2.4)


def match_stability(pairs: Sequence) -> float | None:
    """Returns the share of the objects that the same query takes in the last two layers.

    Args:
        pairs: [layer][image] -> (query, object).

    Returns:
        From 0 to 1; None with fewer than two layers, or without pairs.
    """
    if len(pairs) < 2:
        return None
    same = total = 0
    for before, last in zip(pairs[-2], pairs[-1], strict=True):
        taken = dict(zip(before[1].tolist(), before[0].tolist(), strict=True))
        for query, target in zip(*(part.tolist() for part in last), strict=True):
            same += taken.get(target) == query
            total += 1
    return same / total if total else None


# Pixels ---------------------------------------------------------------------------------------------------------------


def _main(pixels: Mapping[str, Pixels]) -> tuple[str, Pixels]:
    """Returns the loss whose truth and prediction are shown: not an auxiliary head's, if there is another."""
    return min(pixels.items(), key=lambda item: 'aux' in item[0])


def _truth(found: Pixels, binary: bool, meta: Mapping | None, blank: list[str]) -> list[Column]:
    truth, prediction = found.targets[-1].cpu(), found.predictions[-1]
    if binary:
        degrees = truth if truth.is_floating_point() else (truth == 1)
        columns = [Column('mask', [grey(one) for one in degrees], blank)]
        return columns + [Column('prediction', [grey(one) for one in prediction.cpu()], blank)]
    predicted = prediction.cpu()
    classes = 1 + max(int(predicted.max()), int(torch.where(truth == IGNORED, 0, truth).max()))
    known = (meta or {}).get('palette')
    palette = class_colours(max(classes, len(known or ())), known)
    return [
        Column('truth', [colourise(one, palette) for one in truth], blank),
        Column('prediction', [colourise(one, palette) for one in predicted], blank),
    ]


def _seen(label: str, found: Pixels, images: Sequence[np.ndarray]) -> Column:
    """Returns the column of a loss."""
    maps = found.maps[-1].cpu()
    if found.kind == 'kept':
        valid = (found.targets[-1] != IGNORED).flatten(1).sum(1).clamp(min=1).cpu()
        shares = maps.flatten(1).sum(1) / valid
        notes = [f'{share:.0%} of the pixels' for share in shares.tolist()]
        pictures = [highlight(image, kept.numpy()) for image, kept in zip(images, maps, strict=True)]
        return Column(f'kept by {label}', pictures, notes)
    top = max(float(maps.max()), 1.0)
    notes = [f'up to {one.max():.1f}, mean {one.mean():.1f}' for one in maps]
    return Column(f'weight of {label}', [heat(one, top) for one in maps], notes)


def _short(name: str, pixels: Mapping[str, Pixels]) -> str:
    """Names a loss, and the head that it is in where another has its name."""
    label = pixels[name].label
    head = '.'.join(part for part in name.split('.') if part != 'loss_decode' and not part.isdecimal())
    return f'{label}, {head}' if [one.label for one in pixels.values()].count(label) > 1 else label


# Clips ----------------------------------------------------------------------------------------------------------------


def _painted(frame: np.ndarray, objects: Tensor) -> np.ndarray:
    mask = torch.where(objects == IGNORED, 0, objects).to(torch.uint8).cpu().numpy()
    return paint_objects(frame[..., ::-1], mask)[..., ::-1]


def _pale(frame: np.ndarray) -> np.ndarray:
    return (0.3 * frame + 0.7 * 255).astype(np.uint8)


def _reading_note(clip: Clip, index: int) -> str:
    """Says which frame, and how many of the long-term memory, a frame was compared with."""
    if index == 0 or index > len(clip.stored):
        return 'objects, given' if index == 0 else 'objects'
    stored = clip.stored[index - 1]
    return f'sees frame {index - 1}; long-term: {stored}'


def _of_frame(found: Pixels, index: int, length: int) -> Tensor | None:
    """Returns the kept pixels of a frame: the network's losses see frames 1 to T - 1, and then the reference."""
    if found.kind != 'kept':
        return None
    call = index - 1 if index else length - 1
    return found.maps[call] if call < len(found.maps) else None


# Matching and points --------------------------------------------------------------------------------------------------


def _pairs_of(found: Matching, image: int) -> list[tuple[int, int]]:
    """Returns query and object of an image's pairs, the largest objects first."""
    pairs = list(zip(*(part.tolist() for part in found.pairs[-1][image]), strict=True))
    target = found.targets[image]
    if 'masks' in target:
        sizes = target['masks'].flatten(1).float().sum(1)
    elif 'boxes' in target:
        sizes = target['boxes'][:, 2:].prod(1)
    else:
        return pairs[:MOST_OBJECTS]
    sizes = sizes.tolist()
    return sorted(pairs, key=lambda pair: -sizes[pair[1]])[:MOST_OBJECTS]


def _outline(
    axis: Axes, found: Matching, image: int, query: int, target: int, colour: tuple, size: Sequence[int]
) -> None:
    """Draws an object and what its query predicts: masks where there are any, else boxes."""
    height, width = size
    objects, outputs = found.targets[image], found.outputs
    if 'masks' in objects and 'masks' in outputs:
        maps = outputs['masks'][image, query].float()[None, None]
        mask = F.interpolate(maps, tuple(size), mode='bilinear', align_corners=False)[0, 0].cpu().numpy()
        for one, level, style in ((objects['masks'][target].cpu().numpy(), 0.5, '-'), (mask, 0.0, '--')):
            if (one > level).any() and not (one > level).all():
                axis.contour(one, levels=[level], colors=[colour], linewidths=1.4, linestyles=[style])
        ys, xs = np.nonzero(edges(objects['masks'][target].cpu().numpy()))
        place = (float(xs.mean()), float(ys.mean())) if len(xs) else (0.0, 0.0)
    elif 'boxes' in objects and 'boxes' in outputs:
        for box, style in ((objects['boxes'][target], '-'), (outputs['boxes'][image, query], '--')):
            x, y, w, h = (box.detach().float().cpu() * torch.tensor([width, height, width, height])).tolist()
            axis.add_patch(Rectangle((x - w / 2, y - h / 2), w, h, fill=False, color=colour, ls=style, lw=1.4))
            if style == '-':
                place = (x - w / 2, y - h / 2)
    else:
        return
    box = dict(boxstyle='round,pad=0.15', facecolor=colour, linewidth=0)
    axis.text(*place, str(target), fontsize=7, color='white', bbox=box, clip_on=True)


def _write_costs(
    axis: Axes, found: Matching, image: int, rows: Sequence[tuple[int, int]], classes: Sequence[str] | None
) -> None:
    """Writes a line for each object: its query, in how many layers that was the same, and its costs."""
    axis.set_axis_off()
    call, sample = found.call, found.call.get('sample_masks')
    given = {
        name: values[image]
        for name, values in call.items()
        if name not in ('pred_instances', 'gt_instances', 'img_metas', 'stacked', 'sample_masks', 'kwargs')
        and values is not None
    }
    metas = call.get('img_metas')
    terms = found.assigner.cost_terms(
        call['pred_instances'][image],
        call['gt_instances'][image],
        None if metas is None else metas[image],
        call.get('stacked', ()),
        None if sample is None else partial(sample, image),
        **given,
    )
    last = {COSTS.get(name, name[:9]): term[-1].cpu() for name, term in terms.items()}
    head = ['object', 'query', 'in layers', *last, 'sum']
    places = [0.0, 0.27, 0.36, *np.linspace(0.58, 1.0, len(last) + 1)]
    lines = [head]
    for query, target in rows:
        label = int(found.targets[image]['labels'][target])
        name = classes[label] if classes is not None and label < len(classes) else f'class {label}'
        costs = [float(term[query, target]) for term in last.values()]
        lines.append([f'{target} {name}', str(query), _same_layers(found, image, query, target)])
        lines[-1] += [f'{value:.2f}' for value in (*costs, sum(costs))]
    step = 1 / (MOST_OBJECTS + 2)
    for number, line in enumerate(lines):
        for column, (place, text) in enumerate(zip(places, line, strict=True)):
            style = dict(fontsize=8, ha='right' if column > 2 else 'left', va='top')
            if number == 0:
                style.update(color='grey')
            elif column == 0:
                style.update(color=_colour(number - 1), fontweight='bold')
            axis.text(place, 0.97 - step * number, text, transform=axis.transAxes, **style)


def _same_layers(found: Matching, image: int, query: int, target: int) -> str:
    """Says in how many of the layers the object has the query that it has in the last one."""
    same = 0
    for layer in found.pairs:
        queries, objects = layer[image]
        same += bool(((queries == query) & (objects == target)).any())
    return f'{same} of {len(found.pairs)}'


def _colour(number: int) -> tuple[float, ...]:
    return mpl.colormaps['tab10'](number % 10)


def _largest(found: Points, image: int) -> int | None:
    """Returns the row of the pair with the largest object of an image; None without pairs."""
    rows = (found.image == image).nonzero().flatten().tolist()
    sizes = found.targets[image].flatten(1).float().sum(1)
    return max(rows, key=lambda row: float(sizes[found.object[row]]), default=None)
