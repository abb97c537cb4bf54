"""Panoptic quality on COCO's format, without panopticapi, which mmdet's metric of the same name needs.

The differences in the numbers are those of ``mmplugins.evaluation.functional.panoptic``; none of them shows on COCO's
own files. Deliberate differences from mmdet's metric: images are compared in memory; files are written for a server's
evaluation only.
"""

import json
import logging
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import fileio
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from PIL import Image

from mmplugins.evaluation.functional import count_segments, panoptic_quality
from mmplugins.functional.segment_images import check_colours, segment_ids, segment_image
from mmplugins.registry import METRICS

INSTANCE_OFFSET = 1000  # a predicted segment is class + INSTANCE_OFFSET * number of the instance, as in mmdet


@METRICS.register_module()
class CocoPanopticMetric(BaseMetric):
    """Panoptic, segmentation and recognition quality (PQ, SQ, RQ), of all classes, things (_th) and stuff (_st), in %.

    It reads mmdet's data samples: ``img_id`` and ``pred_panoptic_seg.sem_seg`` (1, H, W) at the image's own size, whose
    values are class + 1000 times the instance's number, and the number of classes where there is no segment. Labels
    are the categories of the annotations that the data set names, in the annotations' order.

    Args:
        ann_file: The annotations, a JSON file in COCO's panoptic format.
        seg_prefix: Folder of their PNG files; not needed with ``format_only``.
        classwise: Whether the table in the log has a line for each class.
        format_only: Write the predictions in COCO's panoptic format, and measure nothing; ``ann_file`` then only needs
            the categories. A segment's id is its number in the image, from 1; 0 is void.
        outfile_prefix: Start of the two paths that are written: .panoptic.json, and .panoptic, a folder of PNG files.
        backend_args: Arguments of mmengine's file backend.
        **kwargs: What mmengine's BaseMetric takes (collect_device, prefix, collect_dir).

    Raises:
        ValueError: ``seg_prefix``, or with ``format_only`` ``outfile_prefix``, is not given.
    """

    default_prefix = 'coco_panoptic'

    def __init__(
        self,
        ann_file: str,
        seg_prefix: str | None = None,
        classwise: bool = False,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if (outfile_prefix if format_only else seg_prefix) is None:
            raise ValueError(
                f'format_only={format_only} needs {"outfile_prefix, where to write" if format_only else "seg_prefix"}'
            )
        self.seg_prefix = seg_prefix
        self.classwise = classwise
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.backend_args = backend_args
        content = json.loads(fileio.get_text(ann_file, backend_args=backend_args))
        self._disagree: list[str] = []  # images whose PNG and JSON do
        self._categories = content['categories']
        self._annotations = {annotation['image_id']: annotation for annotation in content.get('annotations', ())}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Compares the predictions of one batch with the annotations, or writes them.

        Args:
            data_batch: Not used.
            data_samples: Dicts of mmdet's DetDataSample.

        Raises:
            ValueError: A prediction is missing, or its size is not that of the annotated image; or an annotated image
                is grey or has a pixel of none of its segments.
        """
        categories = self._named_categories()
        if self.format_only:
            self.results += [self._write(sample, categories) for sample in data_samples]
            return
        labels = {category['id']: label for label, category in enumerate(categories)}
        for sample in data_samples:
            annotation = self._annotation(sample)
            truth = self._truth(annotation)
            prediction, prediction_classes = _prediction(sample, len(categories))
            if prediction.shape != truth.shape:
                raise ValueError(
                    f'the prediction for {sample.get("img_path")} is {prediction.shape} and the annotation '
                    f'{truth.shape}; both must have the size of the original image'
                )
            segments = [segment for segment in annotation['segments_info'] if segment['category_id'] in labels]
            others = [segment['id'] for segment in annotation['segments_info'] if segment['category_id'] not in labels]
            if others:  # of classes that are not measured
                truth = np.where(np.isin(truth, others), 0, truth)
            classes = [
                {one['id']: labels[one['category_id']] for one in segments if bool(one.get('iscrowd', 0)) == crowd}
                for crowd in (False, True)
            ]
            self.results.append(count_segments(truth, *classes, prediction, prediction_classes, len(categories)))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Averages over the classes.

        Args:
            results: What ``count_segments`` returned for each image, or with ``format_only`` its entry for the file,
                from all processes.

        Returns:
            PQ, SQ, RQ, PQ_th, ..., RQ_st in %, NaN where no image has such a segment; with ``format_only`` nothing.

        Raises:
            ValueError: There are no results.
        """
        if not results:
            raise ValueError('no image was measured: the test set is empty; check data_root of the test_dataloader')
        if self.format_only:
            path = Path(f'{self.outfile_prefix}.panoptic.json')
            path.write_text(json.dumps({'annotations': results}))
            print_log(f'predictions written: {path} and {path.with_suffix("")}', logger='current')
            return {}
        if self._disagree:
            print_log(
                f'{len(self._disagree)} annotated images (of this process) have PNG and JSON that disagree in part, '
                f'such as {self._disagree[0]}. Segments without a pixel count as missed, those that the JSON lacks as '
                'no void; both must be of one version',
                logger='current',
                level=logging.WARNING,
            )
            self._disagree.clear()
        quality = 100 * panoptic_quality(np.sum(results, axis=0))  # (C, 3)
        categories = self._named_categories()
        things = np.array([bool(category['isthing']) for category in categories])
        metrics, lines = {}, [_line('', 'PQ', 'SQ', 'RQ', 'classes')]
        for suffix, name, chosen in (('', 'all', things | True), ('_th', 'things', things), ('_st', 'stuff', ~things)):
            there = quality[chosen & ~np.isnan(quality[:, 0])]
            mean = there.mean(axis=0) if len(there) else [math.nan] * 3
            metrics.update(
                {f'{key}{suffix}': float(value) for key, value in zip(('PQ', 'SQ', 'RQ'), mean, strict=True)}
            )
            lines.append(_line(name, *(f'{value:.2f}' for value in mean), len(there)))
        if self.classwise:
            lines += [
                _line(category['name'], *(f'{value:.2f}' for value in row), '')
                for category, row in zip(categories, quality, strict=True)
            ]
        print_log('panoptic quality\n' + '\n'.join(lines), logger='current')
        return metrics

    def _named_categories(self) -> list[dict]:
        names = set(self.dataset_meta['classes'])
        return [category for category in self._categories if category['name'] in names]

    def _write(self, sample: dict, categories: Sequence[dict]) -> dict:
        """Writes an image's prediction as PNG; returns its entry for the JSON file."""
        prediction, classes = _prediction(sample, len(categories))
        ids, info = np.zeros(prediction.shape, np.int32), []
        for number, (segment, label) in enumerate(classes.items(), start=1):
            ids[prediction == segment] = number
            info.append({'id': number, 'category_id': categories[label]['id']})
        path = Path(f'{self.outfile_prefix}.panoptic', f'{Path(sample["img_path"]).stem}.png')
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(segment_image(ids)).save(path)
        return {'image_id': sample['img_id'], 'file_name': path.name, 'segments_info': info}

    def _annotation(self, sample: dict) -> dict:
        if sample['img_id'] not in self._annotations:
            raise ValueError(
                f'image {sample["img_id"]} ({sample.get("img_path")}) is not in ann_file; the metric and the test data '
                'set must have the same annotations'
            )
        return self._annotations[sample['img_id']]

    def _truth(self, annotation: dict) -> np.ndarray:
        path = fileio.join_path(self.seg_prefix, annotation['file_name'], backend_args=self.backend_args)
        with Image.open(BytesIO(fileio.get(path, backend_args=self.backend_args))) as image:
            check_colours(image.mode, path)
            ids = segment_ids(np.asarray(image.convert('RGB')))
        listed = [segment['id'] for segment in annotation['segments_info']]
        if listed and not np.isin(ids, listed).any():
            raise ValueError(
                f'{path} has no pixel of any of the {len(listed)} segments that ann_file lists for it; they must be of '
                'one version, and segments red + 256 green + 65536 blue'
            )
        without = sorted({*listed} - {*np.unique(ids).tolist()})
        unlisted = sorted({*np.unique(ids).tolist()} - {*listed, 0})
        if without or unlisted:
            self._disagree.append(
                f'{path}: segments of the JSON without a pixel {without[:5]}, of the PNG that the JSON lacks '
                f'{unlisted[:5]}'
            )
        return ids


def _prediction(sample: dict, num_classes: int) -> tuple[np.ndarray, dict[int, int]]:
    """Returns the segment of each pixel, integers (H, W), and the class of each segment."""
    if 'pred_panoptic_seg' not in sample:
        raise ValueError(
            f'there is no pred_panoptic_seg for {sample.get("img_path")}; set panoptic_on=True in test_cfg of the model'
        )
    segments = sample['pred_panoptic_seg']['sem_seg'].squeeze(0).cpu().numpy()
    ids = np.unique(segments).tolist()
    return segments, {one: one % INSTANCE_OFFSET for one in ids if 0 <= one % INSTANCE_OFFSET < num_classes}


def _line(name: str, *columns: object) -> str:
    return f'{name:>24.24}' + ''.join(f'{column:>9}' for column in columns)
