"""The recorder: a dispatcher that writes down what it accepts, what is settled when, and what was held back from when to when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._chains import Chain
from .._record import Record
from ..dispatcher import Dispatcher
from ..handle import SaveHandle
from ..policies import Outcome
from ..protocols import Driver
from .history import Values, fingerprints

__all__ = ["Accepted", "Held", "Recorder"]


@dataclass(slots=True)
class Accepted:
    """One save that has a place in line: a verb has returned it, or it goes on for another one after a conflict.

    Attributes:
        save: Its handle.
        tick: When the verb was called (or the successor made), as a tick of the backend.
        decided: When it was decided how it ends.
        settled: When its handle was settled; None while it is not.
        outcome: What it was settled as.
        times: How often it was settled.
        returned: Whether a verb has returned it.
        values: Fingerprints of its snapshot at the call.
        named: The attributes that it was to send, if they were named.
        chain: The chain that it got its place in.
        left: The chain that it was settled in; None while it is not.
        record: What it was taken to be a save of.
        after: Ids of the saves that it waits for.
        instead_of: Id of the one that it goes on for after a conflict.
    """

    save: SaveHandle[Any]
    tick: int
    decided: int | None = None
    settled: int | None = None
    outcome: Outcome | None = None
    times: int = 0
    returned: bool = False
    values: Values | None = None
    named: frozenset[str] | None = None
    chain: Chain | None = None
    left: Chain | None = None
    record: Record | None = None
    after: tuple[str, ...] = ()
    instead_of: str | None = None

    @property
    def line(self) -> Any:
        """The chain that it is in, or was in last."""
        return self.save.chain or self.left or self.chain


@dataclass(slots=True)
class Held:
    """A chain was paused, or halted, from one tick to another.

    Attributes:
        key: The key of the chain.
        why: "paused" or "halted".
        since: From when on.
        until: When it was let go; None if it was not.
        running: The save of which an attempt was in flight when it began, and the number of that attempt.
    """

    key: Any
    why: str
    since: int
    until: int | None = None
    running: tuple[str, int] | None = None


class Recorder(Dispatcher):
    """Writes down what it accepts.

    Args:
        driver: As for a dispatcher.
        tick: Gives the next moment.
        stuck_after: As for a dispatcher.
        runs_any: Whether it takes part whatever backend a class is bound to, because it will never meet that one.
    """

    def __init__(
        self, driver: Driver | str | None, tick: Callable[[], int], *, stuck_after: float, runs_any: bool
    ) -> None:
        self._tick = tick
        self._runs_any = runs_any
        self.accepted: list[Accepted] = []
        """What verbs have returned, in the order in which they did."""
        self.placed: dict[SaveHandle[Any], Accepted] = {}
        """All that has got a place in line, in the order of the places."""
        self.holds: list[Held] = []
        super().__init__(driver, stuck_after=stuck_after)

    def _start_afresh(self) -> None:
        super()._start_afresh()
        work: Any = self._intake._saves
        accepted, fill, settled = work.accepted, work.fill, work.settled

        def accept(save: SaveHandle[Any]) -> None:
            accepted(save)
            self._place(save)

        def filled(save: SaveHandle[Any]) -> Any:
            # Now, for a moment later it may carry what it has taken over from another one.
            one = self.placed[save]
            one.values, one.named = fingerprints(save.snapshot), save.update_fields
            return fill(save)

        def settle(save: SaveHandle[Any]) -> None:
            settled(save)
            one = self.placed[save]
            one.decided, one.left = self._tick(), save.chain  # which it may have no more when it is settled

        work.accepted, work.fill, work.settled = accept, filled, settle
        submit = self.submit

        def submitted(*what: Any, **wishes: Any) -> SaveHandle[Any]:
            tick = self._tick()
            return self._returned(submit(*what, **wishes), tick)

        self.submit = submitted

    def check(self, backend: Any) -> None:
        if not self._runs_any:
            super().check(backend)

    # Saves

    def retry(self, key: Any) -> SaveHandle[Any] | None:
        tick = self._tick()
        lifted = self._let_go(key, "halted", tick)
        try:
            successor = super().retry(key)
        except BaseException:
            for held in lifted:
                held.until = None  # it was refused, and nothing has changed
            raise
        return None if successor is None else self._returned(successor, tick)

    def _place(self, save: SaveHandle[Any]) -> None:
        """Under the lock of the dispatcher: `save` has its place."""
        after = tuple(parent.id for parent in save.after)
        one = Accepted(save, self._tick(), chain=save.chain, record=save.record.current(), after=after)
        if save.rounds and save.replaced:
            one.instead_of = save.replaced[-1].id  # noted now, for in the end all of them refer to the last one only
        self.placed[save] = one
        save.when_settled(lambda _: self._settled(one))

    def _returned(self, save: SaveHandle[Any], tick: int) -> SaveHandle[Any]:
        """A verb that was called at `tick` returns this save."""
        one = self.placed[save]
        if not one.returned:  # else a second delete returns the first one's
            one.tick, one.returned = min(tick, one.tick), True
            self.accepted.append(one)
        return save

    def _settled(self, one: Accepted) -> None:
        one.times += 1
        one.settled, one.outcome = self._tick(), one.save.outcome
        chain: Any = one.save.chain
        if chain is not None and chain.halted is one.save:
            self.holds.append(Held(chain.key, "halted", one.settled))

    # Holds

    def pause(self, key: Any, lane: Any) -> None:
        super().pause(key, lane)
        active: Any = getattr(self.chain_state(key), "active", None)
        running = None if active is None else (active.id, active.attempts)
        self.holds.append(Held(key, "paused", self._tick(), running=running))

    def resume(self, key: Any) -> None:
        self._let_go(key, "paused", self._tick())
        super().resume(key)

    def skip(self, key: Any) -> None:
        self._let_go(key, "halted", self._tick())
        super().skip(key)

    def clear(self, key: Any) -> None:
        self._let_go(key, "halted", self._tick())
        super().clear(key)

    def _let_go(self, key: Any, why: str, tick: int) -> list[Held]:
        lifted = [one for one in self.holds if one.until is None and one.why == why and one.key == key]
        for one in lifted:
            one.until = tick
        return lifted
