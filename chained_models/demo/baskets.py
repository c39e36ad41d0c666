"""The models that are saved, and the edits that are made to them: the same ones in every run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import JSON
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ..mixin import ChainedSaveMixin

__all__ = ["Basket", "BasketRow", "Script"]

_GOODS = ("apples", "bread", "cheese", "dates", "eggs", "figs", "grapes", "honey", "ice", "jam")

T = TypeVar("T")


@dataclass
class Basket(ChainedSaveMixin):
    """What is saved over REST."""

    name: str
    id: int | None = None
    step: int = 0
    items: list[str] = field(default_factory=list)


class Base(DeclarativeBase):
    """The tables of the demo."""


class BasketRow(ChainedSaveMixin, Base):
    """What is saved into a database."""

    __tablename__ = "baskets"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    step: Mapped[int]
    items: Mapped[list[str]] = mapped_column(JSON)


@dataclass(frozen=True, slots=True)
class Script:
    """Which baskets are filled, and how."""

    baskets: int
    saves: int
    pause: float = 0.01
    """Seconds between two edits of one basket: somebody works fast, and writes are slower."""

    @property
    def writes(self) -> int:
        """How many saves there are in all."""
        return self.baskets * self.saves

    @property
    def names(self) -> list[str]:
        return [f"basket {number}" for number in range(1, self.baskets + 1)]

    @property
    def items(self) -> list[str]:
        """What every basket holds at the end."""
        return [self._item(step) for step in range(1, self.saves + 1)]

    @property
    def expected(self) -> dict[str, Sequence[str]]:
        """What the store should hold at the end."""
        return dict.fromkeys(self.names, self.items)

    def edits(self, make: Callable[[str], T]) -> Iterator[T]:
        """Yield each basket after each of its edits, all baskets taking turns."""
        baskets: list[Any] = [make(name) for name in self.names]
        for step in range(1, self.saves + 1):
            for basket in baskets:
                basket.step = step
                basket.items = [*basket.items, self._item(step)]
                yield basket
            time.sleep(self.pause)

    @staticmethod
    def _item(step: int) -> str:
        rounds, place = divmod(step - 1, len(_GOODS))
        return _GOODS[place] if rounds == 0 else f"more {_GOODS[place]} ({rounds})"
