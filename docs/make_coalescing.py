"""Writes the table of coalescing in choosing-a-policy.md from what really happens, so that it cannot drift.

Each cell is tried: an older save that waits, or was attempted, and a newer one right behind it.

python docs/make_coalescing.py
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chained_models import (
    ChainedModelsError,
    ChainedSaveMixin,
    Coalesce,
    Dispatcher,
    Method,
    Operation,
    Outcome,
    RetryPolicy,
    SaveHandle,
    SaveState,
    Unavailable,
)
from chained_models.backends.memory import MemoryBackend

PAGE = Path(__file__).parent / "choosing-a-policy.md"


@dataclass
class Page(ChainedSaveMixin):
    """What is saved."""

    id: int | None = None
    title: str = ""
    text: str = ""


Handle = SaveHandle[Page]
Verb = Callable[[Page, str], Handle]

NEWER: dict[str, Verb] = {
    "save": lambda page, name: page.save({name: "new"}),
    "patch": lambda page, name: page.save({name: "new"}, patch=True),
    "delete": lambda page, _: page.delete(),
    "refresh": lambda page, _: page.refresh(),
}
OLDER: dict[str, Verb] = {"create": NEWER["save"], **NEWER}
"""A create is the save of what is not stored yet; all others are of what is."""


class World:
    """One page, and a backend that writes down what it is asked, and calls `during` in each attempt."""

    def __init__(self, coalesce: Coalesce, *, stored: bool) -> None:
        self.operations: list[Operation] = []
        self.failures: list[Unavailable] = []
        self.during: Callable[[], None] = lambda: None
        backend = MemoryBackend(latency=self._asked, fault=lambda _: self.failures.pop() if self.failures else None)
        # Without threads: what is called within an attempt is called while it is in flight.
        self.dispatcher = Dispatcher("inline")
        Page.bind(
            backend, coalesce=coalesce, dispatcher=self.dispatcher, retry=RetryPolicy(wait_initial=0.0, timeout=1.0)
        )
        self.page = Page()
        if stored:
            self.page.save()
        self.operations.clear()

    def _asked(self, operation: Operation) -> None:
        if not any(known.id == operation.id for known in self.operations):
            self.operations.append(operation)
        during, self.during = self.during, lambda: None
        during()


def cell(coalesce: Coalesce, older: Verb, newer: Verb, *, stored: bool, state: SaveState) -> str:
    """What becomes of the two, when `newer` is called while `older` is in that state."""
    world = World(coalesce, stored=stored)
    page, chain = world.page, world.page.chain
    found: list[Handle | str] = []

    def call() -> None:
        assert [one.state for one in chain] == [state]
        try:
            found.append(newer(page, "text"))
        except ChainedModelsError as error:
            found.append(f"raises `{type(error).__name__}`")

    if state is SaveState.IN_FLIGHT:
        world.during = call
    elif state is SaveState.BACKING_OFF:
        world.failures.append(Unavailable("not now"))
        chain.on("retry", lambda _: call())
    else:
        chain.pause()
    first = older(page, "title")
    if state is SaveState.QUEUED:
        call()
        chain.resume()
    world.dispatcher.close(10)
    (second,) = found
    if isinstance(second, str):
        return second
    return "the same handle" if second is first else told(world.operations, first, second)


def told(operations: list[Operation], older: Handle, newer: Handle) -> str:
    """The requests, and how the two ended if that is not SAVED."""
    sent = [
        " and ".join(f"`{name}`" for name in ("title", "text") if name in operation.changed).join(("patch of ", ""))
        if operation.method is Method.PATCH
        else operation.method.value
        for operation in operations
    ]
    ends = [
        f"the {which} is {handle.outcome.name}"
        for which, handle in (("older", older), ("newer", newer))
        if handle.outcome is not None and (handle.outcome is not Outcome.SAVED or not operations)
    ]
    one = "one " if len(sent) == 1 else ""
    return "; ".join([one + (", ".join(sent) or "nothing is sent"), *ends])


def table(coalesce: Coalesce) -> str:
    """Every cell, with that policy."""
    lines = [f"| older | {' | '.join(NEWER)} |", "|---|" + "---|" * len(NEWER)]
    for name, older in OLDER.items():
        stored = name != "create"
        for state, alike, words in (
            (SaveState.QUEUED, (), "waiting"),
            (SaveState.IN_FLIGHT, (SaveState.BACKING_OFF,), "attempted"),
        ):
            cells = [cell(coalesce, older, newer, stored=stored, state=state) for newer in NEWER.values()]
            for other in alike:
                again = [cell(coalesce, older, newer, stored=stored, state=other) for newer in NEWER.values()]
                assert again == cells, f"{name}: {state} and {other} differ"
            lines.append(f"| {name}, {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def filled(page: str) -> str:
    """`page`, with its table as it should be."""
    found = re.search(r"<!-- coalescing: .*? -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert found is not None
    return f"{page[: found.start(1)]}\n{table(Coalesce.LATEST)}\n\n{page[found.end(1) :]}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
