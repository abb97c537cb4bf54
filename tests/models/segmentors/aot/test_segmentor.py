import copy
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData

from mmplugins.functional.device import DeferredReads
from mmplugins.hosts import install_command
from mmplugins.models.losses import SoftJaccardLoss, TopKCrossEntropyLoss
from tests.locations import ROOT

pytest.importorskip('mmseg', reason='AOT is built with mmseg')

from mmseg.structures import SegDataSample

from mmplugins.models.segmentors.aot import AOT
from tests.models.segmentors.aot.aot_models import clips, moving_masks, samples, tiny_aot


def clip_sample(frame_id, mask=None, video='a', **metainfo):
    """A data sample for inference."""
    sample = SegDataSample(metainfo=dict(frame_id=frame_id, video_name=video) | metainfo)
    if mask is not None:
        sample.ref_sem_seg = PixelData(data=mask)
    return sample


def losses_of(model, step=0, masks=None, length=3, **metainfo):
    masks = moving_masks(length=length) if masks is None else masks
    return model.loss(clips(length=masks.shape[1]), samples(masks, **metainfo), step)


def test_smoke():
    model = tiny_aot().train()
    losses = losses_of(model)
    assert set(losses) == {'loss_topk', 'loss_jaccard', 'ref.loss_topk', 'ref.loss_jaccard'}
    total, log = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert log['loss'] == total
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


def test_a_training_step_through_mmengine():
    model = tiny_aot().train()
    optim_wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3))
    data = dict(inputs=list((127 + 60 * clips(length=3)).clamp(0, 255).to(torch.uint8)))
    data['data_samples'] = samples(moving_masks(length=3))
    MessageHub.get_current_instance().update_info('iter', 0)
    before = model.network.decoder.out.weight.detach().clone()
    values = [float(model.train_step(data, optim_wrapper)['loss'].detach()) for _ in range(6)]
    assert values[-1] < values[0]
    assert not torch.equal(model.network.decoder.out.weight, before)


def test_values_of_the_losses():
    """The mean over frames 1 and 2, and the reference with the weight 1 - step / aux_loss_steps."""
    model = tiny_aot(train_cfg=dict(shuffle_identities=False, aux_loss_steps=100)).eval()
    masks = moving_masks(length=3)
    masks[:, :, :3] = 255
    with torch.no_grad():
        losses = losses_of(model, 25, masks)
        logits = model(clips(length=3), samples(masks), mode='tensor')
        for name, loss in (
            ('loss_topk', TopKCrossEntropyLoss(top_k_percent_pixels=0.15, hard_example_mining_step=50000)),
            ('loss_jaccard', SoftJaccardLoss()),
        ):
            frames = [0.5 * loss(logits[:, t], masks[:, t], step=25) for t in range(3)]
            torch.testing.assert_close(losses[name], (frames[1] + frames[2]) / 2)
            torch.testing.assert_close(losses[f'ref.{name}'], 0.75 * frames[0])


def test_wrong_objects_of_the_last_steps_are_named_before_the_validation(monkeypatch):
    """On a GPU the check runs at a later call; a validation must not begin before."""
    model, held = tiny_aot().train(), []
    monkeypatch.setattr(DeferredReads, 'push', lambda self, value, read: held.append((value, read)))
    losses_of(model, num_objects=[1, 1])
    monkeypatch.undo()
    arrived = SimpleNamespace(synchronize=lambda: None)
    model._reads._pending.extend((arrived, value, read) for value, read in held if len(value.shape) == 2)
    assert len(model._reads) == 1
    with pytest.raises(ValueError, match=r'masks must hold 0 to num_objects.*num_objects 1.*num_objects 1'):
        model.eval()


@pytest.mark.parametrize(('step', 'names'), [(0, 4), (99, 4), (100, 2), (1000, 2)])
def test_reference_losses_end(step, names):
    assert len(losses_of(tiny_aot(train_cfg=dict(aux_loss_steps=100)), step)) == names


@pytest.mark.parametrize(('own_masks_from', 'trained'), [(None, True), (11, True), (10, False)])
def test_own_masks_from_an_iteration_on(own_masks_from, trained):
    model = tiny_aot(train_cfg=dict(own_masks_from=own_masks_from))
    sum(losses_of(model, 10).values()).backward()
    assert (model.network.identity_bank.conv.weight.grad is not None) == trained


def test_losses_come_from_the_config():
    one = dict(type='mmplugins.OhemCrossEntropyLoss', min_kept=10)
    model = tiny_aot(loss_decode=[one, one], train_cfg=dict(aux_loss_weight=0.0))
    losses = losses_of(model)
    single = tiny_aot(loss_decode=one, train_cfg=dict(aux_loss_weight=0.0, shuffle_identities=False))
    model.train_cfg.shuffle_identities = False
    torch.testing.assert_close(losses_of(model)['loss_ohem'], 2 * losses_of(single)['loss_ohem'])
    assert list(losses) == ['loss_ohem']


def test_number_of_objects_is_read_from_the_masks():
    model = tiny_aot(train_cfg=dict(shuffle_identities=False)).eval()
    told, read = losses_of(model, num_objects=[2, 2]), losses_of(model)
    assert all(torch.equal(told[name], read[name]) for name in told)
    more = losses_of(model, num_objects=[3, 2])  # an object that is not in this clip is a class that can be predicted
    assert more['loss_topk'] > told['loss_topk']


def test_wrong_masks():
    model = tiny_aot()
    wrong = r'at most 3 of them, or 255; got a clip: largest object 2, num_objects 1; number the objects of each clip'
    with pytest.raises(ValueError, match=wrong):
        losses_of(model, num_objects=[1, 2])  # the first alone
    with pytest.raises(ValueError, match=r'got a clip: .* 4, num_objects 4; a clip: .* 4; number the .* at most 3'):
        losses_of(model, masks=2 * moving_masks())
    named = samples(
        moving_masks(), num_objects=[2, 1], video_name=['cow', 'dog'], img_path=[['c.jpg'], ['1.jpg', '4.jpg']]
    )
    with pytest.raises(
        ValueError, match=r"got video 'dog' \(1\.jpg, 4\.jpg\): largest object 2, num_objects 1; number"
    ):
        model.loss(clips(), named, 0)
    with pytest.raises(ValueError, match=r'gt_sem_seg must be \(T, H, W\) of the clips, \(2, 3, 33, 49\), got \(2, 2,'):
        model.loss(clips(length=3), samples(moving_masks(length=2)), 0)


def test_wrong_inputs():
    model = tiny_aot()
    with pytest.raises(ValueError, match='clips of at least two frames, got 1'):
        losses_of(model, masks=moving_masks(length=1))
    with pytest.raises(ValueError, match=r"mode is 'loss', 'predict' or 'tensor', got 'train'"):
        model(clips(), samples(moving_masks()), mode='train')
    with pytest.raises(ValueError, match=r'a data sample for each, got \(2, 3, 3, 33, 49\) and 1 data samples'):
        model(clips(), samples(moving_masks(batch=1)))
    with pytest.raises(ValueError, match='inference takes one clip at a time, got 2; set batch_size=1'):
        model(clips(), samples(moving_masks()), mode='predict')
    with pytest.raises(TypeError, match='train_cfg has no setting long_term_gap'):
        tiny_aot(train_cfg=dict(long_term_gap=5))


def test_whole_video_or_frame_by_frame():
    model = tiny_aot(test_cfg=dict(gap=2)).eval()
    frames, mask = clips(1, 5), moving_masks()[:1, 0]
    (whole,) = model(frames, [clip_sample(0, mask)], mode='predict')
    assert whole.pred_sem_seg.data.shape == (5, 33, 49)
    assert whole.pred_sem_seg.data.dtype == torch.uint8
    assert torch.equal(whole.pred_sem_seg.data[:1], mask)
    singles = []
    for t in range(5):
        sample = clip_sample(t, mask if t == 0 else None)
        singles.append(model(frames[:, t : t + 1], [sample], mode='predict')[0].pred_sem_seg.data)
    assert torch.equal(torch.cat(singles), whole.pred_sem_seg.data)


def test_predictions_have_the_original_size():
    model = tiny_aot().eval()
    mask = moving_masks(height=60, width=90)[:1, 0]
    (sample,) = model(clips(1, 2), [clip_sample(0, mask, ori_shape=(60, 90))], mode='predict')
    assert sample.pred_sem_seg.data.shape == (2, 60, 90)
    assert torch.equal(sample.pred_sem_seg.data[:1], mask)


def test_objects_that_appear_later_win():
    model = tiny_aot().eval()
    frames, mask = clips(1, 3), moving_masks(objects=1)[:1, 0]
    model(frames[:, :1], [clip_sample(0, mask)], mode='predict')
    later = torch.zeros_like(mask)
    later[:, 20:30, 30:40] = 2
    (sample,) = model(frames[:, 1:2], [clip_sample(1, later)], mode='predict')
    prediction = sample.pred_sem_seg.data
    assert (prediction[later == 2] == 2).all()
    assert (prediction[later == 0] < 2).all()
    assert model._tracker.engine.num_objects == 2
    (sample,) = model(frames[:, 2:], [clip_sample(2)], mode='predict')
    assert sample.pred_sem_seg.data.max() <= 2


def test_ignored_pixels_of_the_given_mask_are_background():
    model = tiny_aot().eval()
    mask = moving_masks()[:1, 0].clone()
    mask[:, :3] = 255
    (sample,) = model(clips(1, 1), [clip_sample(0, mask)], mode='predict')
    assert sample.pred_sem_seg.data.unique().tolist() == [0, 1, 2]


def test_numbers_that_are_no_objects_are_named_with_their_frame():
    mask = moving_masks()[:1, 0].short()
    mask[:, :3] = 300
    sample = clip_sample(0, mask, video='dog')
    sample.set_metainfo(dict(img_path='dog/00000.jpg'))
    with pytest.raises(ValueError, match=r"video 'dog' \(dog/00000\.jpg\): a mask holds 0 for .* from 0 to 300"):
        tiny_aot().eval()(clips(1, 1), [sample], mode='predict')


def test_frames_out_of_order():
    model = tiny_aot().eval()
    mask = moving_masks()[:1, 0]
    with pytest.raises(ValueError, match="video 'b': its first frame has no mask; ref_sem_seg must hold one"):
        model(clips(1, 1), [clip_sample(0, video='b')], mode='predict')
    with pytest.raises(ValueError, match=r'frame 3 must follow frame 2, but the frame before was none; feed the'):
        model(clips(1, 1), [clip_sample(3)], mode='predict')
    model(clips(1, 2), [clip_sample(0, mask)], mode='predict')
    with pytest.raises(ValueError, match='frame 3 must follow frame 2, but the frame before was 1; feed the frames'):
        model(clips(1, 1), [clip_sample(3)], mode='predict')
    model.train().eval()
    with pytest.raises(ValueError, match='but the frame before was none'):
        model(clips(1, 1), [clip_sample(2)], mode='predict')


def test_training_under_autocast():
    model = tiny_aot(train_cfg=dict(shuffle_identities=False)).train()
    expected = sum(losses_of(model).values())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        total = sum(losses_of(model).values())
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, expected, atol=0.02, rtol=0.02)
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_copied_model_starts_afresh():
    """mmengine's EMAHook copies the model."""
    model = tiny_aot().eval()
    model(clips(1, 1), [clip_sample(0, moving_masks()[:1, 0])], mode='predict')
    copied = copy.deepcopy(model.train())
    assert isinstance(copied, AOT)
    assert copied._tracker is None


def test_without_mmseg_the_class_says_what_to_install():
    code = (
        "import sys; sys.modules['mmseg'] = None\n"
        'from mmplugins.registry import MODELS\n'
        "MODELS.build(dict(type='mmplugins.AOT'))\n"
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert f'AOT needs mmseg: mmseg is not installed; run `{install_command("mmseg")}`' in done.stderr
