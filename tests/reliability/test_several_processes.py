"""Two processes that train together; docs/reliability.md tells what came of all configs."""

from functools import partial

import pytest
import torch
import torch.distributed as dist

from mmplugins.hosts import problem_with

if problem_with('mmseg'):
    pytest.skip(str(problem_with('mmseg')), allow_module_level=True)

from tests.reliability.ranks import RankError, run_ranks
from tests.test_configs import ROOT

SMALL = ROOT / 'configs/pspnet/pspnet_r18-d8_w32-ohem_1xb8-400_sample-96x128.py'


def alone(rank, everyone):
    """Waits for the others, if every rank does."""
    if rank == 0 or everyone:
        dist.all_reduce(torch.ones(1))
    return rank


def raises(rank):
    if rank:
        raise ValueError('the second one')


def test_what_ranks_return_and_raise(tmp_path):
    assert run_ranks(partial(alone, everyone=True), tmp_path / 'a', world=3) == [0, 1, 2]
    with pytest.raises(RankError, match=r'rank 1: (.|\n)*ValueError: the second one'):
        run_ranks(raises, tmp_path / 'b')


def test_a_rank_that_waits_for_ever_is_an_error(tmp_path):
    with pytest.raises(RankError, match='rank 0'):
        run_ranks(partial(alone, everyone=False), tmp_path / 'a', seconds=1)


@pytest.mark.slow
def test_a_config_on_two_processes(tmp_path):
    from tests.reliability.ddp_every_config import problem_of

    assert problem_of(SMALL, tmp_path) is None


@pytest.mark.slow
def test_fsdp_is_ddp(tmp_path):
    from torch.distributed import fsdp

    if not hasattr(fsdp, 'fully_shard'):
        pytest.skip('the script compares fully_shard too, which came with PyTorch 2.6')
    from tests.reliability.fsdp_beside_ddp import compare

    ((way, difference),) = compare(SMALL, ['FSDP, many units'], False, tmp_path, steps=2).items()
    assert way == 'FSDP, many units'
    assert difference.units > 5
    assert difference.losses < 1e-6
    assert difference.weights < 1e-6
