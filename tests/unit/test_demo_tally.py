"""What the demo counts, from logs made by hand."""

from __future__ import annotations

from chained_models.demo.tally import Row, Tally, Write, count

EXPECTED = {"a": ["x", "y", "z"]}
WHOLE = {1: Row(3, ["x", "y", "z"])}


def test_a_log_in_order_is_flawless() -> None:
    """Create, update, update: nothing to complain about."""
    writes = [Write("a", 1, 1, created=True), Write("a", 1, 2), Write("a", 1, 3)]
    assert count(writes, WHOLE, EXPECTED) == Tally(0, 0, 0, 0)
    assert count(writes, WHOLE, EXPECTED).flawless


def test_a_repeated_write_is_not_out_of_order() -> None:
    """A refused or unanswered write arrives again, before any newer one."""
    writes = [Write("a", None, 1), Write("a", 1, 1, created=True), Write("a", 1, 1), Write("a", 1, 2), Write("a", 1, 3)]
    assert count(writes, WHOLE, EXPECTED).flawless


def test_an_older_write_after_a_newer_one_is_out_of_order() -> None:
    """Every late one counts, also one that was refused."""
    writes = [Write("a", 1, 3, created=True), Write("a", 1, 2), Write("a", None, 1), Write("a", 1, 3)]
    assert count(writes, WHOLE, EXPECTED) == Tally(2, 0, 0, 0)


def test_baskets_are_counted_apart() -> None:
    """Writes of different baskets have no order."""
    writes = [Write("a", 1, 3, created=True), Write("b", 2, 1, created=True)]
    rows = {1: Row(3, ["x", "y", "z"]), 2: Row(1, ["x"])}
    assert count(writes, rows, {**EXPECTED, "b": ["x"]}).flawless


def test_every_row_but_the_first_is_a_duplicate() -> None:
    """Three rows for one basket are two too many."""
    writes = [Write("a", row, 3, created=True) for row in (1, 2, 3)]
    rows = dict.fromkeys((1, 2, 3), WHOLE[1])
    assert count(writes, rows, EXPECTED) == Tally(0, 2, 0, 0)


def test_an_older_state_at_the_end_has_lost_edits() -> None:
    """The last write wins, and it was the first state."""
    writes = [Write("a", 1, 3, created=True), Write("a", 1, 1)]
    assert count(writes, {1: Row(1, ["x"])}, EXPECTED) == Tally(1, 0, 2, 1)


def test_the_row_written_last_is_the_basket() -> None:
    """What was put into another row is lost for whoever reads this one."""
    writes = [Write("a", 1, 3, created=True), Write("a", 2, 2, created=True)]
    rows = {1: WHOLE[1], 2: Row(2, ["x", "y"])}
    assert count(writes, rows, EXPECTED) == Tally(1, 1, 1, 1)


def test_a_basket_that_never_arrived_is_wrong() -> None:
    """All its edits are lost."""
    assert count([], {}, EXPECTED) == Tally(0, 0, 3, 1)
    assert not count([], {}, EXPECTED).flawless


def test_the_items_count_as_well_as_the_step() -> None:
    """The right step with the wrong content is a wrong state."""
    writes = [Write("a", 1, 3, created=True)]
    assert count(writes, {1: Row(3, ["x", "z", "y"])}, EXPECTED) == Tally(0, 0, 0, 1)
