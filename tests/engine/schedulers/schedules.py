"""What the tests of the schedulers share."""

import torch


def optimizer(rate: float = 1.0) -> torch.optim.SGD:
    """Gives an optimizer of two groups, the first of which has twice the rate."""
    parameters = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    return torch.optim.SGD([dict(params=parameters[:1], lr=2 * rate), dict(params=parameters[1:])], lr=rate)


def rates(scheduler, optim: torch.optim.Optimizer, steps: int) -> list[list[float]]:
    """Gives the rates of all groups, step by step."""
    seen = []
    for _ in range(steps):
        seen.append([group['lr'] for group in optim.param_groups])
        optim.step()
        scheduler.step()
    return seen


def resumed(make, steps: int, stop: int) -> tuple[list, list]:
    """Gives the rates after ``stop`` steps of an uninterrupted run, and of one that is resumed there."""
    optim = optimizer()
    whole = rates(make(optim), optim, steps)
    first, second = optimizer(), optimizer()
    before, after = make(first), make(second)
    rates(before, first, stop)
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    return whole[stop:], rates(after, second, steps - stop)
