"""Requests to one server for claims: the ported RequestController."""

from __future__ import annotations

from typing import Any

from .by_hand import Wire
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
