import pytest
import torch

pytest.importorskip('mmseg', reason='AOT is built with mmseg')

from mmplugins.models.segmentors.aot.augmentation import engine_for
from mmplugins.models.segmentors.aot.engine import merge_groups
from mmplugins.models.segmentors.aot.settings import SequencePass, TestSettings, TrainSettings
from mmplugins.models.segmentors.aot.training import sequence_logits
from tests.models.segmentors.aot.aot_models import clips, moving_masks, tiny_aot


def test_a_config_names_what_differs_from_the_defaults():
    assert TrainSettings.read(None, 'train_cfg') == TrainSettings(None, True, 50000, 1.0, 100000)
    assert TrainSettings.read(dict(gap=2), 'train_cfg') == TrainSettings(gap=2)
    assert TestSettings.read(dict(flip=True, max_stored=3), 'test_cfg') == TestSettings(None, 3, True, (1.0,))


@pytest.mark.parametrize(
    ('step', 'weight', 'expected'),
    [
        (0, 2.0, SequencePass(3, own_masks=False, decode_reference=True, shuffle=True)),
        (75, 0.5, SequencePass(3, own_masks=True, decode_reference=True, shuffle=True)),
        (100, 0.0, SequencePass(3, own_masks=True, decode_reference=False, shuffle=True)),
    ],
)
def test_a_training_by_hand(step, weight, expected):
    """The weight falls from 2 to 0 over 100 steps; predicted masks feed the memory from step 60 on."""
    settings = TrainSettings(gap=3, own_masks_from=60, aux_loss_weight=2.0, aux_loss_steps=100)
    assert settings.aux_weight(step) == weight
    assert settings.sequence_pass(step) == expected


def test_predicted_masks_may_never_feed_the_memory():
    settings = TrainSettings(own_masks_from=None, aux_loss_steps=0)
    assert settings.sequence_pass(10**6) == SequencePass(None, False, False, True)


@pytest.mark.parametrize(
    ('settings', 'augmented'),
    [({}, False), (dict(scales=[1]), False), (dict(flip=True), True), (dict(scales=[2]), True)],
)
def test_one_view_is_no_augmentation(settings, augmented):
    assert TestSettings(**settings).augmented is augmented


def test_errors_name_the_settings():
    with pytest.raises(
        TypeError, match=r'train_cfg has no setting long_gap, steps; its settings are gap, shuffle_ident'
    ):
        tiny_aot(train_cfg=dict(steps=3, gap=1, long_gap=5))
    with pytest.raises(
        TypeError, match='test_cfg has no setting scale; its settings are gap, max_stored, flip, scales'
    ):
        tiny_aot(test_cfg=dict(scale=2))
    with pytest.raises(ValueError, match=r'scales are factors of the size, above 0, at least one; got \(\)'):
        TestSettings(scales=())


def test_a_network_of_float64_computes_in_it():
    network = tiny_aot().eval().double().network
    frames, masks = clips(1).double(), moving_masks(1)
    logits = sequence_logits(network, frames, masks, torch.tensor([2]), SequencePass())
    assert {x.dtype for x in logits} == {torch.float64}
    engine = engine_for(network, TestSettings(flip=True))
    engine.add_reference(frames[:, 0], masks[:, 0])
    assert engine.propagate(frames[:, 1]).dtype == torch.float64
    half = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).half()
    assert merge_groups([half, half]).dtype == torch.float32
