"""What is saved: the same models for all sections, and backends that do nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from chained_models import ChainedSaveMixin, Dispatcher, Guarantee, Lane, Operation

__all__ = [
    "VALUES",
    "AsyncNothing",
    "Basket",
    "Flat",
    "Line",
    "Nothing",
    "Record",
    "dispatching",
    "dispatching_here",
    "flats",
]

VALUES: dict[str, Any] = {
    "id": 7,
    "name": "Ada Lovelace",
    "email": "ada@example.org",
    "street": "12 St James's Square",
    "city": "London",
    "country": "GB",
    "count": 3,
    "price": 12.5,
    "active": True,
    "note": "leave at the door",
}
"""The payload: every peer is handed a copy of it, made before the clock runs."""


class Flat(ChainedSaveMixin, BaseModel):
    """Ten fields, nothing nested."""

    id: int | None = None
    name: str = ""
    email: str = ""
    street: str = ""
    city: str = ""
    country: str = ""
    count: int = 0
    price: float = 0.0
    active: bool = True
    note: str = ""


@dataclass
class Record(ChainedSaveMixin):
    """The same, as a dataclass."""

    id: int | None = None
    name: str = ""
    email: str = ""
    street: str = ""
    city: str = ""
    country: str = ""
    count: int = 0
    price: float = 0.0
    active: bool = True
    note: str = ""


class Line(BaseModel):
    """One line of a basket."""

    sku: str
    title: str
    count: int
    price: float
    gift: bool


class Basket(ChainedSaveMixin, BaseModel):
    """Twenty lines of five fields."""

    id: int | None = None
    lines: list[Line] = []


class Nothing:
    """A backend that does nothing, as fast as it can."""

    guarantee = Guarantee.PLAIN

    def __init__(self, max_in_flight: int = 8) -> None:
        self.lane = Lane(max_in_flight)

    def execute(self, operation: Operation) -> None:
        """Nothing."""


class AsyncNothing:
    """The same as a coroutine."""

    guarantee = Guarantee.PLAIN

    def __init__(self, max_in_flight: int = 8) -> None:
        self.lane = Lane(max_in_flight)

    async def execute(self, operation: Operation) -> None:
        """Nothing."""


@contextmanager
def dispatching(driver: str, *kinds: Any, backend: Any = None) -> Iterator[Dispatcher]:
    """Bind these classes to a backend that does nothing (or the one that is given), carried out by that driver."""
    with Dispatcher(driver) as dispatcher:
        _bind(kinds, Nothing() if backend is None else backend, dispatcher)
        yield dispatcher


@asynccontextmanager
async def dispatching_here(*kinds: Any, backend: Any = None) -> AsyncIterator[Dispatcher]:
    """The same for coroutines, in the loop that runs."""
    async with Dispatcher("asyncio") as dispatcher:
        _bind(kinds, AsyncNothing() if backend is None else backend, dispatcher)
        yield dispatcher


def _bind(kinds: Iterable[Any], backend: Any, dispatcher: Dispatcher) -> None:
    for kind in kinds:
        kind.bind(backend, resource="things", dispatcher=dispatcher)


def flats(number: int) -> list[Flat]:
    """So many models, of so many identities."""
    return [Flat(**{**VALUES, "id": identity}) for identity in range(1, number + 1)]
