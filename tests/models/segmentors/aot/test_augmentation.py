import pytest
import torch

pytest.importorskip('mmseg', reason='AOT is built with mmseg')

from mmplugins.models.segmentors.aot import VideoEngine
from mmplugins.models.segmentors.aot.augmentation import AugmentedEngine, View, engine_for
from mmplugins.models.segmentors.aot.settings import TestSettings
from tests.models.segmentors.aot.aot_models import clips, moving_masks, tiny_aot
from tests.models.segmentors.aot.test_segmentor import clip_sample


def predict(frames, mask, **test_cfg):
    model = tiny_aot(test_cfg=test_cfg).eval()
    (sample,) = model(frames, [clip_sample(0, mask)], mode='predict')
    return sample.pred_sem_seg.data


def a_video(length=5, **settings):
    return clips(1, length, **settings), moving_masks(1)[:, 0]


def test_smoke():
    frames, mask = a_video()
    found = predict(frames, mask, flip=True, scales=(0.8, 1.0, 1.3))
    assert found.shape == (5, 33, 49)
    assert torch.equal(found[:1], mask)
    assert not torch.equal(found, predict(frames, mask))


def test_without_augmentation_nothing_changes():
    network = tiny_aot().network
    assert type(engine_for(network, TestSettings())) is VideoEngine
    assert type(engine_for(network, TestSettings(scales=[1.0]))) is VideoEngine
    assert type(engine_for(network, TestSettings(scales=[1.3]))) is AugmentedEngine
    frames, mask = a_video()
    assert torch.equal(predict(frames, mask, scales=(1.0,), flip=False), predict(frames, mask))


def test_a_single_view_is_the_engine():
    """The logits of one view are those of its engine, but for a constant a pixel."""
    network, (frames, mask) = tiny_aot().eval().network, a_video()
    plain, augmented = VideoEngine(network, 1), AugmentedEngine(network, TestSettings(gap=1))
    for engine in (plain, augmented):
        engine.add_reference(frames[:, 0], mask)
    for frame in frames[0, 1:].split(1):
        expected = plain.propagate(frame, (40, 50))
        found = augmented.propagate(frame, (40, 50))
        torch.testing.assert_close(found, expected.log_softmax(1))
        for engine in (plain, augmented):
            engine.remember(expected.argmax(1))
    assert (augmented.frame, augmented.num_objects) == (plain.frame, plain.num_objects) == (4, 2)


def test_a_mirrored_video_gives_mirrored_masks():
    frames, mask = a_video()
    settings = dict(flip=True, gap=2)
    expected = predict(frames, mask, **settings)
    assert torch.equal(predict(frames.flip(4), mask.flip(2), **settings), expected.flip(2))
    assert not torch.equal(predict(frames.flip(4), mask.flip(2), gap=2), predict(frames, mask, gap=2).flip(2))


def test_probabilities_are_averaged_and_the_mask_is_fed_back():
    """Two frames by hand, with an engine for each of four views."""
    network, (frames, mask) = tiny_aot().eval().network, a_video(3)
    engine = AugmentedEngine(network, TestSettings(flip=True, scales=(1.0, 1.4)))
    engine.add_reference(frames[:, 0], mask)
    views = []
    for size in ((33, 49), (49, 65)):  # 46.2x68.6, rounded to 16 k + 1
        images = torch.nn.functional.interpolate(frames[0], size, mode='bicubic', align_corners=True)
        views += [(VideoEngine(network), images if size != (33, 49) else frames[0], side) for side in (False, True)]
    for one, images, side in views:
        one.add_reference(images[:1].flip(3) if side else images[:1], mask.flip(2) if side else mask)
    for t in (1, 2):
        found = engine.propagate(frames[:, t])
        parts = []
        for one, images, side in views:
            part = one.propagate(images[t : t + 1].flip(3) if side else images[t : t + 1], (33, 49)).softmax(1)
            parts.append(part.flip(3) if side else part)
        torch.testing.assert_close(found.exp(), torch.stack(parts).mean(0))
        prediction = found.argmax(1)
        engine.remember(prediction)
        for one, _, side in views:
            one.remember(prediction.flip(2) if side else prediction)


@pytest.mark.parametrize(
    ('align_corners', 'scale', 'expected'),
    [(True, 1.3, (49, 65)), (True, 0.5, (17, 17)), (False, 1.3, (48, 64)), (False, 2.0, (64, 96))],
)
def test_sizes_of_views(align_corners, scale, expected):
    network = tiny_aot(align_corners=align_corners).network
    more = int(align_corners)
    image = torch.zeros(1, 3, 32 + more, 48 + more)
    assert View(scale, True).of(image, network).shape[2:] == expected
    assert View(1.0, False).of(image, network) is image


def test_objects_that_appear_later_and_more_than_identities():
    """Four objects with three identities, two of them from the second frame on."""
    model = tiny_aot(test_cfg=dict(flip=True)).eval()
    masks = moving_masks(1, 3, width=81, objects=4)
    frames = clips(1, 3, width=81)
    first = torch.where(masks[:, 0] <= 2, masks[:, 0], 0)
    later = torch.where(masks[:, 1] > 2, masks[:, 1], 0)
    model(frames[:, :1], [clip_sample(0, first)], mode='predict')
    (sample,) = model(frames[:, 1:2], [clip_sample(1, later)], mode='predict')
    assert (sample.pred_sem_seg.data[later > 0] == later[later > 0]).all()
    (sample,) = model(frames[:, 2:], [clip_sample(2)], mode='predict')
    assert model._tracker.engine.num_objects == 4
    assert sample.pred_sem_seg.data.max() <= 4


@pytest.mark.parametrize('settings', [dict(flip=False), dict(flip=True, scales=(1.0, 1.4))])
def test_memory_is_constant_in_the_length(settings):
    """Bytes that a model keeps between frames, weights excepted, over a long video."""
    model = tiny_aot(test_cfg=dict(gap=1, max_stored=3) | settings).eval()
    frames, mask = a_video(3)
    kept = []
    for t in range(12):
        sample = clip_sample(t, mask if t == 0 else None)
        model(frames[:, t % 3][:, None], [sample], mode='predict')
        engine = model._tracker.engine
        engines = getattr(engine, 'engines', [engine])
        entries = [x for e in engines for m in e._memories for x in (*m.long_term, *m.short_term)]
        kept.append((len(entries), sum(y.untyped_storage().nbytes() for x in entries for y in x)))
    assert kept[3] != kept[0]
    assert kept[3:] == [kept[3]] * 9


def test_wrong_scales():
    for scales in ((), (1.0, 0.0)):
        with pytest.raises(ValueError, match=r'scales are factors of the size, above 0, at least one; got \('):
            tiny_aot(test_cfg=dict(scales=scales))
