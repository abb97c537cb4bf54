"""SafeCheckpointHook; a whole run with it is in tests/tools/test_train.py."""

import io

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from mmplugins.registry import HOOKS


def test_numbers_become_python_s():
    """The values stay, and torch loads the file without any type allowed beyond its own."""
    info = dict(best_score=np.float32(0.1), iter=np.int64(3), best_ckpt='a.pth', keep_ckpt_ids=[2, 4])
    checkpoint = dict(message_hub=dict(runtime_info=info, log_scalars={}), state_dict=dict(weight=torch.ones(2)))
    HOOKS.build(dict(type='mmplugins.SafeCheckpointHook')).before_save_checkpoint(None, checkpoint)
    assert info == dict(best_score=float(np.float32(0.1)), iter=3, best_ckpt='a.pth', keep_ckpt_ids=[2, 4])
    assert [type(value) for value in info.values()] == [float, int, str, list]
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    assert torch.load(file, weights_only=True)['message_hub']['runtime_info'] == info


def test_checkpoints_without_a_hub():
    checkpoint = dict(state_dict={})
    HOOKS.build(dict(type='mmplugins.SafeCheckpointHook')).before_save_checkpoint(None, checkpoint)
    assert checkpoint == dict(state_dict={})


def test_the_log_comes_back():
    """Plain in the file, the same buffers after a load; the hub that was saved keeps its own."""
    hub = MessageHub('before')
    for step, value in enumerate((3.0, 2.5, 0.5)):
        hub.update_scalar('train/loss', value, count=step + 1)
    checkpoint = dict(message_hub=hub.state_dict())
    hook = HOOKS.build(dict(type='mmplugins.SafeCheckpointHook'))
    hook.before_save_checkpoint(None, checkpoint)
    assert isinstance(hub.get_scalar('train/loss'), HistoryBuffer)
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    hook.after_load_checkpoint(None, loaded)
    after = MessageHub('after')
    after.load_state_dict(loaded['message_hub'])
    buffer = after.get_scalar('train/loss')
    assert [values.tolist() for values in buffer.data] == [[3.0, 2.5, 0.5], [1, 2, 3]]
    assert buffer.max_length == hub.get_scalar('train/loss').max_length
    after.update_scalar('train/loss', 1.0)
    assert buffer.mean(2) == (0.5 + 1.0) / 4


def test_a_file_that_was_written_without_the_hook():
    buffer = HistoryBuffer([1.0], [1])
    checkpoint = dict(message_hub=dict(log_scalars=dict(a=buffer)))
    HOOKS.build(dict(type='mmplugins.SafeCheckpointHook')).after_load_checkpoint(None, checkpoint)
    assert checkpoint['message_hub']['log_scalars']['a'] is buffer
