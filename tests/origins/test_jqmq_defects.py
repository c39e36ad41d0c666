"""jQuery Message Queuing: what went wrong there, and does not here."""

from __future__ import annotations

from typing import Any

from .claims import ours_alone
from .models import boom
from .queues import JqmqQueues, OurQueues, Turn

the_original_breaks = ours_alone(OurQueues, JqmqQueues)


@the_original_breaks("two items are out at once")
def test_ch2_a_turn_that_is_ended_twice_lets_one_item_go(world: Any) -> None:
    """CH2: a turn ends its own item only; a second call, however late, is ignored."""
    queue = world(manual=True)
    queue.extend(["a", "b", "c"])
    (a,) = queue.turns
    a.done()
    a.done()
    assert queue.running == ["b"], "two items are out at once"


@the_original_breaks("two items are out at once")
def test_ch2_a_turn_that_is_retried_after_its_end_is_ignored(world: Any) -> None:
    """CH2: nor does a retry that comes too late put anything back."""
    queue = world(manual=True)
    queue.extend(["a", "b", "c"])
    (a,) = queue.turns
    a.done()
    a.retry()
    assert queue.handed == ["a", "b"], "two items are out at once"


@the_original_breaks("the queue is dead")
def test_ch8_a_worker_that_raises_does_not_stop_the_queue(world: Any) -> None:
    """CH8: its item has FAILED, and the next one is handed out."""
    queue = world(manual=True)
    queue.work = lambda turn: boom() if turn.item == "bad" else None
    queue.extend(["bad", "good"])
    assert queue.handed == ["bad", "good"], "the queue is dead"


@the_original_breaks("the queue is dead")
def test_ch8_a_worker_that_raises_does_not_stop_the_clockwork(world: Any) -> None:
    """CH8: the same where time, and not the worker, says when the next one is handed out."""
    queue = world(delay=1.0)
    queue.work = lambda turn: boom() if turn.item == "bad" else None
    queue.extend(["bad", "good"])
    queue.advance(10)
    assert queue.handed == ["bad", "good"], "the queue is dead"


@the_original_breaks("two items are out at once")
def test_ch9_clear_does_not_free_the_place_of_the_item_in_flight(world: Any) -> None:
    """CH9: what is added after `clear()` waits for the item that is out."""
    queue = world(manual=True)
    queue.extend(["a", "b"])
    queue.clear()
    queue.add("c")
    assert queue.running == ["a"], "two items are out at once"
    queue.turns[0].done()
    assert queue.handed == ["a", "c"]


@the_original_breaks("it was never tried again")
def test_ch14_an_item_that_asks_for_a_retry_at_once_is_retried(world: Any) -> None:
    """CH14: asked for in the worker itself: the item goes out again, ahead of all others."""
    queue = world(manual=True)

    def retry_once(turn: Turn) -> None:
        if queue.handed == ["a"]:
            turn.retry()

    queue.work = retry_once
    queue.extend(["a", "b"])
    assert queue.handed == ["a", "a"], "it was never tried again"


@the_original_breaks("it went out by one rule, and came back by another")
def test_ch24_an_update_does_not_change_the_item_that_is_out(world: Any) -> None:
    """CH24: whether an item is manual was decided when it was handed out; `update()` is for the next one."""
    queue = world(delay=1.0)
    queue.work = lambda turn: queue.update(manual=True)
    queue.extend(["a", "b"])
    queue.advance(10)
    assert queue.handed == ["a", "b"], "it went out by one rule, and came back by another"


@the_original_breaks("something got ahead of it")
def test_ch24_an_item_that_is_retried_keeps_its_place(world: Any) -> None:
    """CH24: also ahead of what is added with priority before it goes out again."""
    queue = world(manual=True)
    queue.extend(["a", "b"])
    queue.pause()
    queue.turns[0].retry()
    queue.add("urgent", urgent=True)
    queue.resume()
    assert queue.handed == ["a", "a"], "something got ahead of it"
    queue.turns[1].done()
    assert queue.handed == ["a", "a", "urgent"]


@the_original_breaks("it was cleared, not completed")
def test_ch24_complete_is_not_called_after_clear(world: Any) -> None:
    """CH24: not even when the item that was out has ended; only when what is added later has."""
    queue = world(manual=True)
    queue.extend(["a", "b"])
    queue.clear()
    queue.turns[0].done()
    assert queue.completions == 0, "it was cleared, not completed"
    queue.add("c")
    queue.turns[1].done()
    assert queue.completions == 1


@the_original_breaks("it is paused, not completed")
def test_ch24_complete_is_not_called_while_paused(world: Any) -> None:
    """CH24: although the last item has ended."""
    queue = world(manual=True)
    queue.add("a")
    queue.pause()
    queue.turns[0].done()
    assert queue.completions == 0, "it is paused, not completed"
    queue.add("b")
    queue.resume()
    queue.turns[1].done()
    assert queue.completions == 1


@the_original_breaks("what is out does not count")
def test_ch23_the_size_counts_what_is_in_flight(world: Any) -> None:
    """CH23: a queue whose last item is out is not empty."""
    queue = world(manual=True)
    queue.add("a")
    assert queue.size() == 1, "what is out does not count"
    queue.turns[0].done()
    assert queue.size() == 0


@the_original_breaks("an edit after the call was handed out")
def test_sn1_an_edit_of_a_queued_item_does_not_reach_the_worker(world: Any) -> None:
    """SN1: the worker is handed what the item was when it was added."""
    queue = world(manual=True)
    item = {"tags": ["red"]}
    queue.extend(["a", item])
    item["tags"].append("green")
    queue.turns[0].done()
    assert queue.handed == ["a", {"tags": ["red"]}], "an edit after the call was handed out"


@the_original_breaks("items are stranded")
def test_ch5_a_long_queue_is_worked_off_with_a_flat_stack(world: Any) -> None:
    """CH5: although each turn ends in the worker itself."""
    queue = world(manual=True)
    queue.work = Turn.done
    queue.pause()
    queue.extend(list(range(2000)))
    queue.resume()
    assert len(queue.turns) == 2000, "items are stranded"


@the_original_breaks("one turn that never ends stops the queue for ever")
def test_tm7_an_item_whose_turn_never_ends_does_not_hold_up_the_queue_for_ever(world: Any) -> None:
    """TM7: with a timeout its time ends, and the next item is handed out."""
    queue = world(manual=True, timeout=5.0)
    queue.extend(["a", "b"])
    queue.advance(1000)
    assert queue.handed == ["a", "b"], "one turn that never ends stops the queue for ever"
