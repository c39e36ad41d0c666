"""Counting what went wrong, from what a store has logged and what it holds at the end. Pure: knows no store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Row", "Tally", "Write", "count"]


@dataclass(frozen=True, slots=True)
class Write:
    """One write that a store received."""

    basket: str
    row: int | None
    """The row that it wrote; None if it was refused."""
    step: int
    """Which edit of the basket it carried, from 1."""
    created: bool = False
    """Whether it made that row."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a store holds at the end."""

    step: int
    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Tally:
    """What went wrong in one run."""

    out_of_order: int
    """Writes that arrived after a newer one of the same basket."""
    duplicates: int
    """Rows made for a basket that already had one."""
    edits_lost: int
    """Edits that are not in the row of their basket that was written last."""
    wrong_ends: int
    """Baskets whose row that was written last does not hold their last state."""

    @property
    def flawless(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.out_of_order or self.duplicates or self.edits_lost or self.wrong_ends)


def count(writes: Iterable[Write], rows: Mapping[int, Row], expected: Mapping[str, Sequence[str]]) -> Tally:
    """Count what went wrong.

    Where a basket has several rows, the one that was written last is taken as the basket.

    Args:
        writes: What the store received, in the order in which it did.
        rows: What it holds at the end, by row.
        expected: For each basket the items that it should hold, one for each edit.
    """
    newest = dict.fromkeys(expected, 0)
    made = dict.fromkeys(expected, 0)
    last: dict[str, int] = {}
    out_of_order = 0
    for write in writes:
        if write.step < newest[write.basket]:
            out_of_order += 1
        newest[write.basket] = max(newest[write.basket], write.step)
        made[write.basket] += write.created
        if write.row is not None:
            last[write.basket] = write.row
    edits_lost = wrong_ends = 0
    for basket, items in expected.items():
        row = rows.get(last.get(basket, -1), Row(0, ()))
        edits_lost += sum(item not in row.items for item in items)
        wrong_ends += row.step != len(items) or list(row.items) != list(items)
    return Tally(
        out_of_order=out_of_order,
        duplicates=sum(max(0, rows_made - 1) for rows_made in made.values()),
        edits_lost=edits_lost,
        wrong_ends=wrong_ends,
    )
