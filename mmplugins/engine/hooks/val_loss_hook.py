"""The losses of a training on the validation split, at each validation.

mmengine's validation loop calls ``mode='predict'`` alone; whether a training overfits is then read off a metric, or not
at all.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from mmengine.dataset import DefaultSampler
from mmengine.dist import all_reduce
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner, autocast
from torch import Tensor
from torch.utils.data import DataLoader

from mmplugins.engine.side_effects import evaluated, random_numbers
from mmplugins.engine.validation_data import DataError, validation_loader
from mmplugins.registry import HOOKS

PREFIX = 'val/'


@HOOKS.register_module()
class ValLossHook(Hook):
    """Logs the losses of the validation split as ``val/loss`` and ``val/<name of the loss>``.

    At each validation, before anything reads the metrics:

    1. All files of the validation split go through the training's pipeline without its random transforms; images are
       resized as in the validation. ``validation_data.py`` has the rules.
    2. The model, in evaluation mode (no dropout, batch norm with its running statistics), computes ``mode='loss'``
       without gradients; with averaged weights (EMAHook), if the metrics are of these.
    3. The losses are averaged over all images of all ranks, and join the metrics: ``save_best='val/loss'`` of
       CheckpointHook and ``monitor='val/loss'`` of EarlyStoppingHook work.

    The training goes on as without the hook, bit by bit: random numbers are seeded for the losses (points of
    Mask2Former, identities of AOT, what a pipeline still draws), the same at each validation, and their states given
    back; counters and buffers of the model stay; annealed losses see the iteration that was trained last.

    A loss that averages over a batch (OHEM's threshold, the number of objects of a set criterion) averages over one of
    the validation's ``batch_size`` here. To compare with the training's, give ``dataloader`` with its batch size.

    Args:
        dataloader: Config of the loader, or a loader, instead of step 1; its data set needs annotations, and a pipeline
            that packs them.
        pipeline: Only the pipeline instead of that of step 1.
        seed: Of all that is random in step 2 and in the pipeline; the rank is added to it.

    Raises:
        ValueError: Both ``dataloader`` and ``pipeline`` are given; no loader can be derived from the config; the
            run has no validation; or ``save_best`` or ``monitor`` names a loss and would take the greatest value for
            the best, as mmengine does where the name of a loss holds 'top' or 'acc'.
        RuntimeError: A batch cannot be loaded, or the model computes no losses from it.

    Examples:
        >>> custom_hooks = [dict(type='mmplugins.ValLossHook')]
        >>> default_hooks = dict(checkpoint=dict(type='CheckpointHook', save_best='val/loss', rule='less'))
    """

    # Before RuntimeInfoHook, which copies the metrics to the log, and before EMAHook takes its weights out again.
    priority = 'HIGHEST'

    def __init__(
        self,
        dataloader: dict | DataLoader | None = None,
        pipeline: Sequence[dict] | None = None,
        seed: int = 0,
    ) -> None:
        if dataloader is not None and pipeline is not None:
            raise ValueError('give dataloader, whose data set has a pipeline, or pipeline, and not both')
        self.dataloader = dataloader
        self.pipeline = pipeline
        self.seed = seed
        self._loader: DataLoader | None = None

    def before_train(self, runner: Runner) -> None:
        """Builds the loader and loads an image, so that mistakes come to light before the training."""
        if runner.val_loop is None:
            raise ValueError(
                'ValLossHook computes losses at each validation, and this run has none: set val_cfg, val_dataloader '
                'and val_evaluator, and train_cfg.val_interval'
            )
        for hook in runner.hooks:
            _check_rule(hook)
        with random_numbers(self.seed):
            _load_first(self._build(runner))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Computes the losses and puts them into the metrics, behind those that are there."""
        if metrics is not None:
            metrics.update(self.losses(runner))

    def losses(self, runner: Runner) -> dict[str, float]:
        """Computes the losses; see the class for the steps.

        Returns:
            ``val/loss`` and the others, by name.
        """
        model = runner.model
        if is_model_wrapper(model) and hasattr(model, 'module') and 'FullySharded' not in type(model).__name__:
            model = model.module  # nothing is to be synchronised
        wrapper = runner.optim_wrapper
        amp = isinstance(wrapper, AmpOptimWrapper)
        sums: dict[str, Tensor] = OrderedDict()
        images = 0
        with random_numbers(self.seed + runner.rank):
            loader = self._build(runner)
            with evaluated(model), autocast(enabled=amp, dtype=getattr(wrapper, 'cast_dtype', None)):
                for count, batch in _batches(loader, runner):
                    for name, value in _batch_losses(model, batch).items():
                        sums[name] = sums.get(name, 0) + value.double() * count
                    images += count
        return _averages(sums, images)

    def _build(self, runner: Runner) -> DataLoader:
        """Returns the loader; builds it at first, on random numbers of its own."""
        if self._loader is None:
            loader = self.dataloader
            if loader is None:
                try:
                    loader = validation_loader(runner.cfg, self.pipeline)
                except DataError as error:
                    raise ValueError(f'ValLossHook: {error}') from None
            if isinstance(loader, Mapping):
                loader = {**loader, 'persistent_workers': False}  # a worker that lives on would draw other numbers
            with random_numbers(self.seed):
                self._loader = runner.build_dataloader(loader, seed=self.seed)
        return self._loader


def _batches(loader: DataLoader, runner: Runner) -> Iterator[tuple[int, object]]:
    """Yields batches, and how many images of each count.

    mmengine's sampler repeats images at the end of the data so that all ranks have as many; those do not count.
    """
    sampler, seen = loader.sampler, 0
    total = len(loader.dataset)
    with _explained():
        for batch in loader:
            images = _number_of_images(batch)
            count = images
            if isinstance(sampler, DefaultSampler):
                count = sum(place * runner.world_size + runner.rank < total for place in range(seen, seen + images))
            seen += images
            yield count, batch


def _load_first(loader: DataLoader) -> None:
    """Loads one image, so that a pipeline that does not fit the data comes to light before the training."""
    with _explained():
        if len(loader.dataset):
            loader.dataset[0]


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise RuntimeError(
            f'ValLossHook could not load the validation split ({type(error).__name__}: {error}). It loads annotations '
            'as in training; if they are not there, or its pipeline needs others, give the hook pipeline=[...] or '
            'dataloader=dict(...)'
        ) from error


def _batch_losses(model: BaseModel, batch: object) -> dict[str, Tensor]:
    """Computes the losses of a batch by name, ``loss`` their sum, as a training step logs them."""
    try:
        data = model.data_preprocessor(batch, True)  # as in training, which pads annotations too
        _, log = model.parse_losses(model._run_forward(data, mode='loss'))
    except Exception as error:
        raise RuntimeError(
            f'ValLossHook: {type(model).__name__} computed no losses from a batch of the validation split '
            f'({type(error).__name__}: {error}). The model is in evaluation mode, in which some (mmdet: DINO) have '
            'none; if the data do not suit it, give the hook pipeline=[...] or dataloader=dict(...)'
        ) from error
    return {name: value for name, value in log.items() if 'loss' in name}


def _averages(sums: Mapping[str, Tensor], images: int) -> dict[str, float]:
    """Divides sums by the number of images, both over all ranks."""
    if not sums:
        raise ValueError('ValLossHook: the validation split has no images; look at the data set of its loader')
    first = next(iter(sums.values()))
    values = torch.stack([*sums.values(), first.new_tensor(images)])
    all_reduce(values)
    *totals, count = values.tolist()
    return {PREFIX + name: total / count for name, total in zip(sums, totals, strict=True)}


def _number_of_images(batch: object) -> int:
    inputs = batch['inputs'] if isinstance(batch, Mapping) else batch[0]
    return len(next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs)


def _check_rule(hook: Hook) -> None:
    """Raises ValueError if a hook would take the greatest loss for the best."""
    rules = {}
    if isinstance(hook, CheckpointHook) and hook.save_best is not None:
        rules, key = dict(zip(hook.key_indicators, hook.rules, strict=True)), 'save_best'
    elif isinstance(hook, EarlyStoppingHook):
        rules, key = {hook.monitor: hook.rule}, 'monitor'
    for name, rule in rules.items():
        if rule == 'greater' and name.startswith(PREFIX) and 'loss' in name:
            raise ValueError(f"{type(hook).__name__} takes the greatest {key}='{name}' for the best; set rule='less'")
