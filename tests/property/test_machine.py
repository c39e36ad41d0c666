"""The machine under any interleaving; the rules and the invariants stand in `machine_rules`."""

from __future__ import annotations

import pytest
from hypothesis import settings

from .machine_rules import MachineRules, walk

TestMachine = MachineRules.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=50)


@pytest.mark.parametrize("hundred", range(20))
def test_walks(hundred: int) -> None:
    """A hundred long random walks break no invariant, and each of them drains."""
    for number in range(100):
        walk(seed=10_000 + 100 * hundred + number, steps=150)
