"""Views of chains: what `model.chain` and iterating a dispatcher give. A view keeps no state, and can be made at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, Unpack

from ._account import believe
from ._lane import LaneState
from ._machine import Chain as ChainState
from ._merge import Facts
from ._port import Port
from ._record import Life, Record, Verb
from ._snapshot import MISSING, Snapshot, same
from ._states import SaveState
from .binding import Bound, ChainOptions, chain_options
from .events import EventName, Receiver, Receivers
from .exceptions import BaseUnknown, UsageError
from .handle import SaveHandle
from .operation import Method

__all__ = ["Chain", "ChainHost", "ModelChain", "SaveView"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SaveView:
    """One unsettled save of a chain, as it was when it was looked at."""

    id: str
    seq: int
    verb: Verb
    method: Method | None
    state: SaveState
    attempts: int
    why_waiting: str | None
    """Why it has not ended, as one sentence."""


class ChainHost(Protocol):
    """What a view needs of its dispatcher."""

    def chain_state(self, key: Any) -> ChainState | None: ...
    def pending(self, key: Any) -> list[SaveHandle[Any]]: ...
    def pause(self, key: Any, lane: LaneState[ChainState]) -> None: ...
    def resume(self, key: Any) -> None: ...
    def update(self, key: Any, options: dict[str, Any]) -> None: ...
    def look(self, key: Any) -> list[tuple[SaveHandle[Any], SaveState, int, str | None]]: ...
    def why(self, handle: SaveHandle[Any]) -> str | None: ...
    def clear(self, key: Any) -> None: ...
    def skip(self, key: Any) -> None: ...
    def retry(self, key: Any) -> SaveHandle[Any] | None: ...
    def cancel(self, handle: SaveHandle[Any]) -> bool: ...
    def flush_chains(self, key: Any, timeout: float | None) -> None: ...
    def mark_stored(
        self, port: Port, facts: Facts, model_type: type, identity: Any, base: Any, version: Any
    ) -> None: ...


class Chain:
    """The serial queue of one ordering key. Always true; its length is the number of unsettled saves."""

    __slots__ = ("_given_key", "_host")

    def __init__(self, host: ChainHost, key: Any) -> None:
        self._host = host
        self._given_key = key

    @property
    def _key(self) -> Any:
        key = self._given_key
        return key.current() if isinstance(key, Record) else key

    def __len__(self) -> int:
        state = self._host.chain_state(self._key)
        return 0 if state is None else len(state.saves)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[SaveView]:
        return iter(
            [
                SaveView(save.id, save.seq, save.verb, save.method, state, attempts, why)
                for save, state, attempts, why in self._host.look(self._key)
            ]
        )

    @property
    def in_flight(self) -> SaveHandle[Any] | None:
        """The save that was started and has not settled, or None. There is never more than one."""
        state = self._host.chain_state(self._key)
        active: Any = None if state is None else state.active
        return active  # type: ignore[no-any-return]

    @property
    def paused(self) -> bool:
        """Whether the chain is paused."""
        state = self._host.chain_state(self._key)
        return state is not None and state.paused

    @property
    def halted(self) -> SaveHandle[Any] | None:
        """The failed save that stopped the chain, or None. It is settled; those behind it wait."""
        state = self._host.chain_state(self._key)
        halted: Any = None if state is None else state.halted
        return halted  # type: ignore[no-any-return]

    def pause(self) -> None:
        """Start nothing in this chain until `resume()`, also if it is empty now. What is in flight goes on."""
        lane = self._lane
        if lane is not None:
            self._host.pause(self._key, lane)

    @property
    def _lane(self) -> LaneState[ChainState] | None:
        state = self._host.chain_state(self._key)
        return None if state is None else state.lane

    @property
    def why_waiting(self) -> str | None:
        """Why the first save of the chain has not ended, as one sentence; None if there is none."""
        first = next(iter(self._host.pending(self._key)), None)
        return None if first is None else f"{first} {self._host.why(first) or 'has just ended'}"

    def update(self, **options: Unpack[ChainOptions]) -> None:
        """Give this chain options of its own, instead of those its class was bound with.

        They act from the next attempt on, also of saves that wait already; an attempt that runs keeps what it started with,
        and a save the timeout that was given for it alone. They stay as long as there is an object of this chain, or
        something in it; those of a chain with an ordering key of yours, as long as its dispatcher.

        Args:
            **options: on_failure, on_conflict, retry, timeout, coalesce, max_pending, overflow; see
                :meth:`ChainedSaveMixin.bind`.

        Raises:
            TypeError: There is no such option for a chain.
            InvalidOption: A value makes no sense.
        """
        self._host.update(self._key, chain_options(options))

    def resume(self) -> None:
        """Go on. Does nothing if the chain is not paused."""
        self._host.resume(self._key)

    def clear(self) -> None:
        """Cancel every save that was never attempted, and lift a halt. What is in flight goes on, and keeps its place."""
        self._host.clear(self._key)

    def cancel(self, id: str) -> bool:
        """Take one save out by its id. False if it was attempted already.

        Raises:
            KeyError: No unsettled save of this chain has that id.
        """
        for save in self._host.pending(self._key):
            if save.id == id:
                return self._host.cancel(save)
        raise KeyError(f"no unsettled save of this chain has the id {id!r}")

    def skip(self) -> None:
        """Go on without the save that halted the chain. Does nothing if it is not halted."""
        self._host.skip(self._key)

    def retry(self) -> SaveHandle[Any] | None:
        """Send the save that halted the chain again, before all others, with the same payload and idempotency key.

        Returns:
            The new handle; None if the chain is not halted.

        Raises:
            UsageError: It waits for a save that has come to be queued in the same chain; retry it when that one has ended.
        """
        return self._host.retry(self._key)

    def flush(self, timeout: float | None = None) -> None:
        """Wait for what was accepted in this chain before the call; see :meth:`Dispatcher.flush`."""
        self._host.flush_chains(self._key, timeout)

    def __repr__(self) -> str:
        words = [f"{len(self)} saves"]
        words += ["paused"] if self.paused else []
        words += ["halted"] if self.halted is not None else []
        return f"<Chain of {_named(self._key)}: {', '.join(words)}>"


class ModelChain(Chain, Generic[T]):
    """The chain of one object, and what is known of that object."""

    __slots__ = ("_bound", "_facts", "_model", "_port")

    def __init__(self, host: ChainHost, model: T, bound: Bound, port: Port, facts: Facts) -> None:
        super().__init__(host, facts.record)
        self._model = model
        self._bound = bound
        self._port = port
        self._facts = facts

    @property
    def _key(self) -> Any:
        record = self._record
        state = self._host.chain_state(record.line)
        halted: Any = None if state is None else state.halted
        if record.unsettled or (halted is not None and halted.record.current() is record):
            return record.line
        key = self._bound.ordering_key(self._port, self._model)
        return record if key is None else key

    @property
    def _record(self) -> Record:
        record: Record = self._facts.record.current()
        return record

    @property
    def _lane(self) -> LaneState[ChainState]:
        return self._port.lane

    @property
    def is_new(self) -> bool:
        """Whether the object is not known to be stored."""
        return self._record.life in (Life.NEW, Life.CREATING)

    def unsaved_changes(self) -> dict[str, Any]:
        """The attributes, by name, whose value differs from what the object last knew to be stored.

        Raises:
            BaseUnknown: Nothing is known to be stored: save or refresh first, or say `mark_saved()`.
        """
        facts, adapter = self._facts, self._bound.adapter
        facts.catch_up()
        with facts:
            base = self._base()
            if base is None:
                raise BaseUnknown(
                    f"it is not known what is stored of {self._record}; save or refresh it first, "
                    "or call mark_saved() if it is as the backend has it"
                )
            snapshot = adapter.snapshot(self._model, check=False)
            identity = self._record.identity
            if identity is not None and self._bound.identity_in(snapshot) is None:
                snapshot |= self._bound.parts(identity)  # a frozen object that could not be given its identity
            return {name: value for name, value in snapshot.items() if not same(value, base.get(name, MISSING))}

    def _base(self) -> Snapshot | None:
        """What the object, or its own library, knows to be stored. The latch is held."""
        facts = self._facts
        if not facts.unsettled:
            believe(self._port, facts, self._bound.adapter, self._model)
        return facts.base

    def revert(self, *, all: bool = False) -> None:
        """Set attributes back to what is known to be stored; nothing is sent, and what is queued is not changed.

        Args:
            all: Every attribute. Without it only those that still hold the value of a save that failed or was abandoned:
                what was edited since then stays.

        Raises:
            BaseUnknown: Of some of them it is not known what is stored (nothing ever was, or a save was abandoned), and
                none was set back; refresh first.
            UsageError: Some cannot be set (they are frozen, or the model refuses the value); the others were set back.
        """
        facts, adapter, model = self._facts, self._bound.adapter, self._model
        facts.thread = threading.get_ident()
        facts.catch_up()
        with facts:
            base, failed = self._base() or {}, facts.failed
            live = adapter.snapshot(model, check=False)
            identity = self._bound.model.identity
            names = [
                name
                for name, value in live.items()
                if (all or same(value, failed.get(name, MISSING)))
                and not same(value, base.get(name, MISSING))
                and name not in identity  # it is fixed, or not given yet
            ]
            unknown = [name for name in names if name not in base]
            if unknown:
                raise BaseUnknown(
                    f"it is not known what is stored of {self._record} as {', '.join(unknown)}, so nothing was set back; "
                    "refresh it first"
                )
            refused: dict[str, Exception] = {}
            for name, value in adapter.load(type(model), {name: deepcopy(base[name]) for name in names}).items():
                try:
                    adapter.assign(model, name, value)
                except Exception as error:  # noqa: BLE001 - frozen, or a validator of the user's
                    refused[name] = error
            origin = adapter.origin(model)
            if origin is not None and origin.stored and self._port.is_home(model):  # else it would count as changed
                adapter.stored(model, [name for name in names if name not in refused])
            facts.failed = {name: value for name, value in failed.items() if name not in names or name in refused}
        if refused:
            raise UsageError(
                f"{', '.join(refused)} of {self._record} cannot be set back; make a new object of it, or set it by hand"
            ) from next(iter(refused.values()))

    def mark_saved(self, version: Any = None) -> None:
        """Say that this object came from the backend as it is now.

        Args:
            version: Its version there, if the backend has versions.

        Raises:
            BaseUnknown: It has no identity, so no backend can have it.
        """
        identity = self._bound.identity_of(self._model)
        if identity is None:
            raise BaseUnknown(f"{type(self._model).__name__} has no identity yet: set it first, then call mark_saved()")
        with self._facts:
            snapshot = self._bound.adapter.snapshot(self._model, check=False)
            model_type = self._bound.model.type
            self._host.mark_stored(self._port, self._facts, model_type, identity, snapshot, version)

    def on(self, name: EventName, receiver: Receiver) -> Callable[[], None]:
        """Call `receiver` for events of this object; returns what disconnects it.

        Held strongly: a receiver that refers to the object keeps it alive until it is disconnected.
        """
        if self._facts.receivers is None:
            self._facts.receivers = Receivers()
        disconnect: Callable[[], None] = self._facts.receivers.connect(name, receiver)
        return disconnect


def _named(key: Any) -> str:
    return str(key) if isinstance(key, Record) else repr(key[1]) if isinstance(key, tuple) else repr(key)
