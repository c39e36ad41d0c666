"""The machine under any interleaving; the rules and the invariants stand in `machine_rules`."""

from __future__ import annotations

from hypothesis import settings

from .machine_rules import MachineRules

TestMachine = MachineRules.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=50)
