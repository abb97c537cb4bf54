"""Two and three processes: the averaged gradients are those of one, also with no objects or no valid pixels on one."""

import subprocess
import sys

import pytest
import torch

from mmplugins.hosts import problem_with
from tests.locations import ROOT
from tests.models.losses.losses_of_ranks import BINARY_LOSSES, LABEL_LOSSES, MASK_LOSSES, NETWORKS, WHOLE

WORLDS = (2, 3)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    script = ROOT / 'tests/models/losses/losses_of_ranks.py'
    command = [sys.executable, str(script), str(folder), *map(str, WORLDS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope='module', params=WORLDS)
def ranks(request, folder):
    return [torch.load(folder / f'{request.param}/rank{rank}.pt') for rank in range(request.param)]


def found_in(rank, name, toolbox):
    """What a rank found; a skip without the toolbox."""
    if toolbox and problem_with(toolbox):
        pytest.skip(str(problem_with(toolbox)))
    return rank[name]


@pytest.mark.slow
@pytest.mark.parametrize('name', [*LABEL_LOSSES, *BINARY_LOSSES, *MASK_LOSSES, *NETWORKS])
def test_gradients_are_the_mean_over_the_parts(ranks, name):
    """A mean over pixels or images is the rank's own, as in the released codes; a mask loss divides by what it gets."""
    for rank in ranks:
        averaged, alone = found_in(rank, name, NETWORKS.get(name))
        assert averaged.abs().sum() > 0
        torch.testing.assert_close(averaged, alone, rtol=1e-6, atol=1e-9)
        assert torch.equal(averaged, ranks[0][name][0])


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'wanted'), [(name, wanted) for name, losses in WHOLE.items() for wanted in losses])
def test_losses_of_objects_have_the_gradients_of_the_whole_batch(ranks, name, wanted):
    averaged, whole, parts = found_in(ranks[0], (name, wanted), 'mmdet' if 'Head' in name else None)
    torch.testing.assert_close(averaged, whole, rtol=1e-6, atol=1e-9)
    assert not torch.allclose(parts, whole, rtol=1e-3)  # so the mean over the ranks does matter
    for rank in ranks:
        assert torch.equal(rank[name, wanted][0], averaged)


@pytest.mark.slow
@pytest.mark.parametrize('name', WHOLE)
def test_labels_have_those_of_their_parts(ranks, name):
    averaged, _, parts = found_in(ranks[0], (name, 'loss_cls'), 'mmdet' if 'Head' in name else None)
    torch.testing.assert_close(averaged, parts, rtol=1e-6, atol=1e-9)
