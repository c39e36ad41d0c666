"""What happens to saves, told to whoever listens: one frozen record for each event.

Receivers are called in the order in which they were connected, outside every lock. One that raises is logged and changes
nothing: neither the chain nor the other receivers. They are held strongly, for a connected lambda should not vanish.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from .exceptions import InvalidOption

if TYPE_CHECKING:
    from ._lane import Lane
    from .handle import Handle

__all__ = ["EventName", "Receiver", "Receivers", "SaveEvent", "on"]

logger = logging.getLogger("chained_models")

EventName: TypeAlias = Literal[
    "request",  # an attempt starts
    "sync",  # the backend has it, and the answer is merged
    "error",  # it surely was not applied
    "retry",  # an attempt failed, another one will follow
    "superseded",  # another save took its place
    "cancelled",  # taken out before its first attempt
    "abandoned",  # nobody knows whether it was applied
    "stale",  # an attempt has ended that no longer counts
    "idle",  # the chain has nothing more to do
    "long_running",  # an attempt has been pending for long
    "congested",  # so many have that new attempts of the lane start one at a time
    "recovered",  # none in flight has any more; they start side by side again
    "stuck",  # the save has waited for too long for something that does not come by itself; see its why_waiting
    "complete",  # a CallChain has emptied by itself
]
EVENT_NAMES: tuple[str, ...] = get_args(EventName)


@dataclass(frozen=True, slots=True)
class SaveEvent:
    """One thing that happened to one save.

    Attributes:
        name: Which of the events.
        save: The save, or call, it happened to; for `idle` and `complete`, the last one of the chain; for `congested` and
            `recovered`, the one whose attempt became long, or ended, last.
        attempt: Attempts made so far.
        error: For `error`, `abandoned`, `retry`, `stale`: how the attempt or the save failed.
        delay: For `retry`: seconds until the next attempt; None if it waits for other credentials, or for the lane to be
            resumed.
        taken: For `sync`: names of the attributes that were set from the answer.
        kept: For `sync`: names that the answer would have set, but that were changed meanwhile or refused it.
        lane: For `long_running`, `congested`, `recovered`: the lane.
    """

    name: EventName
    save: Handle[Any]
    attempt: int = 0
    error: BaseException | None = None
    delay: float | None = None
    taken: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    lane: Lane | None = None

    @property
    def model(self) -> Any:
        """The object that was saved; of a call, its CallChain."""
        return self.save.subject


Receiver: TypeAlias = Callable[[SaveEvent], object]


class Receivers:
    """An ordered list of receivers per event name."""

    __slots__ = ("_by_name", "_watched", "any")

    def __init__(self) -> None:
        self._by_name: dict[str, tuple[tuple[type, Receiver], ...]] = {}
        self._watched = False
        self.any = False
        """Whether there is one, or somebody watches. Kept, for it is asked several times for every save, and mostly there is none."""

    def connect(self, name: EventName, receiver: Receiver, model: type = object) -> Callable[[], None]:
        """Call `receiver` for events of that name; returns what disconnects it.

        Raises:
            InvalidOption: There is no such event.
        """
        if name not in EVENT_NAMES:
            raise InvalidOption(f"there is no event {name!r}; the events are {', '.join(EVENT_NAMES)}")
        entry = (model, receiver)
        # A new tuple, never changed in place: a running notification keeps the list it started with.
        self._by_name[name] = (*self._by_name.get(name, ()), entry)
        self.any = True

        def disconnect() -> None:
            self._by_name[name] = tuple(kept for kept in self._by_name[name] if kept is not entry)
            self._look()

        return disconnect

    def watch(self, *, watched: bool) -> None:
        """Whether somebody is told of all events who is no receiver: an observer."""
        self._watched = watched
        self._look()

    def _look(self) -> None:
        self.any = self._watched or any(self._by_name.values())

    def of(self, name: EventName, model: object) -> Iterable[Receiver]:
        """Receivers of that event for this object."""
        return [receiver for wanted, receiver in self._by_name.get(name, ()) if isinstance(model, wanted)]


everywhere = Receivers()
"""Receivers connected by :func:`on`, for every dispatcher of the process."""


def on(name: EventName, receiver: Receiver, *, model: type | None = None) -> Callable[[], None]:
    """Call `receiver` with a :class:`SaveEvent` whenever the event `name` happens.

    Args:
        name: One of request, sync, error, retry, superseded, cancelled, abandoned, stale, idle,
            long_running, congested, recovered, stuck, complete.
        receiver: Takes the event; what it returns is ignored, what it raises is logged.
        model: Only for objects of this class; None for all.

    Returns:
        A function that disconnects the receiver.

    Raises:
        InvalidOption: There is no such event.
    """
    return everywhere.connect(name, receiver, object if model is None else model)


def notify(receivers: Iterable[Receiver], event: SaveEvent) -> BaseException | None:
    """Call all receivers; returns an interrupt (KeyboardInterrupt, SystemExit) that one of them raised."""
    interrupt: BaseException | None = None
    for receiver in receivers:
        try:
            receiver(event)
        except Exception:
            logger.exception("a receiver of %r raised; the chain goes on", event.name)
        except BaseException as raised:  # noqa: BLE001 - returned, and raised when all have been called
            interrupt = interrupt or raised
    return interrupt
