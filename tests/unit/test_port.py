"""The Port: what it finds out about a backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from chained_models import Operation
from chained_models._port import Port
from chained_models.testing import ScriptedBackend
from chained_models.testing.backend import AsyncScriptedBackend


class Alone:
    def execute(self, operation: Operation) -> None:
        """Alone."""


class Both(Alone):
    def execute_many(self, operations: Sequence[Operation]) -> list[None]:
        return [None for _ in operations]


class Unchanged(Both):
    """Adds nothing that counts."""


class Audited(Both):
    def execute(self, operation: Operation) -> None:
        """Audited."""


class Audits:
    """To be put in front of a backend."""

    def execute(self, operation: Operation) -> None:
        """Audited."""


class Mixed(Audits, Both):
    """Audited too."""


class AllAudited(Audited):
    def execute_many(self, operations: Sequence[Operation]) -> list[None]:
        return [self.execute(operation) for operation in operations]


class Off(Both):
    execute_many = None  # type: ignore[assignment]


class Slotted(Both):
    __slots__ = ()


class Passing:
    """Passes on what it has not itself."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class AuditedPassing(Passing):
    def execute(self, operation: Operation) -> None:
        """Audited."""


def told(name: str) -> Both:
    """A backend with a method of its own, as a test makes one with `monkeypatch`."""
    backend = Both()
    setattr(backend, name, getattr(backend, name))
    return backend


@pytest.mark.parametrize(
    ("backend", "gathers"),
    [
        (Alone(), False),
        (Both(), True),
        (Unchanged(), True),
        (Slotted(), True),
        (AllAudited(), True),
        (ScriptedBackend(gathers=True), True),
        (AsyncScriptedBackend(gathers=True), True),
        (ScriptedBackend(), False),
        (Audited(), False),
        (Mixed(), False),
        (Off(), False),
        (Passing(Both()), False),
        (AuditedPassing(Both()), False),
        (told("execute"), False),
        (told("execute_many"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_saves_share_a_call_if_who_wrote_it_knew_of_execute(backend: Any, gathers: bool) -> None:
    """A class that overrides `execute` only, and an object that stands before a backend, are asked for each save."""
    lane: Any = None
    port = Port(lane, None, backend)
    assert (port.gathers, port.asks) == (gathers, False)
