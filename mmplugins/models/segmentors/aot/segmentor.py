"""AOT as a model of mmengine: training on short sequences, inference on videos frame by frame.

Paper: AOT, 'Associating Objects with Transformers for Video Object Segmentation' (NeurIPS 2021). Released code:
github.com/yoxu515/aot-benchmark; each part's own file is named in the modules beside this one.

Deliberate differences: see those modules, and the components table of configs/aot/README.md.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmplugins.models.losses.deferred_checks import DeferredChecks
from mmplugins.models.losses.topk_cross_entropy_loss import current_iteration
from mmplugins.registry import MODELS

from .augmentation import engine_for
from .network import AOTNetwork
from .settings import SequencePass, TestSettings, TrainSettings
from .tracker import IGNORED, Tracker
from .training import sequence_logits


@MODELS.register_module()
class AOT(DeferredChecks, BaseModel):
    """Semi-supervised video object segmentation: the masks of the first frame are given, all others are found.

    What the data loader passes:

    - ``inputs``: B clips (T, 3, H, W), which ``VOSDataPreprocessor`` makes (B, T, 3, H, W); height and width are
      16 k + 1 (16 k with ``align_corners=False``).
    - ``data_samples``: B ``SegDataSample``. For training each has ``gt_sem_seg``, the object of each pixel of all
      frames, integer, (T, H, W): 0 background, 1 to ``num_objects``, 255 ignored; and ``num_objects`` in its metainfo
      (if it is missing, it is read from the masks). The first frame's mask is what the network is given.
    - For inference there is one clip (B = 1) of any length T; a video is one clip, or several in order, down to single
      frames. The metainfo has ``frame_id``, the index in its video of the clip's first frame, and ``ori_shape``, the
      size of the predictions (if it is missing, that of the inputs). ``ref_sem_seg``, (1, h, w) of any size, is the
      mask that is given for the clip's first frame: objects are 1 to 254, in any choice. The first clip of a video must
      have one; a later one may, with the objects that appear there, and 0 elsewhere. Predictions are
      ``pred_sem_seg``, uint8, (T, h, w), with the objects' own numbers.

    The losses in training:

    1. Every frame but the first has all of ``loss_decode``; their mean over samples and frames.
    2. The reference frame has them too, times a weight that falls to 0: ``ref.loss_*`` in the log.

    From iteration ``own_masks_from`` on the identity bank gets no gradient; distributed training then needs
    ``find_unused_parameters=True``.

    Args:
        backbone: Config of a backbone with outputs of strides 4, 8 and 16, and possibly a fourth level of stride 16.
        in_channels: Channels of strides 4, 8 and 16, and of the deepest level.
        channels: Channels of the embedding.
        num_blocks: Blocks of the transformer: 1 for AOT-T, 2 for AOT-S, 3 for AOT-B and AOT-L.
        num_heads: Heads of its attentions.
        window: Side of the short-term window in positions, odd.
        feedforward_channels: Width of its feed-forward networks.
        drop_path: Rate at which its residuals are dropped in training.
        max_objects: Objects of one pass; more go through several passes in inference.
        align_corners: Whether images have sizes 16 k + 1, and corners are aligned.
        loss_decode: Config of a loss on label maps, or a list; None: half top-k cross entropy and half soft Jaccard.
        train_cfg: See ``TrainSettings``.
        test_cfg: See ``TestSettings``.
        data_preprocessor: Config of the preprocessor; None: ``VOSDataPreprocessor`` with its defaults.
        init_cfg: As mmengine's BaseModule takes it.

    Raises:
        ValueError: Settings that do not fit one another.
        TypeError: ``train_cfg`` or ``test_cfg`` has a key that there is not.
    """

    def __init__(
        self,
        backbone: dict,
        in_channels: Sequence[int] = (24, 32, 96, 1280),
        channels: int = 256,
        num_blocks: int = 1,
        num_heads: int = 8,
        window: int = 15,
        feedforward_channels: int = 1024,
        drop_path: float = 0.1,
        max_objects: int = 10,
        align_corners: bool = True,
        loss_decode: dict | Sequence[dict] | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(data_preprocessor or dict(type='mmplugins.VOSDataPreprocessor'), init_cfg)
        if channels % num_heads:
            raise ValueError(f'num_heads must divide the channels, got {num_heads} heads for {channels} channels')
        self.train_cfg = TrainSettings.read(train_cfg, 'train_cfg')
        self.test_cfg = TestSettings.read(test_cfg, 'test_cfg')
        self.network = AOTNetwork(
            MODELS.build(backbone),
            in_channels,
            channels,
            max_objects,
            align_corners,
            num_blocks=num_blocks,
            num_heads=num_heads,
            window=window,
            feedforward_channels=feedforward_channels,
            drop_path=drop_path,
        )
        losses = loss_decode or [
            dict(type='mmplugins.TopKCrossEntropyLoss', hard_example_mining_step=50000, loss_weight=0.5),
            dict(type='mmplugins.SoftJaccardLoss', loss_weight=0.5),
        ]
        self.loss_decode = nn.ModuleList(MODELS.build(x) for x in ([losses] if isinstance(losses, dict) else losses))
        self._tracker: Tracker | None = None

    def forward(self, inputs: Tensor, data_samples: Sequence[SegDataSample] | None = None, mode: str = 'tensor'):
        """Runs one of mmengine's modes; see the class for what comes in.

        Args:
            inputs: Normalised clips, shape (B, T, 3, H, W).
            data_samples: One for each clip.
            mode: 'loss' returns losses by name, 'predict' the data samples with ``pred_sem_seg``, 'tensor' the logits
                of all frames, (B, T, max_objects + 1, H, W), with the annotated masks in the memory.

        Raises:
            ValueError: The mode is none of these, or the data do not fit.
        """
        if mode not in ('loss', 'predict', 'tensor'):
            raise ValueError(f"mode is 'loss', 'predict' or 'tensor', got {mode!r}")
        if inputs.dim() != 5 or not data_samples or len(data_samples) != len(inputs):
            raise ValueError(
                'AOT takes clips (B, T, 3, H, W) and a data sample for each, got '
                f'{tuple(inputs.shape)} and {len(data_samples or [])} data samples'
            )
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        masks, num_objects = self._annotations(inputs, data_samples)
        settings = SequencePass(self.train_cfg.gap)
        return torch.stack(sequence_logits(self.network, inputs, masks, num_objects, settings), 1)

    def loss(self, inputs: Tensor, data_samples: Sequence[SegDataSample], step: int | None = None) -> dict[str, Tensor]:
        """Computes the losses of a batch of sequences.

        Args:
            inputs: Normalised clips, shape (B, T, 3, H, W), of at least two frames.
            data_samples: With ``gt_sem_seg`` (T, H, W).
            step: Iteration; None: the runner's.

        Returns:
            Losses by name, weighted; their sum is what is trained.
        """
        if inputs.shape[1] < 2:
            raise ValueError(f'training needs clips of at least two frames, got {inputs.shape[1]}; set the clip length')
        step = current_iteration() if step is None else step
        masks, num_objects = self._annotations(inputs, data_samples)
        aux_weight = self.train_cfg.aux_weight(step)
        settings = self.train_cfg.sequence_pass(step)
        reference, *others = sequence_logits(self.network, inputs, masks, num_objects, settings)
        losses = {}
        for loss in self.loss_decode:
            frames = [loss(logits, masks[:, t], step=step) for t, logits in enumerate(others, 1)]
            _add(losses, loss.loss_name, torch.stack(frames).mean())
            if reference is not None:
                _add(losses, f'ref.{loss.loss_name}', aux_weight * loss(reference, masks[:, 0], step=step))
        return losses

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: Sequence[SegDataSample]) -> list[SegDataSample]:
        """Tracks through a clip, from where the clip before ended, unless a new video begins.

        Args:
            inputs: Normalised, shape (1, T, 3, H, W).
            data_samples: One; see the class.

        Returns:
            The data sample with ``pred_sem_seg``, uint8, (T, h, w) of the original size.
        """
        if len(inputs) != 1:
            raise ValueError(f'inference takes one clip at a time, got {len(inputs)}; set batch_size=1')
        sample = data_samples[0]
        given = sample.ref_sem_seg.data if 'ref_sem_seg' in sample else None
        size = tuple(sample.metainfo.get('ori_shape', inputs.shape[3:]))[:2]
        tracker = self._tracker_for(sample, given is not None)
        dtype = self.test_cfg.autocast
        autocast = torch.autocast(inputs.device.type, getattr(torch, dtype)) if dtype else nullcontext()
        try:
            with autocast:
                predictions = [
                    tracker.track(frame, given if index == 0 else None, size)
                    for index, frame in enumerate(inputs[0].split(1))
                ]
        except ValueError as error:
            raise ValueError(f'{_clip_name(sample)}: {error}') from error
        sample.pred_sem_seg = PixelData(data=torch.cat(predictions))
        return [sample]

    def train(self, mode: bool = True) -> 'AOT':
        """Sets the mode and forgets the video that was tracked; see ``DeferredChecks`` for what it may raise."""
        self._tracker = None
        return super().train(mode)

    def _tracker_for(self, sample: SegDataSample, has_mask: bool) -> Tracker:
        frame, video = sample.metainfo.get('frame_id', 0), sample.metainfo.get('video_name', '')
        if frame == 0:
            if not has_mask:
                raise ValueError(f'video {video!r}: its first frame has no mask; ref_sem_seg must hold one')
            self._tracker = Tracker(engine_for(self.network, self.test_cfg))
        elif self._tracker is None or self._tracker.frame != frame - 1:
            before = 'none' if self._tracker is None else self._tracker.frame
            raise ValueError(
                f'video {video!r}: frame {frame} must follow frame {frame - 1}, but the frame before was {before}; '
                'feed the frames of a video in order, to one process'
            )
        return self._tracker

    def _annotations(self, inputs: Tensor, data_samples: Sequence[SegDataSample]) -> tuple[Tensor, Tensor]:
        """Stacks the annotated masks, (B, T, H, W), and the numbers of objects, int64 (B,); checks them."""
        masks = torch.stack([sample.gt_sem_seg.data for sample in data_samples])
        expected = (*inputs.shape[:2], *inputs.shape[3:])
        if tuple(masks.shape) != expected:
            raise ValueError(f'gt_sem_seg must be (T, H, W) of the clips, {expected}, got {tuple(masks.shape)}')
        largest = torch.where(masks == IGNORED, 0, masks).flatten(1).amax(1).long()
        numbers = [sample.metainfo.get('num_objects') for sample in data_samples]
        if None in numbers:
            num_objects = largest
        else:
            num_objects = torch.tensor(numbers, device=masks.device)
        most = self.network.max_objects
        self._reads.poll()
        clips = [_clip_name(sample) for sample in data_samples]
        self._reads.push(torch.stack([largest, num_objects]), lambda pair: _check_objects(pair, most, clips))
        return masks, num_objects


def _add(losses: dict[str, Tensor], name: str, value: Tensor) -> None:
    losses[name] = losses[name] + value if name in losses else value


def _clip_name(sample: SegDataSample) -> str:
    """What an error calls a clip: its video and its files."""
    video, paths = sample.metainfo.get('video_name', ''), sample.metainfo.get('img_path', ())
    paths = [paths] if isinstance(paths, str) else [str(path) for path in paths]
    return (f'video {video!r}' if video else 'a clip') + (f' ({", ".join(paths)})' if paths else '')


def _check_objects(pair: Tensor, most: int, clips: Sequence[str]) -> None:
    """Raises ValueError for a clip with an object beyond its number of objects, or with too many of them."""
    wrong = [
        f'{clip}: largest object {seen}, num_objects {number}'
        for seen, number, clip in zip(*pair.tolist(), clips, strict=True)
        if seen > number or number > most
    ]
    if wrong:
        raise ValueError(
            f'masks must hold 0 to num_objects, and at most {most} of them, or {IGNORED}; got '
            f'{"; ".join(wrong)}; number the objects of each clip from 1, at most {most}: mmplugins.RandomCropClip and '
            'MergeClips do, with max_objects as in the model'
        )
