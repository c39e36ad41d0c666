"""The Dispatcher: takes saves in, answers for chains, and ends; what it takes in, the engine makes move."""

from __future__ import annotations

import contextvars
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from . import _attempt
from ._announcer import Announcer
from ._engine import Engine
from ._lane import Lane, LaneState
from ._machine import Chain as ChainState
from ._machine import Effect
from ._merge import Facts
from ._model_work import ModelWork
from ._port import Port
from ._record import Life, Record, Verb
from ._weakmap import WeakIdMap
from .binding import Bound
from .chain import Chain, ModelChain
from .drivers import Drivers
from .exceptions import DispatcherClosed, Stuck
from .handle import Handle, SaveHandle
from .policies import Outcome
from .protocols import Driver

__all__ = ["Dispatcher"]

logger = logging.getLogger("chained_models")

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
    """

    def __init__(
        self,
        driver: Driver | str | None = None,
        deliver: Callable[[Callable[[], None]], object] | None = None,
        *,
        exit_timeout: float = EXIT_TIMEOUT,
    ) -> None:
        self.exit_timeout = exit_timeout
        self._drivers = Drivers(driver)
        self._post = deliver
        self._start_afresh()
        living.add(self)

    def _start_afresh(self) -> None:
        self._announcer = Announcer(self._post)
        self._engine = Engine(self._drivers, self._announcer)
        self._saves = ModelWork(self._engine.ledger)
        self._ports: WeakIdMap[Any, Port] = WeakIdMap()

    @property
    def closed(self) -> bool:
        """Whether it takes no more saves."""
        return self._engine.ledger.closed

    # Accepting

    def check(self, backend: Any) -> None:
        """Raise UnsupportedBackend if this dispatcher's driver cannot run that backend."""
        self._drivers.check(backend)

    def submit(
        self,
        model: Any,
        bound: Bound,
        backend: Any,
        verb: Verb,
        *,
        attributes: Iterable[tuple[str, Any]] = (),
        update_fields: frozenset[str] | None = None,
        force_insert: bool = False,
        discard: bool = False,
        timeout: float | None = None,
    ) -> SaveHandle[Any]:
        """Accept one save: take its place in line, take the snapshot, and start it if nothing is in its way."""
        if self.closed:
            raise DispatcherClosed  # before anything is claimed for it
        port = self.port(backend)
        port.driver.claim()
        port.driver.help()
        self._announcer.rescue()
        facts = self.facts(port, model)
        adapter = bound.adapter
        with facts.latch:
            facts.thread = threading.get_ident()
            facts.catch_up()
            for name, value in attributes:
                adapter.edit(model, name, value)
            save = SaveHandle(
                self,
                work=self._saves,
                model=model,
                verb=verb,
                port=port,
                backend=backend,
                record=facts.record,
                facts=facts,
                binding=bound,
                policy=bound.binding.retry,
                timeout=bound.binding.timeout if timeout is None else timeout,
                on_failure=bound.binding.on_failure,
                context=contextvars.copy_context(),
                delivery=self._announcer.delivery(),
            )
            save.on_conflict = bound.binding.on_conflict
            save.update_fields = update_fields
            save.force_insert = force_insert
            save.discard = discard
            key = bound.ordering_key(port, model)
            identity = bound.identity_of(model)
            if identity is not None and (check_identity := getattr(backend, "check_identity", None)) is not None:
                check_identity(identity)
            origin = adapter.origin(model)
            stored = bound.server_given if origin is None else origin.stored
            with self._engine.deciding:
                earlier = self._saves.reserve(save, key, identity, stored=stored)
            if earlier is not None:
                return earlier
            try:
                save.snapshot = adapter.snapshot(model, check=verb in (Verb.SAVE, Verb.PATCH))
                if origin is not None and port.is_home(model) and origin.stored and facts.unsettled == 1:
                    # Asked again, because the snapshot may have loaded what was expired.
                    facts.adopt(adapter.origin(model) or origin, attached=adapter.attached(model))
                if facts.unsettled == 1 and verb in (Verb.SAVE, Verb.PATCH) and save.record.life is Life.LIVE:
                    _attempt.check_version(save)
            except BaseException:
                with self._engine.deciding as ledger:
                    effects = ledger.withdraw(save)
                self._engine.run(effects)
                raise
            if not save.passes_halt:
                save.before, facts.last = facts.last, save
            with self._engine.deciding as ledger:
                refused = ledger.closed  # since the place was taken; what is not accepted yet is not waited for
                effects = ledger.withdraw(save) if refused else self._saves.fill(save)
            if refused and facts.last is save:
                facts.last = save.before
        self._engine.run(effects)
        if refused:
            raise DispatcherClosed
        return save

    def port(self, backend: Any) -> Port:
        """This dispatcher's view of a backend."""
        port = self._ports.get(backend)
        if port is not None:
            return port
        lane = getattr(backend, "lane", None)
        if lane is None:
            lane = Lane()
        with self._engine.deciding:
            port = self._ports.get(backend)
            if port is not None:
                return port
            driver = self._drivers.choose(backend)
            driver.lost = partial(_lost, weakref.ref(self._engine), weakref.ref(driver))
            return self._ports.setdefault(backend, Port(self._engine.lane_state(lane), driver, backend))

    def facts(self, port: Port, model: Any) -> Facts:
        """What `model` knows of that backend."""
        facts = port.objects.get(model)
        if facts is None:
            facts = Facts(Record(type(model).__name__))
            facts = port.objects.setdefault(model, facts)
        return facts

    def chain_of(self, model: M, bound: Bound, backend: Any) -> ModelChain[M]:
        """The view of the chain that `model` is in, or would be in."""
        port = self.port(backend)
        facts = self.facts(port, model)
        origin = bound.adapter.origin(model)
        stored = bound.server_given if origin is None else origin.stored
        identity = bound.identity_of(model)
        with self._engine.deciding:
            self._saves.adopt(port, facts, bound.model.type, identity, stored=stored)
        return ModelChain(self, model, bound, port, facts)

    def mark_stored(self, port: Port, facts: Facts, model_type: type, identity: Any, base: Any, version: Any) -> None:
        """The user says that an object is as the backend has it."""
        with facts.latch:
            with self._engine.deciding:
                effects = self._saves.identify(port, facts.record.current(), model_type, identity)
            facts.declare(base, version)
        self._engine.run(effects)

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

    def pause(self, key: Any, lane: LaneState[ChainState]) -> None:
        """Start nothing in this chain until it is resumed."""
        with self._engine.deciding as ledger:
            ledger.machine.pause(key, lane)
        self._engine.patience.changed()

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
        halted.port.driver.help()
        with halted.work.latch(halted), self._engine.deciding as ledger:
            chain: Any = self.chain_state(key)
            if chain is None or chain.halted is not halted:
                return None  # another thread was first
            successor: SaveHandle[Any] = halted.work.successor(halted)
            effects = ledger.retry(chain, successor)
        self._engine.run(effects)
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
        return iter([Chain(self, key) for key in chains])

    def __repr__(self) -> str:
        with self._engine.deciding as ledger:
            chains = list(ledger.machine)
            saves = sum(len(chain.saves) for chain in chains)
            held = [word for word in ("paused", "halted") if any(getattr(chain, word) for chain in chains)]
        return f"<Dispatcher {saves} saves in {len(chains)} chains{', some ' + ' and '.join(held) if held else ''}>"

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
                left: list[Any] = [
                    save for chain in self._engine.chains(key) for save in chain.saves.values() if save.place <= last
                ]
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
        for save in saves:
            save.disown()
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


def _lost(engine: weakref.ref[Engine], driver: weakref.ref[Driver]) -> None:
    mine, its = engine(), driver()
    if mine is not None and its is not None:
        mine.abandon_all("its event loop was closed", its)


living: weakref.WeakSet[Dispatcher] = weakref.WeakSet()
"""Every dispatcher of the process, for its end and for forks."""
