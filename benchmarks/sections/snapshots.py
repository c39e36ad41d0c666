"""The copy that `save()` takes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import BaseModel

from chained_models import ChainedSaveMixin
from chained_models.adapters import adapter_for
from findings import Claim, Findings, compared
from measure import Bench, WrongResult, stopwatch
from models import VALUES, Basket, Flat, Line, Record
from rows import COLUMNS, Saved

DEEPCOPY, OURS = "copy.deepcopy", "snapshot"

TITLE = "Snapshots"
TEXT = """\
What `save()` copies of a model, against `copy.deepcopy` of the same plain values: dicts and lists already, as the snapshot gives them,
which is less work than a deep copy of the model itself. Both results are compared with the model's values before the clock runs."""


class Money:
    """A value that is an object of its own."""

    def __init__(self, cents: int) -> None:
        self.cents = cents
        self.currency = "GBP"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class Objects(ChainedSaveMixin, BaseModel):
    """Twenty objects of a class that no library knows."""

    id: int | None = None
    prices: list[Any] = []


def models() -> dict[str, tuple[Any, float]]:
    """What is copied, and how many times as fast as a deep copy it shall be."""
    lines = [Line(sku=f"s{n}", title=f"thing {n}", count=n, price=n / 4, gift=not n % 3) for n in range(20)]
    row = Saved(**dict(zip(COLUMNS, VALUES.values(), strict=True)))
    return {
        "a flat pydantic model, 10 fields": (Flat(**VALUES), 8.0),
        "a pydantic basket, 20 lines × 5 fields": (Basket(id=7, lines=lines), 8.0),
        "a flat dataclass, 10 fields": (Record(**VALUES), 4.0),
        "an SQLAlchemy row, 10 columns": (row, 4.0),
        "a pydantic model with 20 objects": (Objects(id=7, prices=[Money(n) for n in range(20)]), 1.0),
    }


CLAIMS = [
    Claim(name, f"snapshot of {name}, times as fast", "`copy.deepcopy`", ">=", limit)
    for name, (_, limit) in models().items()
]


def run(bench: Bench) -> Findings:
    """Each kind of model by itself."""
    found = Findings()
    times = bench.of(20_000, 200)
    for name, (model, _) in models().items():
        snapshot = adapter_for(type(model)).snapshot
        values = copy.deepcopy(dict(snapshot(model)))
        if dict(snapshot(model)) != values:
            raise WrongResult(f"the snapshot of {name} is not what its deep copy is")
        measured = bench.interleaved(
            name, {DEEPCOPY: partial(timed, copy.deepcopy, values, times), OURS: partial(timed, snapshot, model, times)}
        )
        found.measured[name] = measured.ratio(DEEPCOPY, OURS)
        found.tables.append(compared(name[0].upper() + name[1:], measured, DEEPCOPY, "µs", 1e6, faster=True))
    return found


def timed(function: Callable[[Any], object], given: Any, times: int) -> float:
    with stopwatch() as watch:
        for _ in range(times):
            function(given)
    return watch.seconds / times
