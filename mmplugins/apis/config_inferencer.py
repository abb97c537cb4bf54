"""What our inferencers add to the toolboxes' own: any config that trains serves for inference too.

1. Test sets that are joined or wrapped: pipeline and classes are those of the first one.
2. Classes are the config's where the checkpoint does not tell them, as one of a released code; the toolboxes take those
   of Cityscapes or COCO.
3. A checkpoint of which nothing fits is an error, one that fits in part is told.
4. Types of a pipeline may be classes, as in pure-Python configs.
"""

import copy
from collections.abc import Mapping

from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import nn

from mmplugins.engine.checkpoints import check_fit, tensors_of
from mmplugins.engine.launch import allow_checkpoints, type_name


class ConfigInferencer:
    """Goes before a toolbox's inferencer among the bases of a class.

    Args:
        model: Path of a config, or a config.
        weights: Path or address of a checkpoint; None: random weights.
        *args: What the toolbox's inferencer takes further.
        show_progress: Whether a bar shows how far it is; mmseg 1.2 has no such argument.
        **kwargs: As args.

    Raises:
        UsageError: No tensor of the model is in the checkpoint.
    """

    # Types of steps that are left out of the pipeline: there are no annotations.
    annotations: tuple[str, ...] = ()

    def __init__(
        self,
        model: str | Mapping | None = None,
        weights: str | None = None,
        *args,
        show_progress: bool = True,
        **kwargs,
    ) -> None:
        allow_checkpoints()
        self._weights = weights
        super().__init__(model, weights, *args, **kwargs)
        self.show_progress = show_progress

    def _load_weights_to_model(self, model: nn.Module, checkpoint: dict | None, cfg: Mapping | None) -> None:
        own = _metainfo(cfg)
        if checkpoint is not None:
            check_fit(model, tensors_of(checkpoint), f'weights: {self._weights}')
            meta = checkpoint.get('meta') or {}
            if own and not {'dataset_meta', 'CLASSES'} & set(meta):
                checkpoint = {**checkpoint, 'meta': {**meta, 'dataset_meta': own}}
        super()._load_weights_to_model(model, checkpoint, _with_one_test_set(cfg))
        if checkpoint is None:
            model.dataset_meta = {**model.dataset_meta, **own}

    def _init_pipeline(self, cfg: Mapping) -> object:
        cfg = _with_one_test_set(cfg)
        pipeline = cfg.test_dataloader.dataset.pipeline
        pipeline[:] = [step for step in pipeline if type_name(step) not in self.annotations]
        return super()._init_pipeline(cfg)

    def _get_transform_idx(self, pipeline_cfg: list, name: str | tuple) -> int:
        """Index of the first step of one of these types; -1 if there is none."""
        names = {
            one if isinstance(one, str) else one.__name__ for one in (name if isinstance(name, tuple) else (name,))
        }
        return next((index for index, step in enumerate(pipeline_cfg) if type_name(step) in names), -1)


def _with_one_test_set(cfg: Config) -> Config:
    """Returns a copy of a config whose test set is the first of those that it joins or wraps."""
    cfg = copy.deepcopy(cfg)
    dataset = cfg.test_dataloader.dataset
    while 'pipeline' not in dataset and ('dataset' in dataset or dataset.get('datasets')):
        dataset = dataset.dataset if 'dataset' in dataset else dataset.datasets[0]
    cfg.test_dataloader.dataset = dataset
    return cfg


def _metainfo(cfg: Config) -> dict:
    """Names and colours of the classes of a config's test set; {} if it does not tell."""
    dataset = _with_one_test_set(cfg).test_dataloader.dataset
    meta = DATASETS.build({**dataset, 'lazy_init': True}).metainfo
    return {key: meta[key] for key in ('classes', 'palette') if meta.get(key) is not None}
