"""SequentialServiceQueue (CallQueue): what went wrong there, and does not here."""

from __future__ import annotations

from typing import Any

from .claims import ours_alone
from .queues import CallQueues, OurCalls

the_original_breaks = ours_alone(OurCalls, CallQueues)


@the_original_breaks("the late end of one call ended another")
def test_ch2_the_late_end_of_an_abandoned_call_ends_no_other(world: Any) -> None:
    """CH2: a call that was given up says that it is done, while the next one is running: that one runs on."""
    queue = world()
    queue.add("a", timeout=5.0)
    queue.add("b", timeout=60.0)
    queue.add("c")
    queue.advance(5.0)
    assert queue.handed == ["a", "b"]
    queue.turns[0].done()
    assert queue.handed == ["a", "b"], "the late end of one call ended another"


@the_original_breaks("two calls are running")
def test_ch13_a_running_call_is_not_taken_out_as_if_it_were_queued(world: Any) -> None:
    """CH13: cancelling it is a wish; the next one waits for its end."""
    queue = world()
    running = queue.add("a")
    queue.add("b")
    queue.cancel(running)
    assert queue.handed == ["a"], "two calls are running"
    queue.turns[0].done()
    assert queue.handed == ["a", "b"]


@the_original_breaks("a timeout looks like a success")
def test_ch25_a_timeout_is_told_from_a_success(world: Any) -> None:
    """CH25: the one is ABANDONED, for nobody knows what became of it, the other SAVED."""
    queue = world()
    slow, quick = queue.add("a", timeout=5.0), queue.add("b")
    queue.advance(5.0)
    queue.turns[1].done()
    assert queue.outcome(slow) is not None
    assert queue.outcome(slow) != queue.outcome(quick), "a timeout looks like a success"


@the_original_breaks("the running call was replaced")
def test_al13_replacing_by_name_does_not_hit_the_running_call(world: Any) -> None:
    """AL13: one that has started stays; the new one is queued behind it."""
    queue = world()
    queue.add("a", name="search")
    queue.add("b", name="search", replace=True)
    assert queue.handed == ["a"], "the running call was replaced"
    queue.turns[0].done()
    assert queue.handed == ["a", "b"]
