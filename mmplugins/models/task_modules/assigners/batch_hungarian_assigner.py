"""Optimal one-to-one assignment of queries to objects, for all decoder layers of a batch at once.

Papers: DETR (ECCV 2020), MaskFormer (NeurIPS 2021), Mask2Former (CVPR 2022). Released code: their matcher.py.
Deliberate differences from mmdet's ``HungarianAssigner``, whose calls this takes: ``assign_batch``; costs without
gradients; a non-finite cost, also +inf, raises an error that says where it is, or is replaced.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.logging import MessageHub
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

from mmplugins.functional.device import at_once, full_precision
from mmplugins.functional.sets.matching import (
    InvalidBlock,
    find_invalid,
    replace_invalid,
    solve_block,
    to_host,
)
from mmplugins.functional.sets.pairs import IndexPairs
from mmplugins.hosts import problem_with, require_host
from mmplugins.registry import TASK_UTILS

_PROBLEM = problem_with('mmdet')
if _PROBLEM is None:
    from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
else:  # assign_batch, all that SetCriterion needs, works without
    BaseAssigner = object

ON_INVALID = ('raise', 'sanitize')
_PREDICTIONS = ('scores', 'bboxes', 'masks')


class _Image(NamedTuple):
    """What the costs take of one image; ``given`` holds further keyword arguments."""

    pred: Any
    objects: Any
    meta: dict | None
    given: dict
    sample: Callable[[slice], Mapping] | None = None

    def layers(self, part: slice, stacked: Sequence[str]) -> '_Image':
        """Returns the same of some layers, with their masks."""
        masks = self.sample(part)
        pred = {name: value[part] for name, value in _fields(self.pred).items()}
        objects = {name: value[part] if name in stacked else value for name, value in _fields(self.objects).items()}
        given = {name: value[part] if name in stacked else value for name, value in self.given.items()}
        if masks['valid'] is not None:
            given['valid'] = masks['valid']
        pred, objects = InstanceData(**pred, masks=masks['pred']), BaseDataElement(**objects, masks=masks['gt'])
        return _Image(pred, objects, self.meta, given)


@TASK_UTILS.register_module()
class BatchHungarianAssigner(BaseAssigner):
    """Matches queries and objects one to one so that the summed cost is least.

    1. Each image has one block of costs for all layers, (L, Q, G), the sum of ``match_costs``. Images, and on the CPU
       layers, are worked on one after the other.
    2. All blocks come to the host in one copy; no other step waits for the device.
    3. SciPy solves each layer of each image.

    min(Q, G) pairs are matched: queries left over are background, and objects left over have no query.

    Args:
        match_costs: Configs of the costs, one or a list; ours, mmdet's or a user's, or objects that are called like
            them. Those with a true attribute ``stacks_layers`` get all layers in one call, and ``stacked=True``; others
            are called layer by layer.
        on_invalid: What to do about a cost that is not finite, such as a diverged network's: 'raise' an error that
            names the layer, the image and the term; or 'sanitize': a replaced pair is matched only where there is no
            other, and the number of replaced entries is logged as ``invalid_costs`` at each call.

    Raises:
        AssertionError: There is no cost.
        TypeError: A cost is neither a config nor callable.
        ValueError: ``on_invalid`` is unknown.

    Examples:
        >>> import torch
        >>> from mmengine.structures import InstanceData
        >>> assigner = BatchHungarianAssigner([dict(type='mmplugins.ClassificationCost')])
        >>> layers = torch.tensor([[[0., 5.], [5., 0.]], [[5., 0.], [0., 5.]]])  # (L, Q, C)
        >>> image = InstanceData(scores=layers), InstanceData(labels=torch.tensor([0]))
        >>> [pairs[0] for pairs in assigner.assign_batch([image[0]], [image[1]])]
        [(tensor([1]), tensor([0])), (tensor([0]), tensor([0]))]
    """

    samples_masks = True  # tells SetCriterion that assign_batch takes sample_masks

    def __init__(self, match_costs: dict | Sequence[dict], on_invalid: str = 'raise') -> None:
        if isinstance(match_costs, dict) or callable(match_costs):
            match_costs = [match_costs]
        if len(match_costs) == 0:  # the error's type is mmdet's
            raise AssertionError(
                "match_costs must not be empty; give at least one, such as dict(type='mmplugins.ClassificationCost')"
            )
        if on_invalid not in ON_INVALID:
            raise ValueError(f"on_invalid must be one of {ON_INVALID}, got {on_invalid!r}; 'raise' says what is wrong")
        self.match_costs = [cost if callable(cost) else TASK_UTILS.build(cost) for cost in match_costs]
        self.on_invalid = on_invalid

    def assign(
        self, pred_instances: InstanceData, gt_instances: InstanceData, img_meta: dict | None = None, **kwargs
    ) -> 'AssignResult':
        """Assigns the predictions of one layer of one image, as mmdet's ``HungarianAssigner`` does.

        Args:
            pred_instances: What the costs take of one layer: ``scores`` (Q, C), ``bboxes`` (Q, 4), ``masks``.
            gt_instances: ``labels`` (G,) and what else the costs take.
            img_meta: The image's meta information.
            **kwargs: Handed to the costs, unless None.

        Returns:
            mmdet's AssignResult: ``gt_inds`` (Q,) holds 0 for background, else the object's index plus 1;
            ``labels`` (Q,) its label, or -1.

        Raises:
            ImportError: mmdet is missing.
            AssertionError: The labels are no tensor.
            ValueError: A cost is not finite, or of another shape than (Q, G).
        """
        if _PROBLEM is not None:
            require_host('mmdet', 'BatchHungarianAssigner.assign')
        labels = gt_instances.labels
        if not isinstance(labels, Tensor):  # the error's type is mmdet's
            raise AssertionError(f'gt_instances.labels must be a tensor (G,), got {type(labels).__name__}; convert it')
        num_gts, num_preds = len(labels), len(pred_instances)
        gt_inds = labels.new_zeros(num_preds, dtype=torch.long)
        assigned_labels = torch.full_like(gt_inds, -1)
        if num_gts and num_preds:
            given = {key: value for key, value in kwargs.items() if value is not None}
            query, index = self._match([_Image(pred_instances, gt_instances, img_meta, given)], None)[0][0]
            query, index = torch.stack((query, index)).to(labels.device)
            gt_inds[query] = index + 1
            assigned_labels[query] = labels[index].long()
        return AssignResult(num_gts=num_gts, gt_inds=gt_inds, max_overlaps=None, labels=assigned_labels)

    def assign_batch(
        self,
        pred_instances: Sequence[InstanceData],
        gt_instances: Sequence[InstanceData],
        img_metas: Sequence[dict] | None = None,
        stacked: Sequence[str] = (),
        sample_masks: Callable[[int, slice], Mapping[str, Tensor | None]] | None = None,
        **kwargs: Sequence | None,
    ) -> IndexPairs:
        """Assigns the predictions of all decoder layers of all images.

        Args:
            pred_instances: For each image what the costs take, layers stacked: ``scores`` (L, Q, C), ``bboxes``
                (L, Q, 4), ``masks`` (L, Q, P) or (L, Q, h, w). Any object with these attributes.
            gt_instances: For each image ``labels`` (G,) and what else the costs take, for all layers or stacked.
            img_metas: Meta information of each image.
            stacked: Which fields of ``gt_instances`` and which further arguments have an axis of layers too, such as
                'masks' (L, G, P).
            sample_masks: Makes the masks that the costs compare when they are needed, so that those of all images and
                layers are never there together: takes an image's index and a slice of layers, and returns ``pred``
                (l, Q, P), ``gt`` (l, G, P) and ``valid`` (l, P) or None. None: they are in the instances, if at all.
            **kwargs: For each image a value that is handed to the costs, unless None.

        Returns:
            [layer][image] -> indices of queries and of objects, two int64 tensors of min(Q, G) entries on the CPU,
            ascending in the query.

        Raises:
            ValueError: A cost is not finite, or of another shape than (L, Q, G); numbers of images or layers differ.
        """
        metas = [None] * len(pred_instances) if img_metas is None else img_metas
        sizes = {'gt_instances': len(gt_instances), 'img_metas': len(metas)}
        sizes.update({name: len(values) for name, values in kwargs.items() if values is not None})
        if set(sizes.values()) != {len(pred_instances)}:
            raise ValueError(f'expected one entry for each of {len(pred_instances)} images, got {sizes}')
        images = []
        for index, (pred, objects, meta) in enumerate(zip(pred_instances, gt_instances, metas, strict=True)):
            given = {name: values[index] for name, values in kwargs.items() if values is not None}
            given = {name: value for name, value in given.items() if value is not None}
            sample = None if sample_masks is None else partial(sample_masks, index)
            images.append(_Image(pred, objects, meta, given, sample))
        return self._match(images, stacked)

    @torch.no_grad()
    def cost_terms(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        img_meta: dict | None = None,
        stacked: Sequence[str] = (),
        sample_masks: Callable[[slice], Mapping[str, Tensor | None]] | None = None,
        **kwargs,
    ) -> dict[str, Tensor]:
        """Computes each cost of one image by itself, as ``assign_batch`` adds them up; for pictures.

        Args:
            pred_instances: Of the image, as ``assign_batch`` takes it.
            gt_instances: Likewise.
            img_meta: Likewise.
            stacked: Likewise.
            sample_masks: Likewise, of this image: takes a slice of layers.
            **kwargs: The image's value of what is handed to the costs.

        Returns:
            (L, Q, G) by the name of the cost's type, numbered where a type comes twice.
        """
        found: dict[str, Tensor] = {}
        terms = self._terms(_Image(pred_instances, gt_instances, img_meta, kwargs, sample_masks), stacked)
        for cost, term in zip(self.match_costs, terms, strict=True):
            name = type(cost).__name__
            while name in found:
                name += "'"
            found[name] = term
        return found

    @torch.no_grad()
    def _match(self, images: Sequence[_Image], stacked: Sequence[str] | None) -> IndexPairs:
        """Returns the pairs of each layer of each image; see the class for the steps.

        Args:
            images: What the costs take of each image.
            stacked: What has an axis of layers beside the predictions; None: not even these have one.
        """
        if not images:
            return []
        blocks, counts = [], []
        for image in images:  # step 1
            block = self._block(image, stacked)
            if self.on_invalid == 'sanitize':
                block, count = replace_invalid(block)
                counts.append(count)
            blocks.append(block)
        if len({len(block) for block in blocks}) > 1:
            raise ValueError(f'expected as many layers in every image, got {[len(block) for block in blocks]}')
        if counts:
            *costs, counts = to_host([*blocks, torch.stack(counts)])  # step 2
            MessageHub.get_current_instance().update_scalar('train/invalid_costs', counts.sum())
        else:
            costs = to_host(blocks)  # step 2
            found = find_invalid(costs)
            if found:
                raise ValueError(self._explain(found, images, stacked))
        solved = [solve_block(block) for block in costs]  # step 3
        return [list(layer) for layer in zip(*solved, strict=True)]

    def _block(self, image: _Image, stacked: Sequence[str] | None) -> Tensor:
        """Sums the costs of one image, (L, Q, G); without queries or objects no cost is called."""
        num_objects = len(image.objects.labels)
        shape = (1, len(image.pred)) if stacked is None else _stack_shape(image.pred)
        if num_objects == 0 or shape[1] == 0:
            return torch.zeros(*shape, num_objects, device=image.objects.labels.device)
        terms = self._terms(image, stacked)
        for cost, term in zip(self.match_costs, terms, strict=True):
            if term.shape != (*shape, num_objects):
                raise ValueError(
                    f'expected a cost of shape {(*shape, num_objects)} (layers, queries, objects) from '
                    f'{type(cost).__name__}, got {tuple(term.shape)}'
                )
        return sum(terms[1:], start=terms[0])

    def _terms(self, image: _Image, stacked: Sequence[str] | None) -> list[Tensor]:
        """Computes each cost of one image, (L, Q, G)."""
        if image.sample is not None:
            layers = _stack_shape(image.pred)[0]
            step = at_once(image.objects.labels.device, 1, layers)
            parts = [slice(start, start + step) for start in range(0, layers, step)]
            terms = [self._terms(image.layers(part, stacked), stacked) for part in parts]
            return [torch.cat(term) for term in zip(*terms, strict=True)]
        call = {'pred_instances': image.pred, 'gt_instances': image.objects, 'img_meta': image.meta, **image.given}
        terms = []
        for cost in self.match_costs:
            stacks = getattr(cost, 'stacks_layers', False)
            if stacked is None:
                terms.append(full_precision(cost(**call)).unsqueeze(0))
            elif stacks:
                terms.append(full_precision(cost(**call, stacked=True)))
            else:
                terms.append(torch.stack([full_precision(cost(**one)) for one in _layers(image, stacked)]))
        return terms

    def _explain(self, found: Sequence[InvalidBlock], images: Sequence[_Image], stacked: Sequence[str] | None) -> str:
        """Says where costs are not finite; computes the costs of the first such image again to find the term."""
        first = found[0]
        image = images[first.image]
        counts = [int((~term[first.layer].isfinite()).sum()) for term in self._terms(image, stacked)]
        terms = [
            f'{type(cost).__name__}: {count}' for cost, count in zip(self.match_costs, counts, strict=True) if count
        ]
        path = (image.meta or {}).get('img_path')
        return (
            f'matching costs must be finite, but {first.count} of {first.size} are not in layer {first.layer}, image '
            f'{first.image}{f" ({path})" if path else ""}, by term {", ".join(terms) or "none, only their sum"}; '
            f'{len(found) - 1} other layers or images have such costs too. The network has diverged or a box or mask '
            "is not finite: look at that image, lower the learning rate or clip gradients, or set on_invalid='sanitize'"
        )


def _fields(instances) -> dict:
    """Returns the data of mmengine's InstanceData, or the attributes of another object, by name."""
    return dict(instances.items() if hasattr(instances, 'items') else vars(instances))


def _stack_shape(pred) -> tuple[int, int]:
    """Returns the numbers of layers and queries of stacked predictions."""
    for name in _PREDICTIONS:
        if hasattr(pred, name):
            return tuple(getattr(pred, name).shape[:2])
    raise ValueError(f'expected predictions with one of {_PREDICTIONS}, got {sorted(_fields(pred))}')


def _layers(image: _Image, stacked: Sequence[str]) -> list[dict]:
    """Takes stacked layers apart, for costs that know one layer only: the arguments of a call for each."""

    def of_layer(fields: dict, layer: int) -> dict:
        return {name: value[layer] if name in stacked else value for name, value in fields.items()}

    calls, pred, objects = [], _fields(image.pred), _fields(image.objects)
    for layer in range(_stack_shape(image.pred)[0]):
        call = {'pred_instances': InstanceData(**{name: value[layer] for name, value in pred.items()})}
        one = InstanceData(**of_layer(objects, layer)) if {*stacked} & {*objects} else image.objects
        calls.append({**call, 'gt_instances': one, 'img_meta': image.meta, **of_layer(image.given, layer)})
    return calls
