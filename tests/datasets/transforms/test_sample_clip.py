import random
from collections import Counter

import numpy as np
import pytest

from mmplugins.datasets.transforms.sample_clip import reflected
from mmplugins.registry import TRANSFORMS
from tests.datasets.videos import save_mask, square


def build(**settings):
    return TRANSFORMS.build(dict(type='mmplugins.SampleClip', **settings))


def video(root, masks):
    for index, mask in enumerate(masks):
        save_mask(root / f'{index}.png', mask)
    paths = [str(root / f'{index}.png') for index in range(len(masks))]
    return lambda: dict(video_name='v', img_path=list(range(len(masks))), seg_map_path=paths)


def draws(transform, clip, count=300):
    random.seed(0)
    return [transform(clip())['img_path'] for _ in range(count)]


def test_reflection_by_walking_to_and_fro():
    for count in range(1, 6):
        position, direction = 0, 1
        for index in range(30):
            assert reflected(index, count) == reflected(-index, count) == position
            if count > 1:
                direction = -direction if not 0 <= position + direction < count else direction
                position += direction


@pytest.mark.parametrize(('prob', 'signs'), [(0.0, {1}), (1.0, {-1}), (0.5, {1, -1})])
def test_gaps_and_reversal(tmp_path, prob, signs):
    """In a long video no clip from the middle meets an end, so steps are the gaps."""
    clip = video(tmp_path, [square(1, 4, 4)] * 60)
    found = [indices for indices in draws(build(length=4, max_gap=3, reverse_prob=prob), clip) if 10 <= indices[0] < 50]
    steps = [np.diff(indices) for indices in found]
    assert len(steps) > 100
    assert {int(np.sign(step[0])) for step in steps} == signs
    assert all(len(set(np.sign(step))) == 1 for step in steps)
    assert {abs(int(value)) for step in steps for value in step} == {1, 2, 3}
    assert len({indices[0] for indices in found}) > 30


def test_a_short_video_turns_round(tmp_path):
    clip = video(tmp_path, [square(1, 4, 4)] * 3)
    indices = draws(build(length=5, max_gap=12), clip)
    assert all(len(one) == 5 for one in indices)
    assert {index for one in indices for index in one} == {0, 1, 2}


def test_the_first_frame_shows_enough(tmp_path):
    """Frames 0 and 1 show nothing or too little; only if no frame shows enough does the best one serve."""
    masks = [square(0, 0, 0), square(1, 0, 0, side=3), square(1, 0, 0, side=6), square(1, 0, 0, side=7)]
    first = Counter(indices[0] for indices in draws(build(length=2, min_pixels=30), video(tmp_path, masks)))
    assert set(first) == {2, 3}
    assert min(first.values()) > 100
    first = {indices[0] for indices in draws(build(length=2, min_pixels=200), video(tmp_path, masks), 20)}
    assert first == {3}


def test_ignored_pixels_are_no_object(tmp_path):
    masks = [square(255, 0, 0), np.maximum(square(255, 0, 0), square(1, 16, 16, side=3))]
    assert {indices[0] for indices in draws(build(length=2), video(tmp_path, masks), 20)} == {1}


def test_a_video_without_objects_gives_way(tmp_path):
    assert build()(video(tmp_path, [square(0, 0, 0)] * 3)()) is None


def test_masks_are_those_of_the_frames(tmp_path):
    masks = [square(1, 2, 3 * index) for index in range(8)]
    results = build(length=3)(video(tmp_path, masks)())
    assert results['seg_fields'] == ['gt_seg_map']
    for index, path, mask in zip(results['img_path'], results['seg_map_path'], results['gt_seg_map'], strict=True):
        assert path.endswith(f'{index}.png')
        assert np.array_equal(mask, masks[index])


def test_clips_without_late_objects_come_first(tmp_path):
    """Object 2 is in the second half only: with one try it often comes in later, with many never."""
    early, late = square(1, 4, 4), np.maximum(square(1, 4, 4), square(2, 4, 20))
    clip = video(tmp_path, [early] * 6 + [late] * 6)

    def share(**settings):
        found = draws(build(length=3, max_gap=3, reverse_prob=0.0, min_pixels=10, **settings), clip)
        return np.mean([indices[0] < 6 and max(indices) >= 6 for indices in found])

    assert share(clip_tries=1) > 0.2
    assert share(clip_tries=50) == 0


def test_settings_out_of_range():
    with pytest.raises(ValueError, match='must be at least 1, got 5, 0, 20 and 5'):
        build(max_gap=0)
