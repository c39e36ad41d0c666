"""What jQuery Message Queuing can do, which ours does too, and so does the port; and what ours says more of the same."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from chained_models import CallChain, Dispatcher, InvalidOption, Outcome, SnapshotError

from .claims import both, only
from .queues import JqmqQueues, OurQueues

jqmq = both(OurQueues, JqmqQueues)
ours = only(OurQueues)


@jqmq
def test_jqmq_any_items_in_order(world: Any) -> None:
    """A queue of whatever the program likes, handed out first in, first out."""
    queue = world(manual=True)
    for item in (1, "two", {"three": 3}):
        queue.add(item)
    for n in range(3):
        queue.turns[n].done()
    assert queue.handed == [1, "two", {"three": 3}]


@jqmq
def test_jqmq_delay(world: Any) -> None:
    """So much time between one item and the next."""
    queue = world(delay=2.0)
    queue.extend(["a", "b", "c"])
    assert queue.handed == ["a"]
    queue.advance(1.5)
    assert queue.handed == ["a"]
    queue.advance(0.5)
    assert queue.handed == ["a", "b"]
    queue.advance(2.0)
    assert queue.handed == ["a", "b", "c"]


@jqmq
def test_jqmq_manual_next(world: Any) -> None:
    """With a delay of -1 there, `manual=True` here, the worker says when the next item is handed out."""
    queue = world(manual=True)
    queue.extend(["a", "b"])
    queue.advance(10)
    assert queue.handed == ["a"]
    queue.turns[0].done()
    assert queue.handed == ["a", "b"]


@jqmq
def test_jqmq_next_with_retry(world: Any) -> None:
    """The item keeps its place at the front, also ahead of what was added with priority meanwhile."""
    queue = world(manual=True)
    queue.extend(["a", "b"])
    queue.add("urgent", urgent=True)
    queue.turns[0].retry()
    assert queue.handed == ["a", "a"]
    queue.turns[1].done()
    assert queue.handed == ["a", "a", "urgent"]


@jqmq
def test_jqmq_a_batch_that_is_retried_is_handed_out_as_it_was(world: Any) -> None:
    """All its items, in their order."""
    queue = world(manual=True, batch=2)
    queue.pause()
    queue.extend(["a", "b", "c"])
    queue.resume()
    queue.turns[0].retry()
    assert queue.handed == [["a", "b"], ["a", "b"]]


@jqmq
def test_jqmq_batch_of_one_is_the_item(world: Any) -> None:
    """Not a list of it."""
    queue = world(manual=True, batch=1)
    queue.add("a")
    assert queue.handed == ["a"]


@jqmq
def test_jqmq_batch_of_more_is_always_a_list(world: Any) -> None:
    """The remainder included, though it may be one item."""
    queue = world(manual=True, batch=2)
    queue.pause()
    queue.extend(["a", "b", "c"])
    queue.resume()
    queue.turns[0].done()
    assert queue.handed == [["a", "b"], ["c"]]


@ours
def test_jqmq_a_batch_is_one_attempt_of_all_its_items(world: Any) -> None:
    """What ends the turn ends all of them, with one result; nobody else's."""
    queue = world(manual=True, batch=2)
    first, second, third = queue.calls.extend(["a", "b", "c"])
    assert queue.handed == [["a", "b"]]
    assert (first.attempts, second.attempts, third.attempts) == (1, 1, 0)
    queue.turns[0].done("both")
    assert (first.result(), second.result(), third.done()) == ("both", "both", False)


@ours
def test_jqmq_a_batch_leaves_callables_alone(world: Any) -> None:
    """They are their own work: what stands before one and what stands behind it are two batches."""
    queue = world(batch=3)
    handed_before: list[Any] = []
    queue.pause()
    queue.extend(["a", "b", lambda: handed_before.extend(queue.handed), "c"])
    queue.resume()
    assert handed_before == [["a", "b"]]
    assert queue.handed == [["a", "b"], ["c"]]


@ours
def test_jqmq_without_a_batch_the_result_is_the_items_own(world: Any) -> None:
    """One item is handed out as it is, and what the worker returns is what its handle gives."""
    queue = world()
    handles = queue.calls.extend(["a", ["b"]])
    assert queue.handed == ["a", ["b"]]
    assert [handle.result() for handle in handles] == ["a", ["b"]]


@jqmq
def test_jqmq_add(world: Any) -> None:
    """One item, at the tail; a list is one item too."""
    queue = world(manual=True)
    queue.add("a")
    queue.add(["b", "c"])
    queue.turns[0].done()
    assert queue.handed == ["a", ["b", "c"]]


@jqmq
def test_jqmq_add_each(world: Any) -> None:
    """Several items, each for itself: `extend` here."""
    queue = world(manual=True)
    queue.extend(["a", "b"])
    assert queue.size() in (1, 2)
    queue.turns[0].done()
    assert queue.handed == ["a", "b"]


@jqmq
def test_jqmq_add_with_priority(world: Any) -> None:
    """Ahead of what is queued, behind what is out: `urgent=True` here."""
    queue = world(manual=True)
    queue.extend(["a", "b"])
    queue.add("urgent", urgent=True)
    assert queue.handed == ["a"]
    queue.turns[0].done()
    assert queue.handed == ["a", "urgent"]


@jqmq
def test_jqmq_the_newest_of_urgent_items_comes_first(world: Any) -> None:
    """What is urgent is ahead of all that is queued, so of earlier urgent items too."""
    queue = world(manual=True)
    queue.add("a")
    for item in ("older", "newer"):
        queue.add(item, urgent=True)
    queue.turns[0].done()
    queue.turns[1].done()
    assert queue.handed == ["a", "newer", "older"]


@ours
def test_jqmq_what_is_urgent_never_takes_the_place_of_what_is_out(world: Any) -> None:
    """Also if that is tried again, and rests before."""
    queue = world(manual=True, delay=2.0)
    queue.add("a")
    queue.turns[0].retry()
    queue.add("urgent", urgent=True)
    assert [queue.index(item) for item in ("a", "urgent")] == [0, 1]
    queue.advance(2.0)
    assert queue.handed == ["a", "a"]


@jqmq
def test_jqmq_pause(world: Any) -> None:
    """What is out goes on; when it ends, nothing is handed out."""
    queue = world(manual=True)
    queue.extend(["a", "b"])
    queue.pause()
    queue.turns[0].done()
    assert queue.handed == ["a"]


@ours
def test_jqmq_pause_of_an_empty_queue_lasts(world: Any) -> None:
    """What is added to it waits."""
    queue = world()
    queue.pause()
    queue.add("a")
    assert (queue.handed, queue.calls.paused) == ([], True)
    queue.resume()
    assert queue.handed == ["a"]


@jqmq
def test_jqmq_start(world: Any) -> None:
    """A paused queue goes on: `resume` here. Twice is as good as once."""
    queue = world(manual=True)
    queue.pause()
    queue.resume()
    queue.resume()
    queue.extend(["a", "b"])
    assert queue.handed == ["a"]
    queue.resume()
    assert queue.handed == ["a"]


@jqmq
def test_jqmq_clear(world: Any) -> None:
    """What is queued is taken out."""
    queue = world(manual=True)
    queue.pause()
    queue.extend(["a", "b"])
    queue.clear()
    assert queue.size() == 0
    queue.resume()
    assert queue.handed == []


@ours
def test_jqmq_clear_settles_what_it_takes_out(world: Any) -> None:
    """Nothing vanishes: each handle is CANCELLED, and what is out goes on."""
    queue = world(manual=True)
    handles = queue.calls.extend(["a", "b", "c"])
    queue.clear()
    assert [handle.outcome for handle in handles] == [None, Outcome.CANCELLED, Outcome.CANCELLED]
    queue.turns[0].done()
    assert handles[0].outcome is Outcome.SAVED


@jqmq
def test_jqmq_update_acts_from_the_next_item(world: Any) -> None:
    """The one that is out keeps what it was handed out with."""
    queue = world(manual=True)
    queue.extend(["a", "b", "c"])
    queue.update(batch=2)
    assert queue.handed == ["a"]
    queue.turns[0].done()
    assert queue.handed == ["a", ["b", "c"]]


@jqmq
def test_jqmq_update_of_the_delay_acts_from_the_next_rest(world: Any) -> None:
    """The rest that goes on keeps its length."""
    queue = world(delay=4.0)
    queue.extend(["a", "b", "c"])
    queue.update(delay=1.0)
    queue.advance(3.5)
    assert queue.handed == ["a"]
    queue.advance(0.5)
    assert queue.handed == ["a", "b"]
    queue.advance(1.0)
    assert queue.handed == ["a", "b", "c"]


@ours
def test_jqmq_update_of_the_timeout_acts_from_the_next_item(world: Any) -> None:
    """The item that is out has the time it was handed out with."""
    queue = world(manual=True, timeout=5.0)
    first, second = queue.calls.extend(["a", "b"])
    queue.update(timeout=2.0)
    queue.advance(4.5)
    assert first.outcome is None
    queue.advance(0.5)
    assert (first.outcome, second.outcome) == (Outcome.ABANDONED, None)
    queue.advance(2.0)
    assert second.outcome is Outcome.ABANDONED


@ours
def test_jqmq_update_of_what_makes_no_sense_changes_nothing(world: Any) -> None:
    """An unknown option, a negative delay, an empty batch: refused, and the other options given with it as well."""
    queue = world(batch=2)
    for wrong, error in (({"dealy": 1}, TypeError), ({"delay": -1}, InvalidOption), ({"batch": 0}, InvalidOption)):
        with pytest.raises(error, match=next(iter(wrong))):
            queue.update(**{"batch": 3, **wrong})
    queue.pause()
    queue.extend(["a", "b", "c"])
    queue.resume()
    assert queue.handed == [["a", "b"], ["c"]]


@jqmq
def test_jqmq_size(world: Any) -> None:
    """How many are queued: `len` here."""
    queue = world(manual=True)
    queue.pause()
    queue.extend(["a", "b", "c"])
    assert queue.size() == 3


@jqmq
def test_jqmq_index_of(world: Any) -> None:
    """Where in the queue an item is."""
    queue = world(manual=True)
    queue.pause()
    queue.extend(["a", "b", "c"])
    assert queue.index("a") == 0
    assert queue.index("c") == 2


@ours
def test_jqmq_index_of_counts_what_is_out(world: Any) -> None:
    """As `size` does; what is not in the queue has no place there."""
    queue = world(manual=True)
    queue.extend([{"n": 1}, {"n": 2}])
    assert [queue.index({"n": n}) for n in (1, 2)] == [0, 1]
    queue.turns[0].done()
    assert queue.index({"n": 2}) == 0
    with pytest.raises(ValueError, match="not in the chain"):
        queue.index({"n": 1})


@jqmq
def test_jqmq_complete(world: Any) -> None:
    """Called whenever the queue becomes empty by itself, and as often as that happens."""
    queue = world(manual=True)
    queue.extend(["a", "b"])
    queue.turns[0].done()
    assert queue.completions == 0
    queue.turns[1].done()
    assert queue.completions == 1
    queue.add("c")
    queue.turns[2].done()
    assert queue.completions == 2


@jqmq
def test_jqmq_complete_is_not_called_after_clear(world: Any) -> None:
    """Which is not to become empty by itself."""
    queue = world(manual=True)
    queue.pause()
    queue.extend(["a", "b"])
    queue.clear()
    queue.resume()
    assert queue.completions == 0


# Around the items


@ours
def test_jqmq_items_are_copied(world: Any) -> None:
    """Deeply, when they are added: what becomes of them later is not handed out."""
    queue = world()
    item = {"tags": ["red"]}
    queue.pause()
    queue.add(item)
    item["tags"].append("green")
    queue.resume()
    assert queue.handed == [{"tags": ["red"]}]


@ours
def test_jqmq_items_are_not_copied_with_copy_false(world: Any) -> None:
    """They are handed out themselves, also if they could not be copied."""
    queue = world(copy=False)
    lock = threading.Lock()
    queue.add(lock)
    assert queue.handed[0] is lock
    queue.update(copy=True)
    with pytest.raises(SnapshotError, match="copy=False"):
        queue.add(lock)


@ours
def test_jqmq_callables_are_not_copied(world: Any) -> None:
    """They are called as they are, with all that hangs on them, instead of the worker."""

    class Code:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.called: list[Code] = []

        def __call__(self) -> str:
            self.called.append(self)
            return "its own result"

    queue = world()
    code = Code()
    assert queue.calls.add(code).result() == "its own result"
    assert code.called == [code]
    assert queue.handed == []


def test_jqmq_workers_may_be_coroutines() -> None:
    """One at a time as ever, in the loop of the program."""

    async def program() -> None:
        handed: list[str] = []
        go_on = asyncio.Event()

        async def work(item: str) -> str:
            handed.append(item)
            await go_on.wait()
            return item.upper()

        async with Dispatcher() as dispatcher:
            calls = CallChain(work, dispatcher=dispatcher)
            first, second = calls.extend(["a", "b"])
            while not handed:
                await asyncio.sleep(0)
            assert handed == ["a"]
            go_on.set()
            assert [await first, await second] == ["A", "B"]
            assert await calls.add(lambda: "plain code in the same queue") == "plain code in the same queue"

    asyncio.run(program())


@ours
def test_jqmq_a_page_can_show_it_live(world: Any) -> None:
    """Events say when something has changed, and the queue what is in it: each item's name, state and attempts."""
    queue = world(manual=True)
    shown: list[list[tuple[str | None, str, int]]] = []
    for event in ("request", "sync", "cancelled", "complete"):
        queue.calls.on(
            event, lambda _: shown.append([(one.name, one.state.value, one.attempts) for one in queue.calls])
        )
    queue.add("a", name="first")
    queue.add("b", name="second")
    queue.turns[0].done()
    queue.turns[1].done()
    assert shown == [
        [("first", "in flight", 1)],
        [("second", "queued", 0)],
        [("second", "in flight", 1)],
        [],
        [],
    ]
