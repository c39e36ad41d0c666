"""The Dispatcher: takes saves in, answers for chains, and ends; what it takes in, the engine makes move."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from . import telemetry
from ._announcer import Announcer
from ._call_work import CallWork
from ._engine import Engine
from ._flushing import chains_of
from ._intake import Intake
from ._lane import Lane, LaneState
from ._machine import Chain as ChainState
from ._machine import Effect
from ._merge import Facts
from ._port import Port
from ._states import SaveState
from ._waiting import Patience
from .binding import Bound
from .chain import Chain, ModelChain
from .drivers import Drivers
from .exceptions import InvalidOption, Stuck
from .handle import Handle, SaveHandle
from .policies import Outcome
from .protocols import Driver

__all__ = ["Dispatcher"]

logger = logging.getLogger("chained_models")

STUCK_AFTER = 60.0
"""Seconds after which what is held is reported."""

EXIT_TIMEOUT = 10.0
"""Seconds that the end of the interpreter is held up, at most, to carry out what is left."""

M = TypeVar("M")


class Dispatcher:
    """Carries out the saves of all models that are bound to it.

    Args:
        driver: Where the work runs: "inline", "threads", "asyncio" or a driver of your own; None picks for each backend.
        deliver: Takes a callable and calls it, soon, in the thread that owns your user interface; merges and receivers
            run there. None: in the event loop that called `save()`, else where the work runs.
        exit_timeout: Seconds that the end of the interpreter waits, at most, for what is left.
        stuck_after: Seconds after which a chain (or lane) with something to send, that cannot go on by itself, is reported:
            event `stuck`, and a warning in the log.

    Raises:
        InvalidOption: A time is not above 0, or there is no driver of that name.
    """

    def __init__(
        self,
        driver: Driver | str | None = None,
        deliver: Callable[[Callable[[], None]], object] | None = None,
        *,
        exit_timeout: float = EXIT_TIMEOUT,
        stuck_after: float = STUCK_AFTER,
    ) -> None:
        if not stuck_after > 0:
            raise InvalidOption(f"stuck_after={stuck_after!r}: seconds, more than 0")
        self.stuck_after = stuck_after
        self.exit_timeout = exit_timeout
        self._drivers = Drivers(driver)
        self._post = deliver
        self._start_afresh()
        living.add(self)
        telemetry.watch(self)

    def _start_afresh(self) -> None:
        self._announcer = Announcer(self._post)
        self._engine = Engine(self._drivers, self._announcer, self.stuck_after)
        self._intake = Intake(self, self._drivers, self._announcer, self._engine)
        self.submit = self._intake.submit
        """Accept one save; see :meth:`~chained_models._intake.Intake.submit`."""
        self.calls = CallWork(self._engine)
        """What carries out the items of CallChains."""

    @property
    def patience(self) -> Patience:
        """How it is waited for; for other dispatchers, whose saves wait for some of its own."""
        return self._engine.patience

    @property
    def closed(self) -> bool:
        """Whether it takes no more saves."""
        return self._engine.ledger.closed

    # Accepting

    def check(self, backend: Any) -> None:
        """Raise UnsupportedBackend if this dispatcher's driver cannot run that backend."""
        self._drivers.check(backend)

    def port(self, backend: Any) -> Port:
        """This dispatcher's view of a backend."""
        return self._intake.port(backend)

    def chain_of(self, model: M, bound: Bound, backend: Any) -> ModelChain[M]:
        """The view of the chain that `model` is in, or would be in."""
        return ModelChain(self, model, bound, *self._intake.adopt(model, bound, backend))

    def mark_stored(self, port: Port, facts: Facts, model_type: type, identity: Any, base: Any, version: Any) -> None:
        """The user says that an object is as the backend has it."""
        self._intake.mark_stored(port, facts, model_type, identity, base, version)

    # Handles and chains

    def cancel(self, handle: SaveHandle[Any]) -> bool:
        """Take the save out of its chain, if it was never attempted."""
        with self._engine.deciding as ledger:
            effects = ledger.cancel(handle)
        if effects is None:
            return handle.outcome is Outcome.CANCELLED  # also while another thread's cancel() still tells receivers
        self._engine.run(effects)
        return True

    def wait(self, handle: SaveHandle[Any], timeout: float | None) -> bool:
        """Block until the handle is done."""
        return self._engine.patience.wait(handle, timeout)

    async def wait_async(self, handle: SaveHandle[Any]) -> None:
        """Wait in an event loop until the handle is done."""
        await self._engine.patience.wait_async(handle)

    def catch_up(self, handle: SaveHandle[Any]) -> None:
        """Make the assignments to the model that were left for this thread."""
        handle.work.catch_up(handle)

    def chain_state(self, key: Any) -> ChainState | None:
        """The chain of that key, if there is anything in it."""
        return self._engine.ledger.machine.chains.get(key)

    def pending(self, key: Any) -> list[SaveHandle[Any]]:
        """Every unsettled save of a chain, in order."""
        with self._engine.deciding:
            chain = self.chain_state(key)
            saves: list[Any] = [] if chain is None else list(chain.saves.values())
            return saves

    def look(self, key: Any) -> list[tuple[SaveHandle[Any], SaveState, int, str | None]]:
        """The unsettled saves of a chain, in order: the state of each, its attempts, and why it waits; all of one moment."""
        return self._engine.look(key)

    def pause(self, key: Any, lane: LaneState[ChainState]) -> None:
        """Start nothing in this chain until it is resumed."""
        with self._engine.deciding as ledger:
            ledger.machine.pause(key, lane)
        self._engine.run([])
        self._engine.patience.changed()

    def update(self, key: Any, options: dict[str, Any]) -> None:
        """From the next attempt on, the saves of this chain have these options."""
        with self._engine.deciding as ledger:
            ledger.machine.update(key, options)
        self._engine.patience.changed()  # there may be room now

    def why(self, handle: Handle[Any]) -> str | None:
        """Why it waits, as a sentence; None if it does not."""
        return self._engine.why(handle)

    def resume(self, key: Any) -> None:
        """Go on."""
        self._change(key, self._engine.ledger.machine.resume)

    def clear(self, key: Any) -> None:
        """Cancel what was never attempted, and lift a halt."""
        self._change(key, self._engine.ledger.clear)

    def skip(self, key: Any) -> None:
        """Go on without the save that halted the chain."""
        self._change(key, self._engine.ledger.machine.lift)

    def retry(self, key: Any) -> SaveHandle[Any] | None:
        """Send the save that halted the chain again, in front; None if the chain is not halted."""
        halted: Any = getattr(self.chain_state(key), "halted", None)
        if halted is None:
            return None
        halted.port.driver.claim()
        with halted.work.latch(halted), self._engine.deciding as ledger:
            chain: Any = self.chain_state(key)
            if chain is None or chain.halted is not halted:
                return None  # another thread was first
            line = halted.work.line(halted, chain)  # which may refuse it, before anything has changed
            successor: SaveHandle[Any] = halted.work.successor(halted)
            halted.retried_by = successor
            successor.waits = len(successor.after)
            effects = ledger.retry(chain, successor, line)
        self._engine.run_accepted([successor], effects)
        self._intake.wait_for(successor, successor.after)
        return successor

    def _change(self, key: Any, decide: Callable[[ChainState], list[Effect]]) -> None:
        with self._engine.deciding:
            chain = self.chain_state(key)
            effects = [] if chain is None else decide(chain)
        self._engine.run(effects)

    def __len__(self) -> int:
        with self._engine.deciding as ledger:
            return sum(1 for chain in ledger.machine if chain.saves)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Chain]:
        with self._engine.deciding as ledger:
            chains = [chain.key for chain in ledger.machine if chain.saves]
        return iter([key if isinstance(key, Chain) else Chain(self, key) for key in chains])

    def __repr__(self) -> str:
        with self._engine.deciding as ledger:
            chains = list(ledger.machine)
            saves = sum(len(chain.saves) for chain in chains)
            held = [word for word in ("paused", "halted") if any(getattr(chain, word) for chain in chains)]
        return f"<Dispatcher {saves} saves in {len(chains)} chains{', some ' + ' and '.join(held) if held else ''}>"

    def unsettled(self) -> list[Handle[Any]]:
        """Every save that is not settled, of one moment."""
        with self._engine.deciding as ledger:
            saves: list[Any] = [save for chain in ledger.machine for save in chain.saves.values()]
            return saves

    def lanes(self) -> list[dict[str, Any]]:
        """Every lane that is in use: a number for it, and what it is at, all of one moment."""
        with self._engine.deciding:
            return [state.seen() for state in self._engine.lane_states()]

    def set_batch(self, number: int, size: int) -> None:
        """Change `max_batch` of the lane of that number.

        Raises:
            InvalidOption: There is none, or no batch is of that size.
        """
        Lane(max_batch=size)
        with self._engine.deciding:
            lane = next((state.lane for state in self._engine.lane_states() if id(state.lane) == number), None)
        if lane is None:
            raise InvalidOption("there is no such lane any more")
        lane.max_batch = size

    # Ending

    def flush(self, timeout: float | None = None) -> None:
        """Wait for all that was accepted before this call.

        Args:
            timeout: Seconds to wait at most; None for as long as it takes.

        Raises:
            Stuck: Some chains are paused or halted, or the time is over; the message names them.
            WouldDeadlock: This thread is the one that would do the work.
        """
        self.flush_chains(None, timeout)
        with self._engine.deciding as ledger:
            idle = not ledger.machine.chains
        if idle:
            self._engine.look_no_more()
            for driver in self._drivers:
                driver.rest()

    def flush_chains(self, key: Any, timeout: float | None) -> None:
        """Flush one chain, or all of them where `key` is None."""
        with self._engine.deciding as ledger:
            last = ledger.machine.last_seq
        ended, held = self._engine.patience.flush(partial(self._engine.unfinished, key, last), timeout)
        if not ended:
            with self._engine.deciding as ledger:
                # The one that has ended, too, if the thread that is to hear of it has not come.
                waited_for = [(chain.finishing, *chain.saves.values()) for chain in chains_of(ledger, key)]
            left: list[Any] = [one for chain in waited_for for one in chain if one is not None and one.place <= last]
            raise Stuck(f"{len(left)} saves did not end within {timeout:g} s: {_listed(left)}")
        if held:
            raise Stuck(f"{len(held)} saves cannot be carried out, their chains are paused or halted: {_listed(held)}")

    def close(self, timeout: float | None = None) -> None:
        """Refuse new saves, flush, and end; what cannot be carried out in time is given up, and logged at ERROR.

        Args:
            timeout: Seconds to wait at most; None for as long as it takes.
        """
        self._engine.patience.check()
        with self._engine.deciding as ledger:
            ledger.closed = True
        try:
            self.flush(timeout)
        except Stuck as left:
            logger.error("the dispatcher is closed although %s", str(left))
        self._engine.abandon_all("the dispatcher was closed")
        self._engine.look_no_more()
        for driver in self._drivers:
            driver.close()

    def leave(self) -> None:
        """At the end of the interpreter: flush with a deadline, and report what is left."""
        self._announcer.leaving = True
        try:
            self.flush(self.exit_timeout)
        except Stuck as left:
            logger.error("the interpreter ends, and %s", str(left))

    def after_fork(self) -> None:
        """In a child process: start empty. What was accepted before the fork is the parent's to carry out."""
        saves: list[Any] = [save for chain in self._engine.ledger.machine for save in chain.saves.values()]
        for one in [one for save in saves for one in (save, *save.replaced)]:
            one.disown()
        for driver in self._drivers:
            driver.after_fork()
        self._start_afresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        # In another thread, so that the loop, which may be the one that does the work, goes on meanwhile.
        await asyncio.to_thread(self.close)


def _listed(saves: list[Handle[Any]], most: int = 5) -> str:
    named = ", ".join(str(save) for save in saves[:most])
    return named if len(saves) <= most else f"{named} and {len(saves) - most} more"


living: weakref.WeakSet[Dispatcher] = weakref.WeakSet()
"""Every dispatcher of the process, for its end and for forks."""
