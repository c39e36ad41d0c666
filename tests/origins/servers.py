"""Requests to one server for claims: ours, and the ported RequestController."""

from __future__ import annotations

import dataclasses
from typing import Any

from chained_models import ChainedSaveMixin, Dispatcher, Lane, RetryPolicy, SaveEvent, on

from .by_hand import HandDriver, Wire
from .models import REFUSED
from .ports import PendingRequest, RequestController


class ControlledRequests:
    """The ported RequestController, and a server.

    Attributes:
        signals: What the program was told, in order: "congested", "recovered".
    """

    def __init__(
        self, *, long_after: float = 3.0, max_long: int = 2, page: type[RequestController] | None = None
    ) -> None:
        class Controller(RequestController):
            requests: list[PendingRequest] = []  # of one page in the browser, so of one test

        self.signals: list[str] = []
        self.wire = Wire()
        self._page = Controller if page is None else page
        self._controller = self._page(
            self.wire.send, long_after=long_after, max_long=max_long, warn=self.signals.append
        )

    def elsewhere(self) -> ControlledRequests:
        """Requests of the same program to another server."""
        return ControlledRequests(page=self._page)

    def request(self, *names: str) -> None:
        for name in names:
            self._controller.ajax(name)

    @property
    def sent(self) -> list[str]:
        """Names of what was sent, in order."""
        return [flight.values["name"] for flight in self.wire.sent]

    @property
    def in_flight(self) -> list[str]:
        """Names of what was sent and is not yet answered."""
        return [flight.values["name"] for flight in self.wire.flying]

    def answer(self, *names: str) -> None:
        for name in names:
            self.wire.answer(self._flight(name))

    def fail(self, *names: str) -> None:
        for name in names:
            self.wire.refuse(REFUSED, self._flight(name))

    def answer_all(self) -> None:
        """Answer whatever is sent, until nothing more is."""
        self.wire.answer_all()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._controller.tick(seconds)

    def close(self) -> None:
        """Nothing is left behind."""

    def _flight(self, name: str) -> Any:
        return next(flight for flight in self.wire.flying if flight.values["name"] == name)


class OurRequests:
    """Models that are saved to one backend, whose lane knows the rule of long requests.

    Attributes:
        signals: As of `ControlledRequests`.
        warned: What `on_congested` was called with.
        answered: Names of those that have succeeded.
    """

    def __init__(self, *, long_after: float = 3.0, max_long: int = 2, dispatcher: Dispatcher | None = None) -> None:
        self.signals: list[str] = []
        self.warned: list[SaveEvent] = []
        self.answered: list[str] = []
        self.wire = Wire(lane=Lane(long_after=long_after, max_long=max_long, on_congested=self.warned.append))
        self._dispatcher = Dispatcher(HandDriver()) if dispatcher is None else dispatcher

        @dataclasses.dataclass
        class Request(ChainedSaveMixin):
            name: str
            id: int | None = None

        Request.bind(self.wire, dispatcher=self._dispatcher, retry=RetryPolicy(timeout=1000))
        self._kind = Request
        self._disconnect = [
            on(name, lambda event: self.signals.append(event.name), model=Request)
            for name in ("congested", "recovered")
        ]
        self._disconnect.append(on("sync", lambda event: self.answered.append(event.model.name), model=Request))

    def elsewhere(self) -> OurRequests:
        """Requests of the same program to another server."""
        return OurRequests(dispatcher=self._dispatcher)

    def request(self, *names: str) -> None:
        for name in names:
            self._kind(name).save().add_done_callback(lambda handle: None)

    def refuse(self, error: Exception, name: str) -> None:
        self.wire.refuse(error, self._flight(name))

    def answer_all(self) -> None:
        """Answer whatever is sent, until nothing more is."""
        self.wire.answer_all()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        driver: Any = next(iter(self._dispatcher._drivers))
        driver.advance(seconds)

    def close(self) -> None:
        """Give up what is left."""
        for disconnect in self._disconnect:
            disconnect()
        self._dispatcher.close(0)

    sent = ControlledRequests.sent
    in_flight = ControlledRequests.in_flight
    answer = ControlledRequests.answer
    fail = ControlledRequests.fail
    _flight = ControlledRequests._flight
