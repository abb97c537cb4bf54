"""Region similarity and boundary accuracy of video object segmentation, as DAVIS measures them.

Paper: A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation (CVPR 2016), section 5. Released
code: davis2017-evaluation, ``evaluation.py`` and ``evaluation_method.py``, semi-supervised task.

Deliberate differences: frames are measured as they come, and only the numbers are kept; an object that appears later is
measured from the frame after the one with its mask; frames without annotation are not measured.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.dist import all_gather_object, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from mmplugins.evaluation.functional import object_results, object_scores, results_table, summarize, write_results
from mmplugins.evaluation.functional.video_objects import VOID, import_evaluator
from mmplugins.registry import METRICS
from mmplugins.visualization import write_index_image

MAX_LISTED = 20
META = ('video_name', 'frame_id', 'frame_name', 'num_frames')


class FrameScores(NamedTuple):
    """What is kept of one frame.

    Attributes:
        video: Name of its video.
        frame: Index in the video, from 0.
        num_frames: Frames of the video.
        scores: J and F by object, of those that were given before; None if the frame is not annotated.
        not_given: Name of the frame, by the objects of its annotation that were not given up to now.
    """

    video: str
    frame: int
    num_frames: int
    scores: dict[int, tuple[float, float]] | None
    not_given: dict[int, str]


@METRICS.register_module()
class VOSMetric(BaseMetric):
    """J, F and J&F of videos whose frames come one by one, in order.

    It reads data samples of single frames: ``pred_sem_seg``, (1, H, W), of the size ``ori_shape``; ``gt_sem_seg``, of
    the same size, if the frame is annotated (255 is void); ``ref_sem_seg`` on frames whose mask is given; and in the
    metainfo ``video_name``, ``frame_id`` (from 0), ``frame_name`` and ``num_frames``. The steps:

    1. An object is one of a mask that is given: of ``ref_sem_seg``, or else of ``gt_sem_seg`` of the first frame. It is
       measured in all annotated frames after that, the video's last annotated frame excepted. Objects that appear later
       without being given are not measured, as in DAVIS; the log names them.
    2. Over the frames of each object: the mean; the recall, the share of frames above 0.5; the decay, the mean of the
       first quarter minus that of the last.
    3. Each is averaged over all objects of the data set, whatever their videos. J&F is the mean of the two means.

    Results are in percent, named J&F, J-Mean, J-Recall, J-Decay, F-Mean, F-Recall and F-Decay. In distributed tests a
    video must stay on one process; processes may have different numbers of frames. Tables are sorted by video.

    Args:
        output_dir: Folder for the predictions as PNG with object numbers and DAVIS's palette,
            ``<output_dir>/<video_name>/<frame_name>.png``, and for ``global_results.csv`` and
            ``per-sequence_results.csv``, fractions as those of the released code. None: nothing is written.
        format_only: Write the predictions and measure nothing, for data without annotation.
        **kwargs: What mmengine's BaseMetric takes: ``prefix``; ``collect_device`` and ``collect_dir`` have no effect.

    Raises:
        ImportError: vos-benchmark is not installed.
        ValueError: ``format_only`` without ``output_dir``.
    """

    default_prefix = ''  # no prefix, and no warning of mmengine that there is none

    def __init__(self, output_dir: str | None = None, format_only: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        if format_only and output_dir is None:
            raise ValueError('format_only writes the predictions and nothing else; say where with output_dir')
        if not format_only:
            import_evaluator()
        self.output_dir = output_dir
        self.format_only = format_only
        self._video: str | None = None
        self._frame = -1
        self._objects: set[int] = set()  # of the current video, given so far

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Measures and writes frames.

        Args:
            data_batch: Not used.
            data_samples: Dicts of the data samples; see the class.

        Raises:
            ValueError: A frame is out of order, or its masks do not fit.
        """
        for sample in data_samples:
            self._follow(sample)
            prediction = _prediction(sample)
            if self.output_dir is not None:
                name = f'{sample["frame_name"]}.png'
                write_index_image(Path(self.output_dir, sample['video_name'], name), prediction)
            scores, not_given = (None, {}) if self.format_only else self._measure(sample, prediction)
            self.results.append(FrameScores(self._video, self._frame, int(sample['num_frames']), scores, not_given))

    def evaluate(self, size: int) -> dict[str, float]:
        """Gathers the frames of all processes and computes the results in each of them.

        mmengine's own deals the processes' lists out in turn and cuts them to the shortest, which fits images only.

        Args:
            size: Not used; videos know their lengths.
        """
        results = [frame for part in all_gather_object(self.results) for frame in part]
        self.results.clear()
        self._video = None
        metrics = self.compute_metrics(results)
        return {f'{self.prefix}/{name}': value for name, value in metrics.items()} if self.prefix else metrics

    def compute_metrics(self, results: list[FrameScores]) -> dict[str, float]:
        """Computes the results, logs them by sequence and object, and writes the tables.

        Args:
            results: All frames of all videos, each video's in order.

        Raises:
            ValueError: A video is not complete, or there is nothing to measure.
        """
        videos = _complete_videos(results)
        if self.format_only:
            print_log(f'predictions of {len(videos)} videos are in {self.output_dir}', logger='current')
            return {}
        objects = []
        for name in sorted(videos):  # whichever process had them
            annotated = [frame.scores for frame in videos[name] if frame.scores is not None]
            objects += object_results(name, annotated[:-1])
        _log_not_given(videos)
        if not objects:
            raise ValueError(
                f'no object of {len(videos)} videos is annotated in a frame between the one with its mask and '
                'the last one; for data without annotation set format_only=True and output_dir'
            )
        print_log('\n' + results_table(objects), logger='current')
        if self.output_dir is not None and is_main_process():
            write_results(self.output_dir, objects)
        return {name: 100 * value for name, value in summarize(objects).items()}

    def _follow(self, sample: Mapping[str, Any]) -> None:
        """Moves on to a frame; it must be the next one of the video, or the first of another."""
        missing = [key for key in META if key not in sample]
        if missing:
            raise ValueError(f'VOSMetric needs {", ".join(META)} in the metainfo, {", ".join(missing)} is missing')
        video, frame = sample['video_name'], int(sample['frame_id'])
        if video != self._video or frame == 0:
            self._video, self._frame, self._objects = video, -1, set()
        if frame != self._frame + 1:
            before = 'none' if self._frame < 0 else self._frame
            raise ValueError(
                f'video {video!r}: frame {frame} must follow frame {frame - 1}, but the frame before was {before}; '
                'feed the frames of a video in order, each once, to one process'
            )
        self._frame = frame

    def _measure(
        self, sample: Mapping[str, Any], prediction: np.ndarray
    ) -> tuple[dict[int, tuple[float, float]] | None, dict[int, str]]:
        """Returns the scores of a frame, and what its annotation shows that was not given (see FrameScores)."""
        where = f'video {self._video!r}, frame {self._frame}'
        annotated = _mask(sample, 'gt_sem_seg')
        given = _mask(sample, 'ref_sem_seg')
        if given is None and self._frame == 0:
            given = annotated
            if annotated is None:
                raise ValueError(f'{where}: the first frame needs ref_sem_seg or gt_sem_seg, to say what to track')
        new = set() if given is None else set(np.unique(given).tolist()) - {0, VOID} - self._objects
        known = self._objects | new
        strange = set(np.flatnonzero(np.bincount(prediction.ravel())).tolist()) - known - {0}
        if strange:
            raise ValueError(
                f'{where}: the prediction has an object {min(strange)}, but the masks given up to now have '
                f'{sorted(known)}'
            )
        scores, not_given = None, {}
        if annotated is not None:
            if annotated.shape != prediction.shape:
                raise ValueError(
                    f'{where}: gt_sem_seg {annotated.shape} must be of the size of the frame, {prediction.shape}; load '
                    'it after Resize in the test pipeline'
                )
            scores = object_scores(prediction, annotated, self._objects)
            shown = set(np.flatnonzero(np.bincount(annotated.ravel())).tolist())
            not_given = dict.fromkeys(shown - known - {0, VOID}, sample['frame_name'])
        self._objects = known
        return scores, not_given


def _mask(sample: Mapping[str, Any], field: str) -> np.ndarray | None:
    """Reads a mask of one frame, uint8, (H, W); None if there is none."""
    if field not in sample:
        return None
    mask: Tensor = sample[field]['data']
    if mask.dim() != 3 or len(mask) != 1:
        raise ValueError(
            f'video {sample["video_name"]!r}: VOSMetric takes single frames, whose {field} is (1, H, W), got '
            f'{tuple(mask.shape)}; let the test data set give one frame at a time'
        )
    return mask[0].cpu().numpy().astype(np.uint8)


def _prediction(sample: Mapping[str, Any]) -> np.ndarray:
    """Reads the prediction, uint8, (H, W)."""
    prediction = _mask(sample, 'pred_sem_seg')
    if prediction is None:
        raise ValueError(f'video {sample["video_name"]!r}: the data sample has no pred_sem_seg; is the model AOT?')
    size = tuple(sample.get('ori_shape', prediction.shape)[:2])
    if prediction.shape != size:
        raise ValueError(
            f'video {sample["video_name"]!r}, frame {sample["frame_id"]}: the prediction must be of the original size '
            f'{size}, got {prediction.shape}'
        )
    return prediction


def _log_not_given(videos: Mapping[str, Sequence[FrameScores]]) -> None:
    """Names the objects that annotations show and no mask gave before."""
    lines = []
    for name in sorted(videos):
        first: dict[int, str] = {}
        for frame in videos[name]:
            first = frame.not_given | first
        lines += [f'video {name}: object {number}, first seen at frame {first[number]}' for number in sorted(first)]
    if lines:
        more = f'\n  ... and {len(lines) - MAX_LISTED} more' if len(lines) > MAX_LISTED else ''
        print_log(
            f'{len(lines)} object(s) are annotated, but no mask gave them up to there, so they are not measured:\n  '
            + '\n  '.join(lines[:MAX_LISTED])
            + more
            + "\nDAVIS takes the objects of a video's first mask only; to give and measure objects that appear later, "
            'list the frames of each object in a JSON as YouTube-VOS has it (ann_file of VOSDataset)',
            logger='current',
            level=logging.WARNING,
        )


def _complete_videos(results: Iterable[FrameScores]) -> dict[str, list[FrameScores]]:
    """Groups frames by their video; checks that each frame is there once."""
    videos: dict[str, list[FrameScores]] = {}
    for frame in results:
        videos.setdefault(frame.video, []).append(frame)
    if not videos:
        raise ValueError('no frame was measured: the test set is empty; check data_root of the test_dataloader')
    for name, frames in videos.items():
        found = sorted(frame.frame for frame in frames)
        expected = list(range(frames[0].num_frames))
        if found == expected:
            continue
        lost, again = sorted(set(expected) - set(found)), sorted({x for x in found if found.count(x) > 1})
        raise ValueError(
            f'video {name!r} has {len(expected)} frames; missing: {lost[:10]}, more than once: {again[:10]}; '
            'each must come once: use a sampler that keeps whole videos on a process and fills up nothing'
        )
    return videos
