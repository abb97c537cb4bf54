"""SafeCheckpointHook; a whole run with it is in tests/tools/test_train.py."""

import io

import numpy as np
import torch

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
