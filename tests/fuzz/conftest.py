"""Profiles of the fuzz tests: 100 cases a component in a normal run, always the same; `make fuzz` draws 2,000."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.fuzz.cases import RUN, profile

COMMON = dict(deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck))
settings.register_profile('normal', max_examples=100, derandomize=True, **COMMON)
settings.register_profile('full', max_examples=2000, **COMMON)
PROFILE = os.environ.get('FUZZ_PROFILE', 'normal')


@pytest.fixture(autouse=True, scope='package')
def fuzz_profile():
    """Applies to these tests alone; others keep hypothesis's own settings."""
    with profile(PROFILE):
        yield


def pytest_terminal_summary(terminalreporter):
    if RUN:
        terminalreporter.section('fuzzing')
        terminalreporter.write_line(f'{sum(RUN.values()):,} cases of {len(RUN)} components, profile {PROFILE!r}')
        if PROFILE != 'normal':
            for name, number in sorted(RUN.items()):
                terminalreporter.write_line(f'{number:7,}  {name}')
