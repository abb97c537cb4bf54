"""Two and three processes: the averaged gradients are those of one, also with no objects or no valid pixels on one."""

import subprocess
import sys

import pytest
import torch

from tests.locations import ROOT
from tests.models.losses.losses_of_ranks import BINARY_LOSSES, LABEL_LOSSES, MASK_LOSSES


@pytest.fixture(scope='module', params=[2, 3])
def ranks(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    script = ROOT / 'tests/models/losses/losses_of_ranks.py'
    command = [sys.executable, str(script), str(request.param), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f'rank{rank}.pt') for rank in range(request.param)]


@pytest.mark.slow
@pytest.mark.parametrize('name', [*LABEL_LOSSES, *BINARY_LOSSES, *MASK_LOSSES])
def test_gradients_are_the_mean_over_the_parts(ranks, name):
    """A mean over pixels or images is the rank's own, as in the released codes; a mask loss divides by what it gets."""
    for found in ranks:
        averaged, alone = found[name]
        assert averaged.abs().sum() > 0
        torch.testing.assert_close(averaged, alone, rtol=1e-6, atol=1e-9)
        assert torch.equal(averaged, ranks[0][name][0])


@pytest.mark.slow
@pytest.mark.parametrize('name', ['loss_bbox', 'loss_iou'])
def test_boxes_have_the_gradients_of_the_whole_batch(ranks, name):
    averaged, whole, parts = ranks[0][name]
    torch.testing.assert_close(averaged, whole, rtol=1e-6, atol=1e-9)
    assert not torch.allclose(parts, whole, rtol=1e-3)  # so the mean over the ranks does matter
    for found in ranks:
        assert torch.equal(found[name][0], averaged)


@pytest.mark.slow
def test_labels_have_those_of_their_parts(ranks):
    averaged, _, parts = ranks[0]['loss_cls']
    torch.testing.assert_close(averaged, parts, rtol=1e-6, atol=1e-9)
