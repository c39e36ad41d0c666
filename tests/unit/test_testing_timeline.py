"""The timeline of a harness."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from chained_models import ChainedSaveMixin, Conflict, OnConflict, OnFailure, Rejected, RetryPolicy, Unavailable
from chained_models.backends.memory import MemoryBackend
from chained_models.testing import OWN, Harness, ScriptedBackend, timeline
from chained_models.testing.timeline import CHAINS, LINES, WIDTH


@dataclass
class Parcel(ChainedSaveMixin, backend=MemoryBackend(), retry=RetryPolicy(wait_initial=2, wait_jitter=0)):
    id: int | None = None
    cart: str = "a"
    note: str = ""


@dataclass
class Grouped(Parcel, ordering_key="cart"):
    """All of one cart are one chain."""


@dataclass
class Rebased(Parcel, on_conflict=OnConflict.REBASE):
    """Made again on top of what others have written."""


def told(harness: Harness) -> list[str]:
    """The lines, without ticks and runs of blanks."""
    return [" ".join(line.split()) for line in timeline(harness).splitlines()]


def without_ticks(harness: Harness) -> list[str]:
    return [line.partition(" ")[2] if line[:1].isdigit() else line for line in told(harness)]


def test_a_chain_is_told_in_order_and_by_virtual_time() -> None:
    """Accepted, sent, refused, sent again after its wait, applied, answered, settled; then the one that waited."""
    with Harness() as chained:
        chained.backend.fail(Unavailable("no net"))
        parcel = Parcel()
        parcel.save()
        parcel.save({"note": "b"})
        chained.run_until_idle()
    assert without_ticks(chained) == [
        "Parcel 1: 2 saves",
        "0.000 s save 1 accepted",
        "0.000 s save 1 sent as create",
        "0.000 s save 1 got Unavailable: no net",
        "0.000 s save 2 accepted",
        "2.000 s save 1 sent as create, attempt 2 (after 2.000 s)",
        "2.000 s save 1 applied",
        "2.000 s save 1 answered",
        "2.000 s save 1 SAVED",
        "2.000 s save 2 sent as update (after 2.000 s)",
        "2.000 s save 2 applied",
        "2.000 s save 2 answered",
        "2.000 s save 2 SAVED",
    ]


def test_what_has_not_ended_is_told_with_the_reason() -> None:
    """As long as the harness is open."""
    with Harness() as chained:
        chained.backend.hold()
        parcel = Parcel()
        parcel.save()
        parcel.save()
        lines = told(chained)
        chained.backend.release()
    assert lines[0] == "Parcel (new): 2 saves, 2 not ended"
    assert lines[-3] == "not ended save 1 in flight: attempt 1, for 0.0 s"
    assert " ".join(lines[-2:]) == (
        "not ended save 2 queued behind save 1 of Parcel (new), which is in flight: attempt 1, for 0.0 s"
    )


def test_each_chain_has_a_block_of_its_own() -> None:
    """Two new objects are two chains, whatever they are called; one ordering key is one chain."""
    with Harness() as chained:
        chained.backend.hold()
        for _ in range(2):
            Parcel().save()
        assert [line for line in told(chained) if line.endswith("not ended")] == 2 * [
            "Parcel (new): 1 save, 1 not ended"
        ]
        chained.backend.release()
    with Harness() as chained:
        for _ in range(2):
            Grouped(cart="c\u00e4rt").save()
    assert told(chained)[0] == "ordering key 'c\\xe4rt': 2 saves"


def test_a_retry_by_hand_has_its_own_attempts() -> None:
    """Although it is sent with the key of the save that it is a retry of."""
    with Harness() as chained:
        chained.backend.fail(Rejected("no"))
        parcel = Parcel()
        parcel.chain.update(on_failure=OnFailure.HALT)
        parcel.save().exception()
        parcel.chain.retry()
    lines = without_ticks(chained)
    assert lines[0] == "Parcel 1: 2 saves"
    assert [line.removeprefix("0.000 s ") for line in lines[1:]] == [
        "save 1 accepted",
        "save 1 sent as create",
        "save 1 got Rejected: no",
        "save 1 FAILED: Rejected: no",
        "save 2 accepted",
        "save 2 sent as create",
        "save 2 applied",
        "save 2 answered",
        "save 2 SAVED",
    ]


def test_a_conflict_is_told_with_what_went_on_in_its_place() -> None:
    """The read, and the save that nobody called for."""
    with Harness() as chained:
        mine = Rebased()
        mine.save()
        theirs = Rebased(id=mine.id)
        theirs.refresh()
        theirs.save({"note": "theirs"})
        assert mine.save({"cart": "mine"}).result() is mine
    lines = [line.removeprefix("0.000 s ") for line in without_ticks(chained)]
    begin = lines.index("save 4 accepted")
    assert lines[begin + 1] == "save 4 sent as update"
    assert lines[begin + 2].startswith(f"save 4 got {Conflict.__name__}: ")
    assert lines[begin + 3 : begin + 9] == [
        "save 4 asked what is stored",
        "save 4 answered",
        "save 5 sent as update",
        "save 5 applied",
        "save 5 answered",
        "save 4 SUPERSEDED by save 5",
    ]


def test_a_long_chain_is_shortened_in_the_middle() -> None:
    """Its beginning and its end stay, and what is left out is counted."""
    with Harness() as chained:
        parcel = Parcel()
        for _ in range(100):
            parcel.save()
    lines = timeline(chained).splitlines()
    assert len(lines) == 1 + LINES
    (gap,) = [place for place, line in enumerate(lines) if "more lines" in line]
    assert lines[gap].split() == ["...", str(100 * 5 - (LINES - 1)), "more", "lines", "..."]
    assert lines[1].endswith("save 1      accepted")
    assert lines[-1].endswith("save 100    SAVED")


def test_of_many_chains_the_first_and_the_last_are_told() -> None:
    """With the number of the others."""
    with Harness() as chained:
        for _ in range(CHAINS + 5):
            Parcel().save()
    text = timeline(chained)
    assert text.count("Parcel ") == CHAINS - 1
    assert "... 6 more chains ..." in text
    assert "Parcel 1: 1 save" in text
    assert f"Parcel {CHAINS + 5}: 1 save" in text


def test_it_is_narrow_and_in_ascii() -> None:
    """Whatever an error says."""
    with Harness() as chained:
        chained.backend.fail(Rejected("z\u00fcrich\n" + "long " * 100))
        Parcel().save().exception()
    lines = timeline(chained).splitlines()
    assert len(lines) == 5, "a line break is none here"
    assert max(map(len, lines)) <= WIDTH
    assert any("got Rejected: z\\xfcrich long" in line and " ... " in line for line in lines)
    timeline(chained).encode("ascii")


def test_another_backend_tells_the_number_of_attempts() -> None:
    """What was sent and applied, only a scripted one writes down."""
    failures: list[Any] = [Unavailable("no net")]
    backend = MemoryBackend(fault=lambda _: failures.pop() if failures else None)
    with Harness(backend) as chained:
        Parcel().save()
        chained.run_until_idle()
    assert without_ticks(chained) == [
        "Parcel 1: 1 save",
        "0.000 s save 1 accepted",
        "2.000 s save 1 SAVED after 2 attempts (after 2.000 s)",
    ]
    with Harness(OWN) as chained:
        Parcel().save()
    assert told(chained)[-1].endswith("SAVED after 1 attempt")


def test_nothing_is_said_to_have_happened_where_nothing_has() -> None:
    """One sentence."""
    with Harness() as chained:
        pass
    assert timeline(chained) == "no save was accepted"


def test_real_time_counts_from_the_beginning() -> None:
    """And several threads may count at once."""
    go = threading.Barrier(4)
    with Harness(live=True) as chained:

        def save() -> None:
            go.wait(10)
            for _ in range(50):
                Parcel().save()

        threads = [threading.Thread(target=save) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        chained.flush(10)
    ticks = [one.tick for one in chained.accepted]
    assert len(set(ticks)) == 200
    assert all((at := chained.time_of(tick)) is not None and 0 <= at < 60 for tick in ticks)


def test_the_backend_counts_on_when_the_harness_is_gone() -> None:
    """A backend that is used by one test after the other does not carry their harnesses along."""
    backend = ScriptedBackend()
    before = backend._ticks
    for _ in range(3):
        with Harness(backend) as chained:
            Parcel().save()
            assert chained.time_of(chained.accepted[0].tick) == 0
    assert backend._ticks is before
    assert backend.tick() > backend.ledger[-1].began
    assert chained.time_of(1) is None, "that was in the first one's time"
