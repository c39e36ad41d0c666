"""What carries out calls: under the lock nearly nothing, for a call knows no record; outside it the worker."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from ._call import CallHandle, Turn
from ._engine import Engine
from ._lane import Lane, LaneState
from ._ledger import Ledger
from ._machine import Chain, Effect
from ._merge import Merged
from ._states import SaveState
from .exceptions import Abandoned, DispatcherClosed, InDoubt, SnapshotError
from .operation import Answer, Guarantee
from .policies import OnFailure, Outcome, Ruling, Verdict, rule_for
from .protocols import Call

__all__ = ["CallWork"]


class _TimeOver(InDoubt):
    """The call did not end within its time, and was cancelled."""


class CallWork:
    """The :class:`~chained_models._work.Work` of calls, and how they are accepted."""

    tells_idle = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # Accepting

    def accept(self, key: Any, calls: Sequence[CallHandle[Any]], *, urgent: bool) -> None:
        """Take places in line, copy the items, and fill the places.

        Raises:
            SnapshotError: An item cannot be copied; none of them was accepted.
            DispatcherClosed: Nothing is accepted any more.
        """
        with self._engine.deciding as ledger:
            for one in calls:
                ledger.reserve(key, one.port.lane, one, front=urgent)
        try:
            for one in calls:
                prepare(one)
        except BaseException:
            with self._engine.deciding as ledger:
                effects = [effect for one in calls for effect in ledger.withdraw(one)]
            self._engine.run(effects)
            raise
        effects = []
        with self._engine.deciding as ledger:
            refused = ledger.closed  # since the places were taken
            # The first one last: those behind it shall be there when it starts, and may be of its batch.
            for one in reversed(calls):
                effects += ledger.withdraw(one) if refused else self._fill(ledger, one)
        self._engine.run_accepted(() if refused else calls, effects)
        if refused:
            raise DispatcherClosed

    def accept_instead(self, key: Any, call: CallHandle[Any], *, urgent: bool) -> None:
        """As :meth:`accept`, in the place of the first queued call of the same name; if there is none, at the end.

        The item is copied first: taking a place, and then another one's, cannot be told apart from being overtaken.
        """
        prepare(call)
        with self._engine.deciding as ledger:
            older = self._queued(key, call.name)
            ledger.reserve(key, call.port.lane, call, front=urgent and older is None)
            effects = self._fill(ledger, call)
            if older is not None and older.state is SaveState.QUEUED:
                call.fronted = older.fronted
                effects += ledger.supersede(older, call)
        self._engine.run_accepted([call], effects)

    @staticmethod
    def _fill(ledger: Ledger, call: CallHandle[Any]) -> list[Effect]:
        call.calls._cleared = False  # from now on it can empty by itself
        return ledger.fill(call)

    def _queued(self, key: Any, name: str | None) -> CallHandle[Any] | None:
        chain = self._engine.ledger.machine.chains.get(key)
        calls: Any = () if chain is None else chain.saves.values()
        return next((one for one in calls if one.name == name and one.state is SaveState.QUEUED), None)

    def cancel_named(self, key: Any, name: str) -> bool | None:
        """Take out all queued calls of that name; whether there was one, or None if there is none at all of that name."""
        effects: list[Effect] = []
        with self._engine.deciding as ledger:
            chain = ledger.machine.chains.get(key)
            queue: list[Any] = [] if chain is None else list(chain.saves.values())
            calls = [one for one in queue if one.name == name]
            cancelled = [taken for one in calls if (taken := ledger.cancel(one)) is not None]
            effects = [effect for taken in cancelled for effect in taken]
        self._engine.run(effects)
        return bool(cancelled) if calls else None

    def clear(self, key: Any) -> None:
        """Take out all that was never attempted."""
        with self._engine.deciding as ledger:
            key._cleared = True
            chain = ledger.machine.chains.get(key)
            effects = [] if chain is None else ledger.clear(chain)
        self._engine.run(effects)

    def update(self, key: Any, options: Mapping[str, Any]) -> None:
        """Change options of its pace; locked, or one of two changes at the same moment could be lost."""
        with self._engine.deciding:
            key._pace.options = dataclasses.replace(key._pace.options, **options)

    def lane_state(self, lane: Lane) -> LaneState[Chain]:
        """This dispatcher's use of a lane."""
        with self._engine.deciding:
            return self._engine.lane_state(lane)

    def delivery(self) -> Any:
        """Where a call that is added now tells of its end."""
        self._engine.announcer.rescue()
        return self._engine.announcer.delivery()

    # Ends

    def end(self, call: CallHandle[Any], token: int, answer: Answer | None, error: BaseException | None) -> None:
        """Its turn says how the attempt ended."""
        if call.work is self:  # else this is a forked child, and the call is its parent's
            self._engine.end(call, token, answer, error)

    def again(self, call: CallHandle[Any], token: int) -> None:
        """Its turn wants another attempt."""
        if call.work is self:
            self._engine.again(call, token)

    def idle(self, save: CallHandle[Any]) -> None:
        """Say so, unless it was emptied."""
        if not save.calls._cleared:
            self._engine.announcer.emit("complete", save)

    def quiet(self, save: CallHandle[Any]) -> None:
        """Keep no timer for attempts that are over: it may be long before the next one, if there ever is one."""
        if save.port.lane.look_at < math.inf:
            self._engine.look_no_more(save.port.lane)

    # Under the lock

    def judge(
        self,
        save: CallHandle[Any],
        error: BaseException,
        guarantee: Guarantee,
        *,
        spent: float,
        attempts: int,
        random: float,
    ) -> Verdict:
        """It is over, whatever was raised: the worker is the only one who knows what another attempt would do."""
        # Only who gives up a call says that all time is used up.
        given_up = math.isinf(spent) or isinstance(error, _TimeOver)
        outcome = Outcome.ABANDONED if given_up else Outcome.FAILED
        halt = rule_for(error, save.on_failure) is OnFailure.HALT
        return Verdict(Ruling.SETTLE, outcome, halt=halt, in_doubt=given_up)

    def saved(self, save: CallHandle[Any], answer: Answer) -> list[Effect]:
        """All of a batch get the same value."""
        for one in (save, *save.riders):
            one.returned = answer.values
        return []

    def landed(self, save: CallHandle[Any], answer: Answer) -> None:
        """Never."""

    def failed(self, save: CallHandle[Any], error: BaseException, verdict: Verdict) -> list[Effect]:
        """So have all of a batch."""
        for one in (save, *save.riders):
            one.error = error if verdict.outcome is Outcome.FAILED else _abandoned(one, error)
        return []

    def ended_late(self, save: CallHandle[Any], answer: Answer) -> list[Effect]:
        """Nobody is told but receivers of `stale`."""
        return []

    def line(self, save: CallHandle[Any], chain: Chain) -> Any:
        """The chain that it halted."""
        return chain.key

    def id_of(self, seq: int) -> str:
        """The id of the call of that number."""
        return self._engine.ledger.id_of(seq)

    def accepted(self, save: CallHandle[Any]) -> None:
        """Nothing is counted."""

    def settled(self, save: CallHandle[Any]) -> None:
        """Nothing is counted."""

    # Outside the lock

    def guarantee(self, save: CallHandle[Any]) -> Guarantee:
        """None."""
        return Guarantee.PLAIN

    def attempt(
        self, save: CallHandle[Any], announce: Callable[[Any], None] | None
    ) -> Generator[Call, Any, Answer | None]:
        """Call the worker, or the item itself."""
        token, manual, together = save.token, save.manual, (save, *save.riders)
        if announce is not None:
            announce(save)
        arguments: list[Any] = [] if save.alone else [[one.item for one in together] if save.listed else save.item]
        if manual:
            arguments.append(Turn(save, token))
        if not is_coroutine(save.function):
            returned = yield partial(save.function, *arguments), None
            if inspect.iscoroutine(returned):
                returned.close()
                raise TypeError(f"{save} returned a coroutine: give the chain an `async def`, not what calls one")
            return None if manual else Answer(returned)
        own: list[BaseException] = []
        # A turn may be settled long before its worker ends, which is then left in peace.
        seconds = None if manual or math.isinf(save.timeout) else save.timeout
        try:
            returned = yield partial(_awaited, save.function, arguments, own), seconds
        except TimeoutError as error:
            if error in own:
                raise
            raise _TimeOver(f"it did not end within {seconds:g} s, and was cancelled") from None
        return None if manual else Answer(returned)

    def lands(self, save: CallHandle[Any], token: int, answer: Answer) -> bool:
        """Never: there is a chain to be looked after."""
        return False

    def merge(self, save: CallHandle[Any], outcome: Outcome) -> Merged:
        """Nothing knows of it."""
        return Merged()

    def catch_up(self, save: CallHandle[Any]) -> None:
        """Nothing is left for anybody."""

    def latch(self, save: CallHandle[Any]) -> AbstractContextManager[Any]:
        """Nothing is to be kept apart."""
        return contextlib.nullcontext()

    def successor(self, save: CallHandle[Any]) -> CallHandle[Any]:
        """A new call of the same item; of a batch, one for each."""
        save.calls._cleared = False  # as if it were added
        made = _like(save)
        made.riders = [_like(one) for one in save.riders]
        for one, again in zip(save.riders, made.riders, strict=True):
            one.retried_by = again
        return made


def is_coroutine(function: Callable[..., Any]) -> bool:
    """Whether calling it gives something to be awaited."""
    return any(map(inspect.iscoroutinefunction, _code_of(function)))


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether calling it runs nothing of it yet."""
    return any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in _code_of(function))


def _code_of(function: Any) -> tuple[Any, Any]:
    """What may be a coroutine function: the function itself, or, of an object that can be called like one, its method."""
    while isinstance(function, partial):
        function = function.func
    return function, getattr(type(function), "__call__", None)  # noqa: B004


def prepare(call: CallHandle[Any]) -> None:
    """Copy the item, if it is to be copied.

    Raises:
        SnapshotError: It cannot be copied.
    """
    if call.alone or call.pace is None or not call.pace.options.copy:
        return
    try:
        call.item = copy.deepcopy(call.item)
    except Exception as error:
        raise SnapshotError(
            f"this {type(call.item).__name__} cannot be copied ({type(error).__name__}), so it was not added; give the "
            "CallChain copy=False, and leave items alone once they are added"
        ) from error


async def _awaited(function: Callable[..., Any], arguments: list[Any], own: list[BaseException]) -> Any:
    """Call it, and note which error is its own: the driver cuts it short by one of the same class."""
    import asyncio

    try:
        return await function(*arguments)
    except TimeoutError as error:
        own.append(error)
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Of something that it waited for. As it is, it would tell whoever waits for the handle that *he* is cancelled.
        raise RuntimeError("the worker waited for something that was cancelled") from error


def _like(call: CallHandle[Any]) -> CallHandle[Any]:
    return CallHandle(
        call._host,
        work=call.work,
        calls=call.calls,
        item=call.item,
        function=call.function,
        port=call.port,
        pace=call.pace,
        name=call.name,
        timeout=call.given_timeout,
        context=call.context.copy(),
        delivery=call.delivery,
    )


def _abandoned(call: CallHandle[Any], cause: BaseException) -> Abandoned:
    error = Abandoned(f"{call} was abandoned: nobody waits any longer for its end ({type(cause).__name__})")
    error.__cause__ = cause
    return error
