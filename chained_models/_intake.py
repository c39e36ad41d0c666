"""The Intake: takes saves in. A snapshot of the object, and with it a place in line."""

from __future__ import annotations

import contextvars
import threading
import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, TypedDict, Unpack

from . import _attempt, _observing
from ._account import believe
from ._announcer import Announcer
from ._dependencies import After, final, lost, parents
from ._engine import Engine
from ._flushing import moves
from ._lane import Lane
from ._machine import Effect
from ._merge import Facts
from ._model_work import ModelWork
from ._port import Port
from ._record import Life, Record, Verb
from ._snapshot import MISSING
from ._weakmap import WeakIdMap
from .binding import Bound
from .drivers import Drivers
from .exceptions import ChainFull, DispatcherClosed
from .handle import Handle, Host, SaveHandle
from .policies import Outcome, Overflow
from .protocols import Driver

__all__ = ["Intake"]


class Wishes(TypedDict, total=False):
    """What a verb may be asked for besides."""

    attributes: Iterable[tuple[str, Any]]
    update_fields: frozenset[str] | None
    force_insert: bool
    discard: bool
    timeout: float | None
    after: After


class Intake:
    """The side of a dispatcher that takes saves in.

    Args:
        host: The dispatcher, for the handles.
        drivers: Where the work runs.
        announcer: Knows where a save is to be delivered.
        engine: Makes saves move.
    """

    def __init__(self, host: Host, drivers: Drivers, announcer: Announcer, engine: Engine) -> None:
        self._host = host
        self._drivers = drivers
        self._announcer = announcer
        self._engine = engine
        self._ledger = engine.ledger
        self._ports: WeakIdMap[Any, Port] = WeakIdMap()
        self._saves = ModelWork(engine.ledger)
        self._here = 0
        """The thread that was here last."""

    def submit(self, model: Any, bound: Bound, backend: Any, verb: Verb, **wishes: Unpack[Wishes]) -> SaveHandle[Any]:
        """Accept one save: take the snapshot, and its place in line, and start it if nothing is in its way."""
        # Most calls are of this kind: save() without options, of a class without rules of its own, of an object that was seen
        # before. Written out, for a quarter of a call's time (measured); what is not said here is said in `_submit` and `_take_in`.
        port = self._ports.get(backend)
        facts = None if port is None or wishes or verb is not _SAVE else port.objects.get(model)
        if facts is None or port is None or not self._is_plain(port, facts, bound, model):
            return self._submit(model, bound, backend, verb, **wishes)
        port.driver.claim()
        with facts:
            facts.thread = self._this_thread()
            now = contextvars.copy_context()
            save = SaveHandle(
                self._host,
                self._saves,
                model,
                verb,
                port,
                backend,
                facts,
                bound,
                bound.binding.timeout,
                _context(now, facts.last) if now else _NO_VARIABLES,
                self._announcer.delivery(),
            )
            last, base = facts.last, facts.base
            save.snapshot = bound.adapter.snapshot(model)
            identity = bound.identity_in(save.snapshot)
            if port.checks and identity is not None:
                backend.check_identity(identity)
            effects: list[Effect] | None = None
            with self._engine.deciding:
                if facts.last is last and facts.base is base:
                    save, effects = self._saves.enter(save, None, identity, stored=bound.server_given)
        if effects is None:
            return self._submit(model, bound, backend, verb)
        if _observing.observers:
            self._engine.run_accepted([save], effects)
        else:
            self._engine.run(effects)
        return save

    def _submit(
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
        after: After = (),
    ) -> SaveHandle[Any]:
        if self._ledger.closed:
            raise DispatcherClosed  # before anything is claimed for it
        awaited: tuple[Handle[Any], ...] = ()
        waited_for: Sequence[Handle[Any]] = ()
        givers: dict[str, SaveHandle[Any]] = {}
        if after != ():
            awaited, givers = parents(after, bound.adapter.fields(bound.model.type) if verb in _WRITES else ())
        port = self._ports.get(backend) or self.port(backend)
        if port.asks and bound.model.type not in port.alone:
            port.learn(bound.model.type)
        driver = port.driver
        driver.claim()
        if self._announcer.deliveries.filled:
            self._announcer.rescue()
        facts = port.objects.get(model) or self._facts(port, model)
        here = self._this_thread()
        while True:
            with facts:
                facts.thread = here
                if facts.unusual is not None:
                    facts.catch_up()
                for name, value in attributes:
                    bound.adapter.edit(model, name, value)
                attributes = ()  # only once, also if there is no room yet
                save = SaveHandle(
                    self._host,
                    self._saves,
                    model,
                    verb,
                    port,
                    backend,
                    facts,
                    bound,
                    bound.binding.timeout if timeout is None else timeout,
                    _context(contextvars.copy_context(), facts.last),
                    self._announcer.delivery(),
                )
                # What few saves have is set only on those; see Handle.
                if timeout is not None:
                    save.own = ("timeout",)
                if update_fields is not None:
                    save.update_fields = update_fields
                if force_insert:
                    save.force_insert = True
                if discard:
                    save.discard = True
                if awaited:
                    save.after = awaited
                    waited_for = [parent for parent in awaited if not _is_there(parent)]
                    save.waits = len(waited_for)
                try:
                    accepted, effects = self._take_in(save, givers)
                    break
                except ChainFull as full:
                    if full.overflow is not Overflow.BLOCK:
                        raise
            self._wait_for_room(facts, bound.binding.max_pending, driver)
        self._engine.run_accepted([save] if accepted is save else (), effects)
        if waited_for and accepted is save:
            self.wait_for(save, waited_for)
        return accepted

    def _is_plain(self, port: Port, facts: Facts, bound: Bound, model: Any) -> bool:
        return (
            bound.plain
            and not (port.asks and bound.model.type not in port.alone)
            and facts.unusual is None
            and bound.adapter.on_account(model) is None
            and not self._ledger.closed
            and not self._announcer.deliveries.filled
        )

    def _this_thread(self) -> int:
        here, known = threading.get_ident(), self._here
        if here == known:
            return known  # the same number, not an equal one of its own for each of a million objects
        self._here = here
        return here

    def wait_for(self, child: SaveHandle[Any], waited_for: Iterable[Handle[Any]]) -> None:
        """Have `child` told when each of these has ended; it is queued, and waits for as many."""
        gone = weakref.ref(child)  # what is taken out of its chain is not kept by those it would have waited for
        for parent in waited_for:
            if parent._host is not self._host:
                self._engine.patience.rely_on(parent._host.patience)
            parent.when_settled(partial(self._parent_ended, gone))

    def _take_in(
        self, save: SaveHandle[Any], givers: dict[str, SaveHandle[Any]]
    ) -> tuple[SaveHandle[Any], list[Effect]]:
        """With the object's latch held: the accepted save, or the delete that there is.

        The snapshot comes first, so that taking a place and filling it is one step: the latch keeps the saves of one object in
        order, and calls for different objects that overlap have none. Only what runs inside of this one, in the same thread,
        may save the object meanwhile (a copying hook, a finalizer, a signal handler). That one stands in front then, so this
        one must not carry what was before it.
        """
        bound, facts, model = save.binding, save.facts, save.model
        adapter, writes = bound.adapter, save.verb in _WRITES
        key = None if bound.binding.ordering_key is None else bound.ordering_key(save.port, model)
        on_account = adapter.on_account(model)
        stored = bound.server_given if on_account is None else on_account
        while True:
            last, base = facts.last, facts.base
            save.snapshot = adapter.snapshot(model, check=writes)
            identity = bound.identity_in(save.snapshot)
            if save.port.checks and identity is not None:
                save.backend.check_identity(identity)
            if on_account is not None and not facts.unsettled and facts.last is last and facts.base is base:
                # After the snapshot, which may have loaded what was expired.
                self._believe(save, identity, stored=on_account)
                base = facts.base
            if givers:
                save.slots = {name: (giver, save.snapshot.get(name, MISSING)) for name, giver in givers.items()}
            with self._engine.deciding:
                if facts.last is last and facts.base is base:
                    return self._saves.enter(save, key, identity, stored=stored)

    def _believe(self, save: SaveHandle[Any], identity: Any, *, stored: bool) -> None:
        """Take over what the model's own library says of an object of which nothing is under way."""
        bound, port, facts = save.binding, save.port, save.facts
        believe(port, facts, bound.adapter, save.model)
        if save.verb in _WRITES:
            with self._engine.deciding:
                save.record = self._saves.adopt(port, facts, bound.model.type, identity, stored=stored)
            if save.record.life is Life.LIVE:
                _attempt.check_version(save)

    def _wait_for_room(self, facts: Facts, most: int | None, driver: Driver) -> None:
        """Block until the chain of that object has room.

        Raises:
            WouldDeadlock: This thread is the one that would make room.
            ChainFull: Only this thread could make room, and the chain is held.
        """
        machine = self._engine.ledger.machine

        def full() -> tuple[bool, list[Any]]:
            with self._engine.deciding:
                chain = machine.chains.get(facts.record.current().chain_key)
                allowed = machine.options.of(facts.record.current().chain_key).get("max_pending", most)
                if chain is None or self._engine.ledger.closed or allowed is None or len(chain.saves) < allowed:
                    return False, []
                if not driver.overlaps and not moves(chain):
                    raise ChainFull(f"{len(chain.saves)} saves wait in a chain that is held, and nothing else runs")
                return True, []

        self._engine.patience.flush(full, None)

    def _parent_ended(self, waiting: weakref.ref[SaveHandle[Any]], parent: Any) -> None:
        if parent._host is not self._host:
            self._engine.patience.rely_no_more_on(parent._host.patience)
        child = waiting()
        if child is None:
            return
        error = lost(child, parent)  # before the lock: it says which save it was, and so how an identity is written
        with self._engine.deciding:
            effects = self._saves.parent_ended(child, parent, error)
        self._engine.run(effects)

    def port(self, backend: Any) -> Port:
        """The view of a backend."""
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

    def _facts(self, port: Port, model: Any) -> Facts:
        """What `model` knows of that backend."""
        facts = port.objects.get(model)
        if facts is None:
            facts = Facts(Record(type(model).__name__))
            facts = port.objects.setdefault(model, facts)
        return facts

    def adopt(self, model: Any, bound: Bound, backend: Any) -> tuple[Port, Facts]:
        """What is known of `model`, with the record of the identity that it holds now."""
        port = self.port(backend)
        facts = self._facts(port, model)
        on_account = bound.adapter.on_account(model)
        stored = bound.server_given if on_account is None else on_account
        identity = bound.identity_of(model)
        with self._engine.deciding:
            self._saves.adopt(port, facts, bound.model.type, identity, stored=stored)
        return port, facts

    def mark_stored(self, port: Port, facts: Facts, model_type: type, identity: Any, base: Any, version: Any) -> None:
        """The user says that an object is as the backend has it."""
        with facts:
            with self._engine.deciding:
                effects = self._saves.identify(port, facts, model_type, identity)
            facts.declare(base, version)
        self._engine.run(effects)


_SAVE = Verb.SAVE
_WRITES = (Verb.SAVE, Verb.PATCH)
_NO_VARIABLES = contextvars.Context()


def _context(now: contextvars.Context, before: SaveHandle[Any] | None) -> contextvars.Context:
    """What the context variables are now; the Context of the save in front of it, if they are the same.

    Attempts run in copies of it, so that one may serve any number of saves. A queued save is one object less for the garbage
    collector then. Compared is what the variables refer to: what is equal need not be the same, and asking is the user's code.
    """
    if not now:
        return _NO_VARIABLES
    if before is None or len(now) != len(before.context):
        return now
    known = before.context.get
    for variable, value in now.items():
        if known(variable, now) is not value:
            return now
    return before.context


def _is_there(parent: Any) -> bool:
    """Whether nothing need be waited for, and nothing can go wrong any more."""
    return bool(parent.done()) and final(parent).outcome is Outcome.SAVED and getattr(parent, "identity", 0) is not None


def _lost(engine: weakref.ref[Engine], driver: weakref.ref[Driver]) -> None:
    mine, its = engine(), driver()
    if mine is not None and its is not None:
        mine.abandon_all("its event loop was closed", its)
