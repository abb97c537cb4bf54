"""Panoptic quality beside hotcoco, whose numbers are those of panopticapi, which is on no package index."""

import json

import numpy as np
import pytest
from PIL import Image

from mmplugins.evaluation.functional import count_segments, panoptic_quality
from mmplugins.functional.segment_images import segment_image

panoptic = pytest.importorskip('hotcoco.panoptic', reason='hotcoco 1.3.0 has the numbers to compare with')
CATEGORIES, SHAPE = 3, (24, 32)


def scene(rng, count):
    """Rectangles over one another, numbered from 1; 0 is void."""
    ids = np.zeros(SHAPE, dtype=np.int64)
    for number in range(1, count + 1):
        top, left = rng.integers(0, 16), rng.integers(0, 20)
        ids[top : top + rng.integers(2, 14), left : left + rng.integers(2, 16)] = number
    return ids


def write(folder, name, ids, classes, crowds=()):
    """An image in COCO's panoptic format; segments that are not in ``classes`` stand in the PNG alone."""
    (folder / name).mkdir()
    Image.fromarray(segment_image(ids)).save(folder / name / 'a.png')
    info = [
        dict(id=one, category_id=index, iscrowd=int(one in crowds), area=int((ids == one).sum()), bbox=[0, 0, 1, 1])
        for one, index in classes.items()
    ]
    categories = [dict(id=index, name=str(index), isthing=int(index < 2)) for index in range(CATEGORIES)]
    image = dict(id=1, file_name='a.jpg', height=SHAPE[0], width=SHAPE[1])
    entry = dict(image_id=1, file_name='a.png', segments_info=info)
    path = folder / f'{name}.json'
    path.write_text(json.dumps(dict(images=[image], annotations=[entry], categories=categories)))
    return str(path)


@pytest.mark.parametrize('kind', ['plain', 'crowds', 'unlisted'])
def test_random_scenes(tmp_path, kind):
    """Several crowds of a class, and segments in the PNG that the JSON lacks, among them."""
    different = 0
    for seed in range(50):
        rng, folder = np.random.default_rng(seed), tmp_path / str(seed)
        folder.mkdir()
        truth = scene(rng, 9)
        prediction = np.where(rng.random(SHAPE) < 0.9, truth, scene(rng, 9))
        classes = {int(one): int(rng.integers(CATEGORIES)) for one in np.unique(truth) if one}
        predicted = {int(one): classes.get(int(one), 1) for one in np.unique(prediction) if one}
        crowds = [one for one in classes if kind == 'crowds' and rng.random() < 0.4]
        if kind == 'unlisted':
            classes.pop(next(iter(classes)))
        paths = write(folder, 'truth', truth, classes, crowds), write(folder, 'found', prediction, predicted)
        theirs = panoptic.pq_compute(*paths)['per_class']
        segments = {one: index for one, index in classes.items() if one not in crowds}
        counts = count_segments(
            truth, segments, {one: classes[one] for one in crowds}, prediction, predicted, CATEGORIES
        )
        for index, row in enumerate(panoptic_quality(counts)):
            expected = [theirs[index][name] for name in ('pq', 'sq', 'rq')]
            different += not np.allclose(np.nan_to_num(row, nan=-1), expected, atol=1e-9)
    assert different == 0
