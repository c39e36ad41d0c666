"""Models for claims: ours, and the ported Backbone.js models, with the same verbs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pydantic

from chained_models import ChainedSaveMixin, Dispatcher, Rejected

from .by_hand import HandDriver, Wire
from .ports import BackboneChainedModel, BackboneModel, RollingBackModel, WholeCopyModel

LONGEST = 12
"""Letters that a title may have, here; the server knows no such rule."""


class Ticket:
    """What became of one call.

    Attributes:
        returned: What the verb gave back.
        outcome: How it ended, as far as the program is told; None while it has not.
    """

    def __init__(self) -> None:
        self.returned: Any = None
        self.outcome: str | None = None


class OurModels:
    """Pydantic models with the mixin, and a wire."""

    def __init__(self) -> None:
        self.wire = Wire()
        self._driver = HandDriver()

        class Page(ChainedSaveMixin, pydantic.BaseModel):
            id: int | None = None
            title: str = pydantic.Field("a", max_length=LONGEST)
            tags: list[str] = []
            _helper: Any = None

        self._dispatcher = Dispatcher(self._driver)
        Page.bind(self.wire, dispatcher=self._dispatcher)
        self._kind = Page

    def new(self, **attributes: Any) -> Any:
        """A model that nobody has saved."""
        return self._kind(**attributes)

    def stored(self, **attributes: Any) -> Any:
        """A model that the server has as it is."""
        page = self._kind(id=7, **attributes)
        page.chain.mark_saved()
        return page

    def edit(self, page: Any, **attributes: Any) -> None:
        for name, value in attributes.items():
            setattr(page, name, value)

    def value(self, page: Any, name: str) -> Any:
        return getattr(page, name)

    def equip(self, page: Any, helper: Any) -> None:
        """Hang something on the model that is none of its attributes."""
        page._helper = helper

    def save(
        self, page: Any, attributes: dict[str, Any] | None = None, *, then: Callable[..., object] | None = None
    ) -> Ticket:
        """Save it, and call `then` when that has ended. Raises ValueError if it is refused at the call."""
        return self._ticket(page.save(attributes), then)

    def refresh(self, page: Any) -> Ticket:
        return self._ticket(page.refresh())

    def go_back(self, page: Any) -> None:
        """Give up what was refused."""
        page.chain.revert()

    def delete(self, page: Any) -> Ticket:
        return self._ticket(page.delete())

    def on(self, page: Any, event: str, receiver: Callable[..., object]) -> None:
        page.chain.on(event, receiver)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._driver.advance(seconds)

    def close(self) -> None:
        """Give up what is left."""
        self._dispatcher.close(0)

    @staticmethod
    def _ticket(handle: Any, then: Callable[..., object] | None = None) -> Ticket:
        ticket = Ticket()
        ticket.returned = handle
        handle.add_done_callback(lambda ended: setattr(ticket, "outcome", ended.outcome.name))
        if then is not None:
            handle.add_done_callback(then)
        return ticket


class BackboneModels:
    """The ported models, and a wire."""

    kind: type[BackboneModel] = BackboneChainedModel

    def __init__(self) -> None:
        self.wire = Wire()

        class Page(self.kind):  # type: ignore[misc, name-defined]
            chain: Any = []  # as little shared with other tests as in the browser with other pages

            def validate(self, attributes: dict[str, Any]) -> str | None:
                return "too long" if len(attributes["title"]) > LONGEST else None

        self._kind = Page

    def new(self, **attributes: Any) -> Any:
        return self._kind(self.wire.send, **{"title": "a", "tags": [], **attributes})

    def stored(self, **attributes: Any) -> Any:
        return self.new(id=7, **attributes)

    def edit(self, page: Any, **attributes: Any) -> None:
        page.set(attributes)

    def value(self, page: Any, name: str) -> Any:
        return page.attributes.get(name)

    def equip(self, page: Any, helper: Any) -> None:
        page.helper = helper

    def save(
        self, page: Any, attributes: dict[str, Any] | None = None, *, then: Callable[..., object] | None = None
    ) -> Ticket:
        ticket = Ticket()

        def ended(outcome: str) -> Callable[..., None]:
            def tell(*_: Any) -> None:
                ticket.outcome = outcome
                if then is not None:
                    then()

            return tell

        callbacks: dict[str, Any] = {"success": ended("SAVED"), "error": ended("FAILED")}
        if isinstance(page, RollingBackModel):
            del callbacks["error"]
        ticket.returned = page.save(attributes, **callbacks)
        return ticket

    def refresh(self, page: Any) -> Ticket:
        ticket = Ticket()
        ticket.returned = page.fetch()
        return ticket

    def go_back(self, page: Any) -> None:
        """The handler of errors has done so."""

    def delete(self, page: Any) -> Ticket:
        ticket = Ticket()
        ticket.returned = page.destroy(success=lambda *_: setattr(ticket, "outcome", "SAVED"))
        return ticket

    def on(self, page: Any, event: str, receiver: Callable[..., object]) -> None:
        page.on(event, receiver)

    def advance(self, seconds: float) -> None:
        """There is no clock in it."""

    def close(self) -> None:
        """Nothing is left behind."""


class UnchainedModels(BackboneModels):
    """Backbone.js itself."""

    kind = BackboneModel


class WholeCopyModels(BackboneModels):
    """With copies of whole models in the chain."""

    kind = WholeCopyModel


class RollingBackModels(BackboneModels):
    """With a handler of errors that puts back what was there."""

    kind = RollingBackModel


REFUSED = Rejected("refused")


def boom(*_: Any) -> None:
    """A callback that raises."""
    raise RuntimeError("a bug in the program")


def new_lock() -> Any:
    """Something that cannot be copied."""
    return threading.Lock()
