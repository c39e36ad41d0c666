"""CallChain: any work, in order, on the same engine as the saves of models."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from ._call import CallHandle
from ._call_options import checked, seconds
from ._call_work import is_coroutine, is_generator
from ._lane import Lane, LaneState
from ._machine import Chain as ChainState
from ._pace import CallOptions, Pace
from ._states import SaveState
from .chain import Chain
from .events import EventName, Receiver, Receivers
from .exceptions import DispatcherClosed, InvalidOption
from .handle import Handle
from .policies import FailureRule
from .process import default_dispatcher
from .protocols import Driver

if TYPE_CHECKING:
    from .dispatcher import Dispatcher

__all__ = ["CallChain", "CallView"]


@dataclass(frozen=True, slots=True)
class CallView:
    """One unsettled item of a CallChain, as it was when it was looked at."""

    id: str
    name: str | None
    state: SaveState
    attempts: int
    why_waiting: str | None
    """Why it has not ended, as one sentence."""


class Options(TypedDict, total=False):
    """What :meth:`CallChain.update` takes."""

    delay: float
    batch: int
    manual: bool
    timeout: float | None
    copy: bool
    on_failure: FailureRule | None


class PlainCalls:
    """The backend that plain functions count as; they share the lane of their chain with its coroutine functions."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane

    def execute(self, operation: Any) -> None:
        """Never called: only its colour counts."""


class CoroutineCalls(PlainCalls):
    """The backend that coroutine functions count as."""

    async def execute(self, operation: Any) -> None:  # type: ignore[override]
        """Never called: only its colour counts."""


class CallChain(Chain):
    """A serial queue of any work: one item at a time, strictly in order, on the same engine as the saves of models.

    ``worker(item)`` is called for each item; an item that is itself callable is called instead, without an argument. A
    function that is a coroutine function runs in an event loop, any other one in a thread; both may stand in one chain.
    What it returns is the result of the item's handle; what it raises is its error, nothing is tried again by itself, and
    the chain goes on. ::

        calls = CallChain(send, delay=0.5)
        calls.add({"to": "anne"})
        calls.add({"to": "bert"}, name="bert").result()

    Args:
        worker: Called with each item that is not callable; None if all items are.
        delay: Seconds from the end of one attempt to the start of the next. The first item starts at once.
        batch: Most items that one call of the worker gets. With more than 1 it always gets a list, also for one item and
            for the remainder: those that are queued when its turn comes. A batch is one attempt, with one result for all
            its items and the smallest of their timeouts. Callables are never batched.
        manual: The worker also gets a :class:`~chained_models.Turn` (a callable item gets only that), and the item is
            done when the turn says so, not when the worker returns; until then no thread is held. What a manual worker
            returns is not looked at; if it raises before the turn was settled, the item has failed.
        timeout: Seconds from the start of an attempt after which the item is abandoned and the chain goes on; a late end
            is told as `stale`, and changes nothing. A worker in a thread cannot be stopped, and runs on; a coroutine is
            cancelled, unless it is manual. The inline driver can only abandon an open turn. None: as long as it takes.
        copy: Deep-copy items when they are added, so that later changes of them do not matter. Callables never are.
        lane: Shared with other chains, to bound how many run at once; None for a lane of its own.
        dispatcher: Who carries it out; None for the default dispatcher.
        on_failure: What the chain does after an item that failed or was abandoned: go on, which is the default, or halt
            until `retry()`, `skip()` or `clear()`; one rule, or one for each class of errors.

    Raises:
        InvalidOption: An option has a value that makes no sense.
    """

    _host: Any

    def __init__(
        self,
        worker: Callable[..., Any] | None = None,
        *,
        delay: float = 0.0,
        batch: int = 1,
        manual: bool = False,
        timeout: float | None = None,
        copy: bool = True,
        lane: Lane | None = None,
        dispatcher: Dispatcher | None = None,
        on_failure: FailureRule | None = None,
    ) -> None:
        if worker is not None and not callable(worker):
            raise InvalidOption(f"CallChain(worker={worker!r}): a function of one item is needed")
        if lane is not None and not isinstance(lane, Lane):
            raise InvalidOption(f"CallChain(lane={lane!r}): a Lane is needed, or None for one of its own")
        options = CallOptions(
            **checked(
                {
                    "delay": delay,
                    "batch": batch,
                    "manual": manual,
                    "timeout": timeout,
                    "copy": copy,
                    "on_failure": on_failure,
                }
            )
        )
        super().__init__(default_dispatcher() if dispatcher is None else dispatcher, self)
        self._worker = worker
        self._dispatcher = dispatcher
        self._pace = Pace(options)
        # Of its own: a lane with one chain cannot be congested, and nobody need look whether its attempts take long.
        self._own_lane = Lane(long_after=math.inf) if lane is None else lane
        self._plain = PlainCalls(self._own_lane)
        self._coroutines = CoroutineCalls(self._own_lane)
        self._drivers: tuple[Driver, ...] = ()
        """Those that its items need."""
        self._receivers: Receivers | None = None
        self._cleared = False
        """Whether it was emptied, and nothing was added since."""

    # Adding

    def add(
        self,
        item: Any,
        *,
        name: str | None = None,
        replace: bool = False,
        urgent: bool = False,
        timeout: float | None = None,
    ) -> Handle[Any]:
        """Queue one item; it starts now if nothing is in its way.

        Args:
            item: What the worker gets; or a callable, which is called instead of the worker.
            name: To find it by, in `cancel` and `replace`. Several items may have one name.
            replace: Take the place of the first queued item of that name, which ends as this one does; never of one that
                was attempted. If there is none, it is simply added.
            urgent: Ahead of all that are queued, also of earlier urgent ones; never of one that was attempted.
            timeout: Seconds for an attempt of this item; None for the chain's.

        Returns:
            A handle; safe to ignore.

        Raises:
            InvalidOption: There is no worker for this item, it would not run, or an argument makes no sense.
            SnapshotError: The item cannot be copied.
            UnsupportedBackend: The dispatcher's driver cannot run such a function.
            DispatcherClosed: Nothing is accepted any more.
        """
        if name is not None and not isinstance(name, str):
            raise InvalidOption(f"add(name={name!r}): a string is needed")
        if replace and name is None:
            raise InvalidOption("add(replace=True): say by name=... what is to be replaced")
        if timeout is not None:
            timeout = seconds("timeout", timeout)
        (call,) = self._made([item], name, timeout)
        work = self._host.calls
        if replace:
            work.accept_instead(self, call, urgent=urgent)
        else:
            work.accept(self, [call], urgent=urgent)
        return call

    def extend(self, items: Iterable[Any]) -> list[Handle[Any]]:
        """Queue several items, in their order, or none of them: if one cannot be copied, no other was added.

        Returns:
            A handle for each.

        Raises:
            InvalidOption: There is no worker for an item.
            SnapshotError: An item cannot be copied.
            UnsupportedBackend: The dispatcher's driver cannot run such a function.
            DispatcherClosed: Nothing is accepted any more.
        """
        calls = self._made(list(items), None, None)
        if calls:
            self._host.calls.accept(self, calls, urgent=False)
        return list(calls)

    def _made(self, items: list[Any], name: str | None, timeout: float | None) -> list[CallHandle[Any]]:
        functions = [item if callable(item) else self._worker for item in items]
        for item, function in zip(items, functions, strict=True):
            if function is None:
                raise InvalidOption(
                    f"this CallChain has no worker, and the item is a {type(item).__name__}: add callables only, "
                    "or make it with CallChain(worker)"
                )
            if is_generator(function):
                raise InvalidOption(f"calling {function!r} would run nothing of it: a generator function is no worker")
        self._move()
        host = self._host
        if host.closed:
            raise DispatcherClosed  # before anything is claimed for it
        backends = [self._coroutines if is_coroutine(function) else self._plain for function in functions if function]
        ports = [host.port(backend) for backend in backends]
        drivers = dict.fromkeys(port.driver for port in ports)
        for driver in drivers:
            driver.claim()
            driver.help()
        if not drivers.keys() <= set(self._drivers):
            self._drivers = tuple({**dict.fromkeys(self._drivers), **drivers})
        work = host.calls
        delivery = work.delivery()
        return [
            CallHandle(
                host,
                work=work,
                calls=self,
                item=item,
                function=function,
                port=port,
                pace=self._pace,
                name=name,
                timeout=timeout,
                context=contextvars.copy_context(),
                delivery=delivery,
            )
            for item, function, port in zip(items, functions, ports, strict=True)
            if function is not None
        ]

    def _move(self) -> None:
        """Go to the default dispatcher of now, if none was given; not while the one of before has something of ours."""
        if self._dispatcher is None:
            current: Any = default_dispatcher()
            state = self._host.chain_state(self)
            # A pause must not hold us to one that is closed; it goes along.
            left = state is None or (self._host.closed and not state.saves and state.finishing is None)
            if current is not self._host and left:
                paused, self._host = self.paused, current
                self._drivers = ()
                self._pace = Pace(self._pace.options)  # another dispatcher may go by another clock
                if paused:
                    super().pause()

    # Looking

    def __iter__(self) -> Iterator[CallView]:  # type: ignore[override]
        seen: Any = self._host.look(self)
        return iter([CallView(one.id, one.name, state, tries, why) for one, state, tries, why in seen])

    def _unsettled(self) -> list[CallHandle[Any]]:
        calls: list[Any] = self._host.pending(self)
        return calls

    def index(self, item: Any) -> int:
        """Where the first item that equals `item` is in the chain, counted as iteration does, the one in flight included.

        A callable is found by identity. A comparison that raises means different.

        Raises:
            ValueError: There is none.
        """
        for place, one in enumerate(self._unsettled()):
            if _equal(one.item, item):
                return place
        raise ValueError("this item is not in the chain")

    @property
    def in_flight(self) -> Handle[Any] | None:  # type: ignore[override]
        """The item that was started and has not settled, the first of them if it is a batch; or None."""
        return super().in_flight

    @property
    def halted(self) -> Handle[Any] | None:  # type: ignore[override]
        """The failed item that stopped the chain, or None. It is settled; those behind it wait."""
        return super().halted

    # Steering

    @property
    def _lane(self) -> LaneState[ChainState]:
        state: LaneState[ChainState] = self._host.calls.lane_state(self._own_lane)
        return state

    def update(self, **options: Unpack[Options]) -> None:  # type: ignore[override]
        """Change options: from the next attempt on. The one in flight, and a rest under way, stay as they are.

        Args:
            **options: `delay`, `batch`, `manual`, `timeout`, `copy`, `on_failure`, as in the constructor.

        Raises:
            TypeError: There is no such option.
            InvalidOption: A value makes no sense; nothing was changed.
        """
        self._host.calls.update(self, checked(options))

    def pause(self) -> None:
        """Start nothing until `resume()`, also if it is empty now. What is in flight goes on."""
        self._move()
        super().pause()

    def clear(self) -> None:
        """Cancel every item that was never attempted, and lift a halt. What is in flight goes on, and keeps its place.

        After it no `complete` is told, until something is added.
        """
        self._host.calls.clear(self)

    def cancel(self, id: str) -> bool:
        """Take out one item by its id, or all queued items by their name.

        Args:
            id: An id, or else a name.

        Returns:
            Whether any was taken out; False if all that are meant were attempted already.

        Raises:
            KeyError: No unsettled item of this chain has that id or name.
        """
        for one in self._unsettled():
            if one.id == id:
                cancelled: bool | None = self._host.cancel(one)
                break
        else:
            cancelled = self._host.calls.cancel_named(self, id)
        if cancelled is None:
            raise KeyError(f"no unsettled item of this chain has the id or name {id!r}")
        return cancelled

    def retry(self) -> Handle[Any] | None:  # type: ignore[override]
        """Do the item that halted the chain once more, before all others; of a batch, all its items.

        Returns:
            The new handle, of a batch that of its first item; None if the chain is not halted.
        """
        return super().retry()

    def on(self, name: EventName, receiver: Receiver) -> Callable[[], None]:
        """Call `receiver` for events of this chain; returns what disconnects it.

        `complete` is told when the last item has ended and nothing is left: never after `clear()`, never while paused, and
        as often as the chain empties. In a batch, `request`, `retry` and `stale` are told of its first item only.

        Raises:
            InvalidOption: There is no such event.
        """
        if self._receivers is None:
            self._receivers = Receivers()
        return self._receivers.connect(name, receiver)

    def __repr__(self) -> str:
        words = [f"{len(self)} items"]
        words += ["paused"] if self.paused else []
        words += ["halted"] if self.halted is not None else []
        return f"<CallChain: {', '.join(words)}>"


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if callable(one) and not isinstance(one, MethodType):  # a bound method is made anew whenever it is looked up
        return False
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - what cannot be compared is different
        return False
