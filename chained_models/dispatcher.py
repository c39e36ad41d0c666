"""The Dispatcher: holds chains, records and lanes, feeds the machine, and carries out its effects.

It has the only lock. Every method goes the same way: decide under the lock (in the ledger), act outside it. Under the lock
runs no code of the user's: no model, no backend, no receiver, no callback.

After an attempt, in this order: the state moves, the answer is merged, receivers are called, the handle settles, and the
next attempt starts.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from random import random
from types import TracebackType
from typing import Any, Self, TypeVar

from . import _attempt
from ._announcer import Announcer
from ._answer import merge, succeed
from ._lane import Lane, LaneState
from ._ledger import Ledger
from ._machine import Chain as ChainState
from ._machine import Effect, Idle, Settled, Start, Wake
from ._merge import Facts, Merged
from ._port import Port
from ._record import Life, Record, Verb
from ._waiting import Patience
from ._weakmap import WeakIdMap
from .binding import Bound
from .chain import Chain, ModelChain
from .drivers import Drivers
from .events import EventName
from .exceptions import InvalidOption, Stuck, WouldDeadlock
from .handle import SaveHandle
from .operation import Answer, Guarantee
from .policies import Outcome, Ruling
from .protocols import Driver, Job, Steps, guarantee_of

__all__ = ["Dispatcher"]

logger = logging.getLogger("chained_models")

EXIT_TIMEOUT = 10.0
"""Seconds that the end of the interpreter is held up, at most, to carry out what is left."""

_EVENT_FOR: dict[Outcome, EventName] = {
    Outcome.SAVED: "sync",
    Outcome.FAILED: "error",
    Outcome.ABANDONED: "abandoned",
    Outcome.CANCELLED: "cancelled",
}

M = TypeVar("M")

Jobs = list[tuple[Driver, Job]]


class _Deciding:
    """The lock: ``with self._deciding as ledger``. The ledger knows the time inside.

    Knows when its own thread comes a second time (a signal handler, a finalizer), and refuses: letting it in would show it
    half-moved state; a plain lock would hang for ever.
    """

    __slots__ = ("_clock", "_inside", "_ledger", "_lock")

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._lock = threading.RLock()
        self._inside = False
        self._ledger = ledger
        self._clock = clock

    def __enter__(self) -> Ledger:
        self._lock.acquire()
        if self._inside:
            self._lock.release()
            raise WouldDeadlock(
                "called from a signal handler or a finalizer while the dispatcher was at work; hand it to a thread"
            )
        self._inside = True
        self._ledger.machine.now = self._clock()
        return self._ledger

    def __exit__(self, *_: object) -> None:
        self._inside = False
        self._lock.release()


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
        self._ledger = Ledger()
        self._deciding = _Deciding(self._ledger, self._drivers.now)
        self._announcer = Announcer(self._post)
        self._patience = Patience(self._drivers, self._announcer)
        self._ports: WeakIdMap[Any, Port] = WeakIdMap()
        self._lanes: weakref.WeakValueDictionary[int, LaneState[ChainState]] = weakref.WeakValueDictionary()

    @property
    def closed(self) -> bool:
        """Whether it takes no more saves."""
        return self._ledger.closed

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
            save.update_fields = update_fields
            save.force_insert = force_insert
            save.discard = discard
            key = self._ordering_key(port, model, bound)
            identity = bound.identity_of(model)
            if identity is not None and (check_identity := getattr(backend, "check_identity", None)) is not None:
                check_identity(identity)
            origin = adapter.origin(model)
            stored = bound.server_given if origin is None else origin.stored
            with self._deciding as ledger:
                earlier = ledger.reserve(save, key, identity, stored=stored)
            if earlier is not None:
                return earlier
            try:
                save.snapshot = adapter.snapshot(model, check=verb in (Verb.SAVE, Verb.PATCH))
                if origin is not None and origin.stored and facts.unsettled == 1:
                    # Asked again, because the snapshot may have loaded what was expired.
                    facts.adopt(adapter.origin(model) or origin)
                if facts.unsettled == 1 and verb in (Verb.SAVE, Verb.PATCH) and save.record.life is Life.LIVE:
                    _attempt.check_version(save)
            except BaseException:
                with self._deciding as ledger:
                    effects = ledger.withdraw(save)
                self._run(effects)
                raise
            if not save.passes_halt:
                save.before, facts.last = facts.last, save
            with self._deciding as ledger:
                effects = ledger.fill(save)
        self._run(effects)
        return save

    def port(self, backend: Any) -> Port:
        """This dispatcher's view of a backend."""
        port = self._ports.get(backend)
        if port is not None:
            return port
        lane = getattr(backend, "lane", None)
        if lane is None:
            lane = Lane()
        with self._deciding as ledger:
            port = self._ports.get(backend)
            if port is not None:
                return port
            state = self._lanes.get(id(lane))
            if state is None:
                state = self._lanes[id(lane)] = LaneState(lane)
                lane.watch(self._lane_resumed)
            driver = self._drivers.choose(backend)
            if hasattr(driver, "lost"):
                driver.lost = partial(_lost, weakref.ref(self), weakref.ref(driver))
            return self._ports.setdefault(backend, Port(state, driver))

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
        with self._deciding as ledger:
            ledger.adopt(port, facts, bound.model.type, identity, stored=stored)
        return ModelChain(self, model, bound, port, facts)

    def mark_stored(self, port: Port, facts: Facts, model_type: type, identity: Any, base: Any, version: Any) -> None:
        """The user says that an object is as the backend has it."""
        with facts.latch:
            with self._deciding as ledger:
                effects = ledger.identify(port, facts.record.current(), model_type, identity)
            facts.declare(base, version)
        self._run(effects)

    @staticmethod
    def _ordering_key(port: Port, model: Any, bound: Bound) -> Any:
        choose = bound.binding.ordering_key
        if choose is None:
            return None
        key = choose(model)
        try:
            hash(key)
        except TypeError:
            raise InvalidOption(f"an ordering key must be hashable; this one is a {type(key).__name__}") from None
        return port, key

    # Carrying out

    def _run(self, effects: list[Effect]) -> None:
        """Carry out what a verb, a timer or another thread has brought about; raises what interrupted a receiver."""
        _start(self._carry_out(effects))
        _raise_interrupt([effect.save for effect in effects if isinstance(effect, Settled)])

    def _carry_out(self, effects: Iterable[Effect]) -> Jobs:
        """Do what was decided; returns the jobs that follow when all receivers have run."""
        jobs: Jobs = []
        settled: list[Settled] = []
        for effect in effects:
            match effect:
                case Start(save, token):
                    driver = save.port.driver
                    jobs.append((driver, Job(partial(self._attempt, save, token), save.context)))
                    if driver.overlaps:
                        self._look_after(save.port.lane, driver, driver.now() + save.timeout)
                case Wake(save, token, delay):
                    driver = save.port.driver
                    driver.wake_at(driver.now() + delay, partial(self._woke, save, token))
                case Settled():
                    settled.append(effect)
                case Idle():  # pragma: no cover - only `released` says so, see _finish
                    pass
        if settled:
            # Attempts of other chains do not wait for the receivers of this one, if they run beside them.
            _start([(driver, job) for driver, job in jobs if driver.overlaps])
            jobs = [(driver, job) for driver, job in jobs if not driver.overlaps]
        for one in settled:
            if self._announcer.here(one.save):
                jobs += self._finish(one.save, release=one.release)
            else:
                one.save.delivery.put(partial(self._finish_there, one.save, release=one.release))
        return jobs

    def _attempt(self, save: SaveHandle[Any], token: int) -> Steps:
        """One attempt, as a job."""
        answer: Answer | None = None
        error: BaseException | None = None
        try:
            answer = yield from _attempt.execute(save, partial(self._announcer.tell, "request", save))
        except GeneratorExit:
            raise  # its loop is gone; whoever noticed has settled the save
        except BaseException as raised:  # noqa: BLE001 - every path out of "in flight" ends in one settle
            error = raised
        jobs = self._completed(save, token, answer, error)
        interrupt = save.interrupt if isinstance(error, Exception) or error is None else error
        save.interrupt = None
        mine = save.port.driver if interrupt is None else None
        _start([(driver, job) for driver, job in jobs if driver is not mine])
        if interrupt is not None:
            raise interrupt
        return [job for driver, job in jobs if driver is mine]

    def _completed(self, save: SaveHandle[Any], token: int, answer: Answer | None, error: BaseException | None) -> Jobs:
        guarantee = Guarantee.PLAIN if error is None else guarantee_of(save.backend, save.binding.model.type)
        with self._deciding as ledger:
            effects, verdict, current = ledger.completed(save, token, answer, error, guarantee, random())
        if not current:
            self._announcer.tell("stale", save, error=error)
        elif verdict is not None and verdict.ruling is Ruling.RETRY:
            self._announcer.tell("retry", save, error=error, delay=verdict.delay)
        elif verdict is not None and verdict.ruling is Ruling.HOLD:
            logger.warning("%s: the credentials were refused; its lane is paused until resume()", save)
            self._announcer.tell("retry", save, error=error)
            self._patience.changed()
        return self._carry_out(effects)

    def _finish(self, save: SaveHandle[Any], *, release: bool) -> Jobs:
        """Merge, tell, settle, and let the next one go. Returns the jobs that follow."""
        chain, outcome = save.chain, save.outcome
        assert chain is not None and outcome is not None
        effects: list[Effect] = []
        with self._announcer:
            merged = self._merge(save, outcome)
            heard = self._announcer.emit(_EVENT_FOR[outcome], save, error=save.error, merged=merged)
            if save.error is not None and not heard and not save.awaited:
                logger.error("%s %s, and nobody listened: %s", save, outcome.value, type(save.error).__name__)
            try:
                save.settle(save.model, save.error, cancelled=outcome is Outcome.CANCELLED)
            except BaseException as interrupt:  # noqa: BLE001 - of a callback; raised again when the chain has gone on
                save.interrupt = interrupt
            if release:
                with self._deciding as ledger:
                    effects = ledger.machine.released(chain)
            if effects and isinstance(effects[-1], Idle):
                del effects[-1]
                self._announcer.emit("idle", save)
        with self._deciding as ledger:
            ledger.finishing.discard(save.seq)
        self._patience.changed()
        return self._carry_out(effects)

    @staticmethod
    def _merge(save: SaveHandle[Any], outcome: Outcome) -> Merged:
        try:
            return merge(save, outcome)
        except Exception as error:  # noqa: BLE001 - a model may do what it likes; the write has happened all the same
            logger.warning("%s: the answer could not be merged (%s)", save, type(error).__name__)
        except BaseException as interrupt:  # noqa: BLE001 - raised again when the chain has gone on
            save.interrupt = interrupt
        return Merged()

    def _finish_there(self, save: SaveHandle[Any], *, release: bool) -> None:
        _start(self._finish(save, release=release))
        _raise_interrupt([save])

    # Time

    def _woke(self, save: SaveHandle[Any], token: int) -> list[Job]:
        with self._deciding as ledger:
            effects = ledger.machine.woke(save, token)
        self._run(effects)
        return []

    def _look_after(self, lane: LaneState[ChainState], driver: Driver, when: float) -> None:
        """See to it that somebody looks at the attempts in flight at that time. One timer a lane, not one an attempt."""
        if when >= lane.look_at:
            return  # looked at without the lock, to save a passage for each attempt, and again with it
        with self._deciding as ledger:
            if when >= lane.look_at:
                return
            lane.look_at = when
        lane.unlook = driver.wake_at(when, partial(self._look, lane, driver, when))

    def _look(self, lane: LaneState[ChainState], driver: Driver, when: float) -> list[Job]:
        """Give up attempts that are over the time for all attempts."""
        saves = list(lane.slots.values())
        guarantees = {save.seq: guarantee_of(save.backend, save.binding.model.type) for save in saves}
        with self._deciding as ledger:
            if when != lane.look_at:
                return []  # another look has been arranged since
            lane.look_at = float("inf")
            effects, next_look = ledger.overdue(lane, guarantees)
        if next_look is not None:
            self._look_after(lane, driver, next_look)
        self._run(effects)
        return []

    def _lane_resumed(self, lane: Lane) -> None:
        state = self._lanes.get(id(lane))
        if state is not None:
            with self._deciding as ledger:
                effects = ledger.machine.lane_resumed(state)
            self._run(effects)

    # Handles and chains

    def cancel(self, handle: SaveHandle[Any]) -> bool:
        """Take the save out of its chain, if it was never attempted."""
        with self._deciding as ledger:
            effects = ledger.cancel(handle)
        if effects is None:
            return handle.outcome is Outcome.CANCELLED  # also while another thread's cancel() still tells receivers
        self._run(effects)
        return True

    def wait(self, handle: SaveHandle[Any], timeout: float | None) -> bool:
        """Block until the handle is done."""
        return self._patience.wait(handle, timeout)

    async def wait_async(self, handle: SaveHandle[Any]) -> None:
        """Wait in an event loop until the handle is done."""
        await self._patience.wait_async(handle)

    def catch_up(self, handle: SaveHandle[Any]) -> None:
        """Make the assignments to the model that were left for this thread."""
        handle.facts.catch_up()

    def chain_state(self, key: Any) -> ChainState | None:
        """The chain of that key, if there is anything in it."""
        return self._ledger.machine.chains.get(key)

    def pending(self, key: Any) -> list[SaveHandle[Any]]:
        """Every unsettled save of a chain, in order."""
        with self._deciding as ledger:
            chain = self.chain_state(key)
            saves: list[Any] = [] if chain is None else list(chain.saves.values())
            return saves

    def pause(self, key: Any, lane: LaneState[ChainState]) -> None:
        """Start nothing in this chain until it is resumed."""
        with self._deciding as ledger:
            ledger.machine.pause(key, lane)
        self._patience.changed()

    def resume(self, key: Any) -> None:
        """Go on."""
        self._change(key, self._ledger.machine.resume)

    def clear(self, key: Any) -> None:
        """Cancel what was never attempted, and lift a halt."""
        self._change(key, self._ledger.clear)

    def skip(self, key: Any) -> None:
        """Go on without the save that halted the chain."""
        self._change(key, self._ledger.machine.lift)

    def retry(self, key: Any, successor_of: Callable[[Any], SaveHandle[Any]]) -> SaveHandle[Any] | None:
        """Send the save that halted the chain again, in front; None if the chain is not halted."""
        halted: Any = getattr(self.chain_state(key), "halted", None)
        if halted is None:
            return None
        with halted.facts.latch, self._deciding as ledger:
            chain: Any = self.chain_state(key)
            if chain is None or chain.halted is not halted:
                return None  # another thread was first
            successor = successor_of(halted)
            succeed(successor, halted)
            effects = ledger.retry(chain, successor)
        self._run(effects)
        return successor

    def _change(self, key: Any, decide: Callable[[ChainState], list[Effect]]) -> None:
        with self._deciding as ledger:
            chain = self.chain_state(key)
            effects = [] if chain is None else decide(chain)
        self._run(effects)

    def __len__(self) -> int:
        with self._deciding as ledger:
            return sum(1 for chain in ledger.machine if chain.saves)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Chain]:
        with self._deciding as ledger:
            chains = [chain.key for chain in ledger.machine if chain.saves]
        return iter([Chain(self, key) for key in chains])

    def __repr__(self) -> str:
        with self._deciding as ledger:
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
        with self._deciding as ledger:
            idle = not ledger.machine.chains
            timed = self._unlooked() if idle else []
        if idle:
            for unlook in timed:
                unlook()
            for driver in self._drivers:
                driver.rest()

    def _unlooked(self) -> list[Callable[[], object]]:
        """Nothing is in flight, so nobody need look after it: what takes back the timers."""
        lanes = [lane for lane in self._lanes.values() if lane.look_at != float("inf")]
        for lane in lanes:
            lane.look_at = float("inf")
        return [lane.unlook for lane in lanes]

    def flush_chains(self, key: Any, timeout: float | None) -> None:
        """Flush one chain, or all of them where `key` is None."""
        with self._deciding as ledger:
            last = ledger.machine.last_seq
        ended, held = self._patience.flush(partial(self._unfinished, key, last), timeout)
        if not ended:
            with self._deciding as ledger:
                left: list[Any] = [
                    save for chain in self._chains(key) for save in chain.saves.values() if save.seq <= last
                ]
            raise Stuck(f"{len(left)} saves did not end within {timeout:g} s: {_listed(left)}")
        if held:
            raise Stuck(f"{len(held)} saves cannot be carried out, their chains are paused or halted: {_listed(held)}")

    def _chains(self, key: Any) -> Iterable[ChainState]:
        # Not a copy: this is asked after every save while somebody flushes, and there may be 100,000 chains.
        chains = self._ledger.machine.chains
        return chains.values() if key is None else [chains[key]] if key in chains else []

    def _unfinished(self, key: Any, last: int) -> tuple[bool, list[SaveHandle[Any]]]:
        """Whether there is still something to wait for, and what cannot move by itself."""
        held: list[Any] = []
        with self._deciding as ledger:
            if key is None and any(seq <= last for seq in ledger.finishing):
                return True, held
            for chain in self._chains(key):
                if chain.finishing is not None and chain.finishing.seq <= last:
                    return True, held
                if not _reaches_back(chain, last):
                    continue
                halted = chain.halted is not None and chain.active is None and chain.startable() is None
                if chain.lane.holds(chain.active) or not (halted or chain.paused or chain.lane.lane.paused):
                    return True, held
                held += [save for save in chain.saves.values() if save.seq <= last]
        return False, held

    def close(self, timeout: float | None = None) -> None:
        """Refuse new saves, flush, and end; what cannot be carried out in time is given up, and logged at ERROR.

        Args:
            timeout: Seconds to wait at most; None for as long as it takes.
        """
        self._patience.check()
        with self._deciding as ledger:
            ledger.closed = True
        try:
            self.flush(timeout)
        except Stuck as left:
            logger.error("the dispatcher is closed although %s", str(left))
        self._abandon_all("the dispatcher was closed")
        with self._deciding:
            timed = self._unlooked()
        for unlook in timed:
            unlook()
        for driver in self._drivers:
            driver.close()

    def _abandon_all(self, cause: str, driver: Driver | None = None) -> None:
        with self._deciding as ledger:
            saves: list[Any] = [save for chain in ledger.machine for save in chain.saves.values()]
            effects = ledger.give_up_all([s for s in saves if driver is None or s.port.driver is driver], cause)
        self._run(effects)
        self._announcer.rescue()

    def abandon_loop(self, driver: Driver) -> None:
        """The event loop that a driver worked in is closed: nothing of it will ever report."""
        self._abandon_all("its event loop was closed", driver)

    def leave(self) -> None:
        """At the end of the interpreter: flush with a deadline, and report what is left."""
        self._announcer.leaving = True
        try:
            self.flush(self.exit_timeout)
        except Stuck as left:
            logger.error("the interpreter ends, and %s", str(left))

    def after_fork(self) -> None:
        """In a child process: start empty. What was accepted before the fork is the parent's to carry out."""
        saves: list[Any] = [save for chain in self._ledger.machine for save in chain.saves.values()]
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


def _start(jobs: Jobs) -> None:
    # All jobs of a driver at once: one that runs them in the caller may be interrupted in the first of them.
    by_driver: dict[Driver, list[Job]] = {}
    for driver, job in jobs:
        by_driver.setdefault(driver, []).append(job)
    for driver, its in by_driver.items():
        driver.start(*its)


def _raise_interrupt(saves: Iterable[SaveHandle[Any]]) -> None:
    """Raise what interrupted a receiver of these saves (KeyboardInterrupt, SystemExit), now that the chain has gone on."""
    interrupt: BaseException | None = None
    for save in saves:
        interrupt, save.interrupt = interrupt or save.interrupt, None
    if interrupt is not None:
        raise interrupt


def _lost(dispatcher: weakref.ref[Dispatcher], driver: weakref.ref[Any]) -> None:
    mine, its = dispatcher(), driver()
    if mine is not None and its is not None:
        mine.abandon_loop(its)


def _reaches_back(chain: ChainState, last: int) -> bool:
    """Whether there is a save of that number, or an earlier one, in the chain. Does not look through all of it."""
    before = 0
    for seq in chain.saves:
        if seq <= last:
            return True
        if 0 < before < seq:
            return False  # past the few that were put in front, numbers only rise
        before = seq
    return False


def _listed(saves: list[SaveHandle[Any]], most: int = 5) -> str:
    named = ", ".join(str(save) for save in saves[:most])
    return named if len(saves) <= most else f"{named} and {len(saves) - most} more"


living: weakref.WeakSet[Dispatcher] = weakref.WeakSet()
"""Every dispatcher of the process, for its end and for forks."""
