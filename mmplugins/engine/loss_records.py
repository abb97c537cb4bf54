"""What the losses of one training step see, recorded on the side for pictures.

A recorder is attached to a model before a step and taken off after it; at other times the model has nothing of it. It
draws no random numbers and changes no value. What it finds, it finds by what modules offer, not by their types, so that
losses of others are drawn too:

- ``kept_pixels(pred, target, ignore_index=None, ...)`` of a loss: which pixels it keeps, bool (N, H, W).
- ``pixel_weight(target, ignore_index=None)`` of a loss: how much it weighs each pixel, (N, H, W).
- ``match`` and an ``assigner`` with ``assign_batch`` and ``cost_terms``: the matching of a set criterion.
- ``sample_pairs`` of a mask loss: the points that it compares.
- ``identity_bank`` of a network for video object segmentation: which identities go into its memory.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

MOST_CALLS = 16  # of one loss in a step, so that a loss of many calls cannot fill the memory


@dataclass
class Pixels:
    """Calls of a loss on pixels in one step.

    Attributes:
        kind: 'kept' or 'weight'.
        label: What the log calls the loss, without 'loss_'.
        maps: Of each call, bool or floating (n, H, W), of the first n images.
        predictions: Of each call, classes (n, H, W), or None where the loss saw logits of another size.
        targets: Of each call, (n, H, W).
    """

    kind: str
    label: str
    maps: list[Tensor] = field(default_factory=list)
    predictions: list[Tensor | None] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)


@dataclass
class Matching:
    """A matching of all images and layers.

    Attributes:
        outputs: What the criterion got, without gradient.
        targets: Likewise, for each image.
        call: Arguments of ``assign_batch``, by name.
        pairs: [layer][image] -> (query, object).
        assigner: The assigner.
    """

    outputs: Mapping[str, Any]
    targets: Sequence[Mapping[str, Tensor]]
    call: Mapping[str, Any]
    pairs: Sequence
    assigner: Any


@dataclass
class Points:
    """The points of the pairs of the last layer.

    Attributes:
        masks: Mask logits of the last layer, (B, Q, h, w).
        targets: Masks of each image, (G, H, W).
        image: Of each pair, int64 (m,).
        query: Likewise.
        object: Likewise.
        points: x,y in 0 to 1, (m, P, 2).
        num_uncertain: How many of them were chosen by uncertainty; they come first.
    """

    masks: Tensor
    targets: Sequence[Tensor]
    image: Tensor
    query: Tensor
    object: Tensor
    points: Tensor
    num_uncertain: int


@dataclass
class Clip:
    """What a network for video object segmentation did with a batch of clips.

    Attributes:
        identities: Of each frame that went into the memory, in order, the identity of each pixel (n, H, W).
        stored: For each frame that was propagated, how many frames the long-term memory held.
        decoded: Objects that were predicted, of each decoded frame in order, (n, H, W).
    """

    identities: list[Tensor] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)
    decoded: list[Tensor] = field(default_factory=list)


class LossRecorder:
    """Records one step of a model.

    Args:
        model: Not wrapped, of mmengine.
        max_images: How many images of the batch are kept.

    Attributes:
        inputs: What the data preprocessor made, (n, 3, H, W) or (n, T, 3, H, W); None before a step.
        samples: Data samples of these images.
        pixels: By the name of the loss in the model.
        matching: None if there was none.
        points: Likewise.
        clip: Likewise.
    """

    def __init__(self, model: nn.Module, max_images: int) -> None:
        self.model = model
        self.max_images = max_images
        self.inputs: Tensor | None = None
        self.samples: list = []
        self.pixels: dict[str, Pixels] = {}
        self.matching: Matching | None = None
        self.points: Points | None = None
        self.clip: Clip | None = None
        self._undo: list[Callable[[], None]] = []
        self._criterion_call: tuple | None = None

    def attach(self) -> bool:
        """Begins to record; returns whether the model has anything to record."""
        found = False
        for name, module in self.model.named_modules():
            if hasattr(module, 'kept_pixels') or hasattr(module, 'pixel_weight'):
                kind = 'kept' if hasattr(module, 'kept_pixels') else 'weight'
                self._on_forward(module, self._pixel_recorder(name, kind))
            elif hasattr(module, 'match') and hasattr(getattr(module, 'assigner', None), 'cost_terms'):
                undo = module.register_forward_pre_hook(self._record_criterion, with_kwargs=True).remove
                self._undo.append(undo)
                self._replace(module.assigner, 'assign_batch', self._record_matching)
            elif hasattr(module, 'sample_pairs'):
                self._replace(module, 'sample_pairs', self._record_points)
            elif hasattr(module, 'identity_bank'):
                self._on_forward(module.identity_bank, self._record_identities)
                self._replace(module, 'propagate', self._record_memory)
                self._replace(module, 'resize', self._record_decoded)
            else:
                continue
            found = True
        if found:
            self._on_forward(self.model.data_preprocessor, self._record_inputs)
        return found

    def detach(self) -> None:
        """Leaves the model as it was."""
        while self._undo:
            self._undo.pop()()

    def _on_forward(self, module: nn.Module, record: Callable) -> None:
        self._undo.append(module.register_forward_hook(record, with_kwargs=True).remove)

    def _replace(self, owner: object, name: str, record: Callable) -> None:
        """Calls ``record(owner, arguments by name, result)`` after each call of a method."""
        method = getattr(owner, name)
        signature = inspect.signature(method)

        def recorded(*args, **kwargs) -> object:
            result = method(*args, **kwargs)
            bound = signature.bind(*args, **kwargs).arguments
            record(owner, {**bound, **bound.get('kwargs', {})}, result)
            return result

        vars(owner)[name] = recorded
        self._undo.append(lambda: vars(owner).pop(name))

    def _record_inputs(self, module: nn.Module, args: tuple, kwargs: dict, data: Mapping) -> None:
        self.inputs = data['inputs'][: self.max_images].detach()
        self.samples = list(data['data_samples'][: self.max_images])

    def _pixel_recorder(self, name: str, kind: str) -> Callable:
        def record(loss: nn.Module, args: tuple, kwargs: dict, result: Tensor) -> None:
            bound = dict(zip(('pred', 'target', 'weight', 'avg_factor', 'reduction_override'), args, strict=False))
            bound |= kwargs
            pred, target = bound.pop('pred'), bound.pop('target')
            label = getattr(loss, 'loss_name', type(loss).__name__).removeprefix('loss_')
            found = self.pixels.setdefault(name, Pixels(kind, label))
            if len(found.maps) == MOST_CALLS:
                return
            if kind == 'kept':
                seen = loss.kept_pixels(pred, target, **bound)
            else:
                seen = loss.pixel_weight(target, ignore_index=bound.get('ignore_index'))
            found.maps.append(seen[: self.max_images])
            target = target.squeeze(1) if target.dim() == 4 else target
            found.targets.append(target[: self.max_images])
            found.predictions.append(_classes(pred, self.max_images))

        return record

    def _record_criterion(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        self._criterion_call = bound['outputs'], bound['targets']

    def _record_matching(self, assigner: object, call: dict, pairs: Sequence) -> None:
        if self._criterion_call is not None:
            outputs, targets = self._criterion_call
            outputs = {name: _last_layer(name, value) for name, value in outputs.items()}
            self.matching = Matching(outputs, targets, call, pairs, assigner)

    def _record_points(self, loss: nn.Module, call: dict, result: tuple) -> None:
        pairs, inputs = call['pairs'], call['inputs']
        rows = slice(len(pairs.query) - pairs.per_layer[-1], None)
        ratio = getattr(loss, 'importance_sample_ratio', 0.0)
        self.points = Points(
            inputs.layers[-1],
            inputs.masks,
            *(part[rows] for part in (pairs.image, pairs.query, pairs.object, result[0])),
            num_uncertain=int(ratio * result[0].shape[1]),
        )

    def _record_identities(self, bank: nn.Module, args: tuple, kwargs: dict, result: Tensor) -> None:
        self._clip().identities.append(args[0][: self.max_images])

    def _record_memory(self, network: nn.Module, call: dict, result: tuple) -> None:
        self._clip().stored.append(call['memory'].num_frames)

    def _record_decoded(self, network: nn.Module, call: dict, result: Tensor) -> None:
        self._clip().decoded.append(result.detach()[: self.max_images].argmax(1))

    def _clip(self) -> Clip:
        self.clip = self.clip or Clip()
        return self.clip


def _classes(pred: Any, max_images: int) -> Tensor | None:
    """Returns the class, or for one channel whether it is foreground, of each pixel of the first images, (n, H, W)."""
    with torch.no_grad():
        pred = pred.detach()
        if not isinstance(pred, Tensor):  # logits of low resolution
            pred = type(pred)(pred.logits[:max_images], pred.size, pred.align_corners).full()
        pred = pred[:max_images]
        return (pred[:, 0] > 0).long() if pred.shape[1] == 1 else pred.argmax(1)


def _last_layer(name: str, value: Any) -> Tensor:
    """Returns the last layer of an output of a criterion, (B, Q, ...); masks may come of that layer alone."""
    return (value if name == 'masks' and isinstance(value, Tensor) and value.dim() == 4 else value[-1]).detach()
