"""Videos and training passes of the released code, weights through the converter."""

import pytest
import torch

from mmplugins.testing import assert_relative, load_golden
from tests.locations import golden_files

pytest.importorskip('mmseg', reason='AOT is built with mmseg')

from mmplugins.models.segmentors.aot import VideoEngine
from mmplugins.models.segmentors.aot.settings import SequencePass
from mmplugins.models.segmentors.aot.training import sequence_logits
from tests.models.segmentors.aot.aot_models import CONFIGS, filled_aot, samples
from tools.model_converters.aot import aot_table


def gap_of(golden):
    return None if golden['long_term_mem_gap'] == 9999 else golden['long_term_mem_gap']


@pytest.mark.slow
@pytest.mark.parametrize('path', golden_files('aot_*_n*.npz'))
def test_video(path):
    golden = load_golden(path)
    name = path.stem.removeprefix('aot_').rpartition('_n')[0]
    engine = VideoEngine(filled_aot(name).eval().network, gap_of(golden))
    frames = golden['frames'].split(1)
    engine.add_reference(frames[0], golden['mask'][None], golden['num_objects'])
    for t, frame in enumerate(frames[1:], 1):
        prob = engine.propagate(frame).softmax(1)[0]
        assert (prob - golden[f'prob{t}'].float()).abs().max() < 2e-3
        wrong = prob.argmax(0) != golden[f'pred{t}']
        assert not (wrong & (golden[f'margin{t}'] > 0.05)).any()
        engine.remember(golden[f'pred{t}'][None])


@pytest.mark.slow
@pytest.mark.parametrize('path', golden_files('aot_train_*.npz'))
def test_training_pass(path):
    golden = load_golden(path)
    name = path.stem.removeprefix('aot_train_').rpartition('_s')[0]
    model = filled_aot(name).train()
    model.train_cfg.gap = gap_of(golden)
    model.train_cfg.shuffle_identities = False
    length, batch = golden['n_frames'], golden['batch']
    frames = golden['frames'].unflatten(0, (length, batch)).transpose(0, 1)
    masks = golden['masks'][:, :, 0].transpose(0, 1)
    data_samples = samples(masks, num_objects=golden['obj_nums'].tolist())

    total = sum(model.loss(frames, data_samples, golden['step']).values())
    assert_relative(total, golden['total'], 1e-4, 'loss')
    total.backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    table = aot_table('MobileNetV2', len(model.network.lstt.blocks))
    checked = [key for key in golden if key.startswith('grad.')]
    assert len(checked) >= 3
    for key in checked:
        assert_relative(grads[table[key.removeprefix('grad.')]], golden[key], 1e-3, key)

    settings = SequencePass(gap_of(golden), own_masks=golden['use_prev_pred'])
    with torch.no_grad():
        logits = sequence_logits(model.network, frames, masks, golden['obj_nums'], settings)
        for t, frame_logits in enumerate(logits):
            for b in range(batch):
                pair = frame_logits[b : b + 1], masks[b : b + 1, t]
                value = sum(loss(*pair, step=golden['step']) for loss in model.loss_decode)
                assert_relative(value, golden[f'frame_loss{t}'][b], 1e-4, f'loss of frame {t}, sample {b}')


def test_the_configs_are_the_released_models():
    assert len(golden_files('aot_*_state_shapes.json')) == len(CONFIGS) == 3
