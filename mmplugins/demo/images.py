"""Predicts images one by one with the inferencer of a config's toolbox, and writes predictions and pictures."""

from contextlib import closing, nullcontext
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from rich.progress import track

from mmplugins import apis
from mmplugins.engine.launch import UsageError, type_name

from .outputs import VideoFile, is_video
from .sources import Inputs

# Heads of mmdet's models; a config whose default scope is neither toolbox's is told by them.
DETECTOR_HEADS = ('bbox_head', 'roi_head', 'rpn_head', 'panoptic_head', 'mask_head', 'query_head')


def scope_of(cfg: Config) -> str:
    """The toolbox that a config's model is of, 'mmdet' or 'mmseg'."""
    scope = cfg.get('default_scope')
    if scope in ('mmdet', 'mmseg'):
        return scope
    return 'mmdet' if any(name in cfg.model for name in DETECTOR_HEADS) else 'mmseg'


def predict_images(
    cfg: Config, checkpoint: str, source: str, out: str, device: str, threshold: float = 0.3, fps: float | None = None
) -> int:
    """Predicts all images of a source, with a progress bar.

    Args:
        cfg: Config of a segmentor or a detector.
        checkpoint: Checkpoint file.
        source: Image, folder of images, or video file.
        out: Video file of pictures to write, or folder: ``vis/NAME.jpg`` are pictures, ``preds/NAME.png`` label maps,
            of heads of one channel probabilities times 255, ``preds/NAME.json`` objects, and
            ``preds/NAME_panoptic_seg.png`` segments.
        device: As ``torch.device`` takes it.
        threshold: Least score of an object that is drawn.
        fps: Frames a second of a video that is written; None: the source's, or 24.

    Returns:
        The number of images.

    Raises:
        UsageError: Something of the above cannot be used.
    """
    inputs = Inputs(source)
    predictor = Predictor(cfg, checkpoint, device, threshold)
    folder = None if is_video(out) else Path(out)
    count = 0
    with nullcontext() if folder else closing(VideoFile(out, fps or inputs.fps or 24)) as video:
        for name, image in track(inputs, 'predicting', total=inputs.count or None):
            picture = predictor(name, image, folder)
            count += 1
            if folder is None:
                video.add(picture)
                continue
            (folder / 'vis').mkdir(parents=True, exist_ok=True)
            (folder / 'vis' / f'{name}.jpg').write_bytes(cv2.imencode('.jpg', picture)[1])
    if not count:
        raise UsageError(f'{source} has no frame that OpenCV can read')
    return count


class Predictor:
    """Predicts an image and draws it.

    Args:
        cfg: Config of a segmentor or a detector.
        checkpoint: Checkpoint file.
        device: As ``torch.device`` takes it.
        threshold: Least score of an object that is drawn.

    Raises:
        UsageError: The checkpoint is of another model.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str, threshold: float) -> None:
        self.detects = scope_of(cfg) == 'mmdet'
        cls = apis.DetInferencer if self.detects else apis.SegInferencer
        self.inferencer = cls(cfg, checkpoint, device=device, show_progress=False)
        # mmseg's own opacity, 0.8, leaves little of the image to be seen
        self.settings = dict(pred_score_thr=threshold) if self.detects else dict(opacity=0.5)
        self.binary = not self.detects and getattr(self.inferencer.model, 'out_channels', None) == 1

    def __call__(self, name: str, image: str | np.ndarray, folder: Path | None) -> np.ndarray:
        """Predicts an image, and writes what is predicted.

        Args:
            name: Name of the files that are written, without suffix.
            image: Path of a file, or BGR, uint8, (H, W, 3).
            folder: Where ``preds`` is written; None: nowhere.

        Returns:
            The picture, BGR, uint8, (H, W, 3).

        Raises:
            UsageError: The file is no image.
        """
        loader = self.inferencer.pipeline.transforms[0]
        try:
            # the pixels that the network gets, whatever backend and orientation the config asks for
            loaded = loader(image)['img']
        except (AssertionError, ValueError, OSError, TypeError, AttributeError, cv2.error) as error:
            raise UsageError(f'{image} is no image that can be read; replace it') from error
        data = next(iter(self.inferencer.preprocess([image], 1)))
        (sample,) = self.inferencer.forward(data[1] if self.detects else data)
        sample = sample.cpu()
        if folder is not None:
            self._write(sample, name, folder)
        shown = np.ascontiguousarray(np.asarray(loaded).clip(0, 255).astype(np.uint8)[..., ::-1])  # RGB
        drawn = self.inferencer.visualize([shown], [sample], return_vis=True, **self.settings)
        return np.ascontiguousarray(drawn[0][..., ::-1])

    def _write(self, sample: object, name: str, folder: Path) -> None:
        if self.detects:
            sample.set_metainfo(dict(img_path=f'{name.replace(".", "_")}.png'))  # mmdet takes the name from it
            self.inferencer.pred2dict(sample, str(folder))
            return
        (folder / 'preds').mkdir(parents=True, exist_ok=True)
        if self.binary:
            values = (sample.seg_logits.data[0] * 255).round()  # mmseg has taken the sigmoid
        else:
            values = sample.pred_sem_seg.data[0]
        values = values.numpy()
        values = values.astype(np.uint8 if values.max() < 256 else np.uint16)
        (folder / 'preds' / f'{name}.png').write_bytes(cv2.imencode('.png', values)[1])


def needs_mask(cfg: Config) -> bool:
    """Whether a config's model tracks objects of a first mask."""
    return type_name(cfg.get('model') or {}) == 'AOT'
