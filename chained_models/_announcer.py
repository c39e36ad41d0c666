"""Telling receivers what happened, in the thread where they want to hear it."""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from . import _observing, events
from ._delivery import Deliveries, Delivery
from ._merge import Merged
from ._weakmap import WeakIdMap
from .events import EventName, Receiver, SaveEvent
from .handle import Handle

__all__ = ["Announcer"]

logger = logging.getLogger("chained_models")

_OF_LANES = frozenset({"long_running", "congested", "recovered"})
_METHODS = {"sync": "on_sync", "error": "on_error", "abandoned": "on_error"}


class _Here(threading.local):
    receiving = 0


class Announcer:
    """The receivers' side of a dispatcher.

    Args:
        post: The user's delivery target, or None. Until it has come once, the thread that made the dispatcher is taken
            for the target's.
    """

    def __init__(self, post: Callable[[Callable[[], None]], object] | None) -> None:
        self.deliveries = Deliveries()
        self._target = None if post is None else Delivery(post, threading.get_ident(), among=self.deliveries)
        self._loops: WeakIdMap[Any, Delivery] = WeakIdMap()
        self._here = _Here()
        self.leaving = False
        """The interpreter ends: targets come no more."""

    @property
    def receiving(self) -> bool:
        """Whether this thread is inside a receiver, a merge or a callback."""
        return self._here.receiving > 0

    def __enter__(self) -> None:
        self._here.receiving += 1

    def __exit__(self, *_: object) -> None:
        self._here.receiving -= 1

    def delivery(self) -> Delivery | None:
        """Where a save that is asked for now is to be delivered: the target, else the loop running in this thread."""
        return self.of_loop() if self._target is None else self._target

    def of_loop(self) -> Delivery | None:
        """The delivery of the loop running in this thread, if one is; also where there is a target."""
        asyncio = sys.modules.get("asyncio")
        if asyncio is None or (loop := asyncio._get_running_loop()) is None:
            return None
        delivery = self._loops.get(loop)
        if delivery is None:
            delivery = self._loops.setdefault(loop, _to_loop(loop, self.deliveries))
        delivery.thread = threading.get_ident()  # it may have gone on in another one
        return delivery

    def rescue(self) -> None:
        """Make the calls of targets that will never come; not inside another one, whoever makes that goes on with them."""
        if not self.receiving:
            self.deliveries.rescue(leaving=self.leaving)

    def here(self, save: Handle[Any]) -> bool:
        """Whether what concerns this save is to be done in this thread."""
        delivery: Delivery | None = save.delivery
        return delivery is None or self.leaving or delivery.thread == threading.get_ident()

    def tell(self, name: EventName, save: Handle[Any], **about: Any) -> None:
        """Announce something that nothing waits for, where it wants to be heard."""
        receivers = self._receivers(name, save)
        if not (receivers or _observing.observers):
            return
        if self.here(save) or not receivers:
            self.emit(name, save, **about)
        else:
            self.deliver(save, lambda: void(self.emit(name, save, **about)))

    @staticmethod
    def deliver(save: Handle[Any], call: Callable[[], None]) -> None:
        """Have `call` made by the target of `save`. If that is gone it is made here; what interrupts it is kept for later."""
        try:
            save.delivery.put(call)
        except BaseException as interrupt:  # noqa: BLE001 - raised again when all that was decided has been carried out
            save.interrupt = interrupt

    def emit(
        self,
        name: EventName,
        save: Handle[Any],
        *,
        error: BaseException | None = None,
        delay: float | None = None,
        merged: Merged | None = None,
    ) -> bool:
        """Call the receivers of an event, here and now; whether there were any."""
        receivers = self._receivers(name, save)
        if not (receivers or _observing.observers):
            return False
        taken, kept = ((), ()) if merged is None else (merged.taken, merged.kept)
        lane = save.port.lane.lane if name in _OF_LANES else None
        event = SaveEvent(name, save, save.attempts, error, delay, taken, kept, lane)
        if _observing.observers:
            _observing.told(event)
        if not receivers:
            return False
        with self:
            save.interrupt = events.notify(receivers, event) or save.interrupt
        return True

    def listened_to(self, save: Handle[Any]) -> bool:
        """Whether somebody may be called when this save has ended, or in another thread."""
        if save.delivery is not None and not self.here(save):
            return True
        return self.hears(save) or save.calls_back

    @staticmethod
    def hears(save: Handle[Any]) -> bool:
        """Whether there may be receivers of any event of this save, or observers; False is certain."""
        return events.everywhere.any or save.heard

    def _receivers(self, name: EventName, save: Handle[Any]) -> list[Receiver]:
        if name != "congested" and not self.hears(save):
            return []
        subject = save.subject
        receivers = list(events.everywhere.of(name, subject))
        if name == "congested" and (on_congested := save.port.lane.lane.on_congested) is not None:
            receivers.insert(0, on_congested)
        if save.receivers is not None:
            receivers += save.receivers.of(name, subject)
        method = _METHODS.get(name)
        # Asked of the class first: what a `__getattr__` of the model's raises must not end the chain.
        own = None if method is None or not hasattr(type(subject), method) else getattr(subject, method)
        return [*receivers, own] if callable(own) else receivers


def void(_: object) -> None:
    """Nothing, whatever is given: for a call that may return nothing."""


def running_loop() -> Any:
    """The event loop running in this thread, or None. Does not import asyncio: without it, no loop runs."""
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()


def _to_loop(loop: Any, among: Deliveries) -> Delivery:
    # Weakly, or the value would keep its own key.
    reference = weakref.ref(loop)

    def post(call: Callable[[], None]) -> None:
        target = reference()
        if target is None:
            raise RuntimeError("the event loop is gone")
        target.call_soon_threadsafe(call)

    def closed() -> bool:
        target = reference()
        return target is None or target.is_closed()

    def away() -> bool:
        target = reference()
        return target is not None and target.is_running() and target is not running_loop()

    return Delivery(post, threading.get_ident(), closed, away, among=among)
