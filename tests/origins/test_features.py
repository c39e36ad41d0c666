"""What the four originals can do, row by row: ours does it too, and so do the ports, which shows that they are faithful."""

from __future__ import annotations

import contextlib
from typing import Any

from .claims import both
from .models import REFUSED, BackboneModels, OurModels
from .queues import CallQueues, JqmqQueues, OurCalls, OurQueues
from .servers import ControlledRequests, OurRequests

backbone = both(OurModels, BackboneModels)
jqmq = both(OurQueues, JqmqQueues)
callqueue = both(OurCalls, CallQueues)
requestcontroller = both(OurRequests, ControlledRequests)


# Backbone.js chained-save model


@backbone
def test_backbone_save_with_attributes_sets_them_first(world: Any) -> None:
    """`save(attributes)`: they are set on the model, and sent."""
    models = world()
    page = models.stored()
    models.save(page, {"title": "b"})
    assert models.value(page, "title") == "b"
    assert models.wire.titles == ["b"]


@backbone
def test_backbone_a_new_model_is_created_and_then_updated(world: Any) -> None:
    """What has no identity is created; the answer gives it one, which the next save goes to."""
    models = world()
    page = models.new()
    models.save(page)
    models.wire.answer()
    assert models.value(page, "id") == 1
    models.save(page, {"title": "b"})
    assert models.wire.methods == ["create", "update"]
    assert models.wire.sent[1].values["id"] == 1


@backbone
def test_backbone_one_save_of_a_model_is_in_flight(world: Any) -> None:
    """A save of an idle model is sent at once, a further one waits."""
    models = world()
    page = models.stored()
    models.save(page, {"title": "b"})
    models.save(page, {"title": "c"})
    assert [flight.values["title"] for flight in models.wire.flying] == ["b"]


@backbone
def test_backbone_saves_of_different_models_do_not_wait_for_one_another(world: Any) -> None:
    """One in flight for each model."""
    models = world()
    models.save(models.new(title="one"))
    models.save(models.new(title="other"))
    assert len(models.wire.flying) == 2


@backbone
def test_backbone_the_rest_is_queued_as_copies(world: Any) -> None:
    """What is sent later is what the model was at the call."""
    models = world()
    page = models.stored()
    for title in ("b", "c", "d"):
        models.save(page, {"title": title})
    models.edit(page, title="typed since")
    models.wire.answer_all()
    assert models.wire.titles == ["b", "c", "d"]


@backbone
def test_backbone_the_chain_is_drained_on_sync(world: Any) -> None:
    """When one is stored the next one goes, in order."""
    models = world()
    page = models.stored()
    saves = [models.save(page, {"title": title}) for title in ("b", "c", "d")]
    for sent in (1, 2, 3):
        assert len(models.wire.sent) == sent
        models.wire.answer()
    assert saves[0].outcome == "SAVED"
    assert models.wire.titles == ["b", "c", "d"]


@backbone
def test_backbone_the_chain_is_drained_on_error(world: Any) -> None:
    """When one is refused the next one goes all the same."""
    models = world()
    page = models.stored()
    refused = models.save(page, {"title": "b"})
    models.save(page, {"title": "c"})
    models.wire.refuse(REFUSED)
    assert refused.outcome == "FAILED"
    assert models.wire.titles == ["b", "c"]


@backbone
def test_backbone_a_queued_save_of_a_new_model_becomes_an_update(world: Any) -> None:
    """What is to be done is decided when its turn comes, not when it is queued."""
    models = world()
    page = models.new()
    models.save(page)
    models.save(page, {"title": "b"})
    models.wire.answer_all()
    assert models.wire.methods == ["create", "update"]
    assert models.wire.sent[1].values["id"] == 1


@backbone
def test_backbone_sync_and_error_are_events(world: Any) -> None:
    """Whoever listens is told of each end."""
    models = world()
    page = models.stored()
    heard: list[str] = []
    models.on(page, "sync", lambda *_: heard.append("sync"))
    models.on(page, "error", lambda *_: heard.append("error"))
    models.save(page, {"title": "b"})
    models.wire.answer()
    models.save(page, {"title": "c"})
    models.wire.refuse(REFUSED)
    assert heard == ["sync", "error"]


@backbone
def test_backbone_what_is_not_valid_is_not_sent(world: Any) -> None:
    """It is refused at the call."""
    models = world()
    with contextlib.suppress(ValueError):
        models.save(models.stored(), {"title": "much longer than a title may be"})
    assert models.wire.sent == []


# jQuery Message Queuing


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
def test_jqmq_pause(world: Any) -> None:
    """What is out goes on; when it ends, nothing is handed out."""
    queue = world(manual=True)
    queue.extend(["a", "b"])
    queue.pause()
    queue.turns[0].done()
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


# SequentialServiceQueue (CallQueue)


@callqueue
def test_callqueue_one_call_at_a_time(world: Any) -> None:
    """The next one when the one before has said that it is done."""
    queue = world()
    queue.add("a")
    queue.add("b")
    assert queue.handed == ["a"]
    queue.turns[0].done()
    assert queue.handed == ["a", "b"]


@callqueue
def test_callqueue_every_call_has_an_id_and_a_name(world: Any) -> None:
    """The id is its own; a name may be shared."""
    queue = world()
    ids = [queue.add(item, name="search") for item in "abc"]
    assert len(set(ids)) == 3
    queue.turns[0].done()
    queue.turns[1].done()
    assert queue.handed == ["a", "b", "c"]


@callqueue
def test_callqueue_dequeue_by_id(world: Any) -> None:
    """Any queued call, whatever is running and wherever it stands."""
    queue = world()
    queue.add("a")
    second = queue.add("b")
    queue.add("c")
    queue.cancel(second)
    queue.turns[0].done()
    assert queue.handed == ["a", "c"]


@callqueue
def test_callqueue_a_timeout_per_call_and_then_the_next(world: Any) -> None:
    """Each has its own; when it is over, the queue goes on."""
    queue = world(timeout=5.0)
    queue.add("a")
    queue.add("b", timeout=2.0)
    queue.add("c")
    queue.advance(4.5)
    assert queue.handed == ["a"]
    queue.advance(0.5)
    assert queue.handed == ["a", "b"]
    queue.advance(2.0)
    assert queue.handed == ["a", "b", "c"]


@callqueue
def test_callqueue_the_timeout_is_counted_from_the_start_of_the_call(world: Any) -> None:
    """The time in the queue does not count."""
    queue = world(timeout=5.0)
    queue.add("a", timeout=60.0)
    queue.add("b")
    queue.add("c")
    queue.advance(50)
    queue.turns[0].done()
    queue.advance(4.0)
    assert queue.handed == ["a", "b"]
    queue.advance(1.0)
    assert queue.handed == ["a", "b", "c"]


@callqueue
def test_callqueue_notify_completed(world: Any) -> None:
    """A call says that it is done, and its time is not waited for: `turn.done()` here."""
    queue = world(timeout=60.0)
    first = queue.add("a")
    queue.add("b")
    queue.turns[0].done()
    assert queue.handed == ["a", "b"]
    assert queue.outcome(first) is not None


@callqueue
def test_callqueue_replace_if_exists(world: Any) -> None:
    """The queued call of that name is replaced, in its place."""
    queue = world()
    queue.add("a")
    queue.add("old", name="search")
    queue.add("c")
    queue.add("new", name="search", replace=True)
    queue.turns[0].done()
    queue.turns[1].done()
    assert queue.handed == ["a", "new", "c"]


@callqueue
def test_callqueue_replace_without_such_a_name_adds(world: Any) -> None:
    """There is nothing to replace, so it is the last one."""
    queue = world()
    queue.add("a")
    queue.add("b", name="search", replace=True)
    queue.turns[0].done()
    assert queue.handed == ["a", "b"]


@callqueue
def test_callqueue_the_timer_runs_only_when_it_is_needed(world: Any) -> None:
    """None before the first call, and none after the last one."""
    queue = world()
    assert queue.timers == 0
    queue.add("a")
    assert queue.timers > 0
    queue.turns[0].done()
    assert queue.timers == 0


@callqueue
def test_callqueue_plain_code_may_be_queued(world: Any) -> None:
    """A callable is its own work, and has its turn like any call."""
    queue = world(timeout=5.0)
    ran: list[str] = []
    queue.add("a")
    queue.add(lambda: ran.append("code"))
    assert ran == []
    queue.turns[0].done()
    assert ran == ["code"]


# RequestController


@requestcontroller
def test_requestcontroller_quick_requests_run_side_by_side(world: Any) -> None:
    """None waits for another as long as the server is quick."""
    server = world(long_after=3.0, max_long=2)
    server.request("A", "B", "C", "D")
    assert server.in_flight == ["A", "B", "C", "D"]
    server.answer_all()
    assert server.signals == []


@requestcontroller
def test_requestcontroller_one_that_is_pending_longer_than_that_is_long(world: Any) -> None:
    """Until then the server is not congested, however many are pending."""
    server = world(long_after=3.0, max_long=2)
    server.request("A", "B")
    server.advance(2.5)
    assert server.signals == []
    server.advance(1.0)
    assert server.signals == ["congested"]


@requestcontroller
def test_requestcontroller_fewer_long_ones_are_no_congestion(world: Any) -> None:
    """It takes `max_long` of them."""
    server = world(long_after=3.0, max_long=2)
    server.request("A")
    server.advance(4.0)
    server.request("B", "C")
    assert server.in_flight == ["A", "B", "C"]
    assert server.signals == []


@requestcontroller
def test_requestcontroller_at_so_many_long_ones_new_requests_queue(world: Any) -> None:
    """They are sent when the others have been answered, in order."""
    server = world(long_after=3.0, max_long=2)
    server.request("A", "B")
    server.advance(4.0)
    server.request("C", "D", "E")
    assert "D" not in server.sent
    server.answer_all()
    assert server.sent == ["A", "B", "C", "D", "E"]


@requestcontroller
def test_requestcontroller_somebody_is_warned(world: Any) -> None:
    """When the server becomes congested, and when it has recovered."""
    server = world(long_after=3.0, max_long=2)
    server.request("A", "B")
    server.advance(4.0)
    assert server.signals == ["congested"]
    server.answer_all()
    assert server.signals == ["congested", "recovered"]


@requestcontroller
def test_requestcontroller_running_requests_are_never_stopped(world: Any) -> None:
    """A long one that is answered after all has succeeded."""
    server = world(long_after=3.0, max_long=2)
    server.request("A", "B")
    server.advance(10.0)
    assert server.in_flight == ["A", "B"]
    server.answer("B", "A")
    assert server.in_flight == []


@requestcontroller
def test_requestcontroller_six_requests_in_three_bursts(world: Any) -> None:
    """Its own example: a server that takes two seconds for each, one after the other; more than three seconds is long."""
    server = world(long_after=3.0, max_long=1)
    for second in range(1, 40):
        if second <= 3:
            server.request(f"{second}a", f"{second}b")
        server.advance(1.0)
        if second % 2 == 0 and server.in_flight:
            server.answer(server.in_flight[0])
    assert server.in_flight == []
    assert server.sent == ["1a", "1b", "2a", "2b", "3a", "3b"]
    assert server.signals[0] == "congested"
    assert server.signals[-1] == "recovered"
