"""What a scenario says of one schedule: who does what, and what must hold."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

from ..exceptions import UsageError
from .backend import ScriptedBackend
from .harness import Harness

__all__ = ["Play", "Scenario"]

Steps: TypeAlias = Generator[Callable[[], object] | None, None, object]
"""What an actor yields between two of its parts: nothing, or a function that says whether it may go on."""

F = TypeVar("F", bound=Callable[[], Any])


class Play:
    """What a scenario says of one schedule: who does what, and what must hold. A fresh one for each schedule.

    Attributes:
        chained: The world it is played in; all models of the process are saved to its backend.
    """

    def __init__(self, chained: Harness) -> None:
        self.chained = chained
        self.actors: dict[str, _Actor] = {}
        self.checks: list[Callable[[], object]] = []
        self.ends: list[Callable[[], object]] = []

    @property
    def backend(self) -> ScriptedBackend:
        """Where the models are saved. It holds everything; rules that the scenario gives it come before that."""
        backend: ScriptedBackend = self.chained.backend
        return backend

    def do(
        self,
        name: str,
        call: Callable[[], object],
        *,
        when: Callable[[], object] | None = None,
        may_raise: tuple[type[BaseException], ...] = (),
    ) -> None:
        """Somebody makes this call, once, at any time; for the schedule it is one choice, "call {name}".

        Args:
            name: What it is called in the script.
            call: What is done. It must not wait for a save, for nobody else would go on meanwhile.
            when: Says whether the time has come; left out: at any time. If it never comes, the call is left out.
            may_raise: What it may raise, depending on what has happened before; anything else fails the schedule.
        """
        self._enter(name, _Actor(_once(call), when, may_raise))

    def actor(self, body: Callable[[], Steps]) -> Callable[[], Steps]:
        """Somebody does several things one after the other, and others do theirs in between. For a generator function.

        Each of its parts, from one ``yield`` to the next, is one choice, "call {its name}". It may wait: after
        ``yield save.done`` its next part can only come when the save is done. If that never is, the part is left out.
        """
        self._enter(body.__name__, _Actor(body(), None, ()))
        return body

    def check(self, check: F) -> F:
        """Call this after every choice; it raises if something is wrong."""
        self.checks.append(check)
        return check

    def at_end(self, check: F) -> F:
        """Call this when nothing can happen any more; it raises if something is wrong."""
        self.ends.append(check)
        return check

    def _enter(self, name: str, actor: _Actor) -> None:
        if name in self.actors:
            raise UsageError(f"there is an actor {name!r} already; give each a name of its own, for the script")
        self.actors[name] = actor


def _once(call: Callable[[], object]) -> Steps:
    call()
    yield from ()
    return None


class _Actor:
    """Somebody who does one thing after another."""

    def __init__(
        self, steps: Steps, ready: Callable[[], object] | None, may_raise: tuple[type[BaseException], ...]
    ) -> None:
        self._steps = steps
        self._may_raise = may_raise
        self._ready = ready
        self.over = False

    @property
    def ready(self) -> bool:
        return not self.over and (self._ready is None or bool(self._ready()))

    def step(self) -> None:
        self.over = True  # unless there is another one
        try:
            self._ready = next(self._steps)
        except StopIteration:
            return
        except self._may_raise:
            return
        self.over = False
        if self._ready is not None and not callable(self._ready):
            raise UsageError(
                f"an actor yields nothing, or a function that says whether it may go on; not {self._ready!r}"
            )


Scenario: TypeAlias = Callable[[Play], object]
"""Makes models and says who does what; called afresh for each schedule."""
