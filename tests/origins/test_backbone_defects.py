"""Backbone.js and its model with chained saves: what went wrong there, and does not here."""

from __future__ import annotations

import contextlib
from typing import Any

from .claims import ours_alone
from .models import (
    REFUSED,
    BackboneModels,
    OurModels,
    RollingBackModels,
    UnchainedModels,
    WholeCopyModels,
    boom,
    new_lock,
)

TOO_LONG = "much longer than a title may be"

the_original_breaks = ours_alone(OurModels, BackboneModels)


# The chain is wedged: a path out of "in flight" is missing


@the_original_breaks("the chain is wedged")
def test_ch1_an_answer_that_fails_validation_does_not_wedge_the_chain(world: Any) -> None:
    """CH1: the server says something that this program would not: what is queued behind that save is sent all the same."""
    models = world()
    page = models.stored()
    models.save(page, {"title": "b"})
    models.save(page, {"title": "c"})
    models.wire.answer(title=TOO_LONG)
    assert models.wire.titles == ["b", "c"], "the chain is wedged"


@the_original_breaks("nobody is told that it was stored")
def test_an14_an_answer_that_fails_validation_is_a_success(world: Any) -> None:
    """AN14: the write has happened, so the save ends SAVED, and the values that do not fit are left out."""
    models = world()
    page = models.stored()
    saved = models.save(page, {"title": "b"})
    models.wire.answer(title=TOO_LONG)
    assert models.value(page, "title") == "b"
    assert saved.outcome == "SAVED", "nobody is told that it was stored"


@the_original_breaks("the chain is wedged")
def test_ch1_a_raising_success_callback_does_not_wedge_the_chain(world: Any) -> None:
    """CH1: the program's callback raises: the next save is sent."""
    models = world()
    page = models.stored()
    models.save(page, {"title": "b"}, then=boom)
    models.save(page, {"title": "c"})
    models.wire.answer()
    assert models.wire.titles == ["b", "c"], "the chain is wedged"


@the_original_breaks("the chain is wedged")
def test_ch8_a_raising_error_callback_does_not_wedge_the_chain(world: Any) -> None:
    """CH8: the same after a refused save."""
    models = world()
    page = models.stored()
    models.save(page, {"title": "b"}, then=boom)
    models.save(page, {"title": "c"})
    models.wire.refuse(REFUSED)
    assert models.wire.titles == ["b", "c"], "the chain is wedged"


@the_original_breaks("the second receiver heard nothing")
def test_ch8_a_raising_receiver_does_not_silence_the_others(world: Any) -> None:
    """CH8: each receiver is called, whatever the one before it raises."""
    models = world()
    page = models.stored()
    heard: list[str] = []
    models.on(page, "sync", boom)
    models.on(page, "sync", lambda *_: heard.append("sync"))
    models.save(page, {"title": "b"})
    models.wire.answer()
    assert heard == ["sync"], "the second receiver heard nothing"


@the_original_breaks("the chain is wedged")
def test_ch1_a_save_of_an_invalid_model_does_not_wedge_the_chain(world: Any) -> None:
    """CH1: it is refused at the call, and leaves nothing behind: the next, valid one is sent."""
    models = world()
    page = models.stored()
    with contextlib.suppress(ValueError):
        models.save(page, {"title": TOO_LONG})
    assert models.wire.sent == []
    models.save(page, {"title": "b"})
    assert models.wire.titles == ["b"], "the chain is wedged"


@the_original_breaks("a queued save looks like an invalid one")
def test_sn19_a_queued_save_and_an_invalid_one_are_told_apart(world: Any) -> None:
    """SN19: `save()` gives a handle for what is queued, and raises for what is not."""
    models = world()
    page = models.stored()
    models.save(page, {"title": "b"})
    queued = models.save(page, {"title": "c"}).returned
    models.wire.answer_all()
    invalid = None
    with contextlib.suppress(ValueError):
        invalid = models.save(page, {"title": TOO_LONG}).returned
    assert queued is not invalid, "a queued save looks like an invalid one"


@the_original_breaks("the chain is wedged")
def test_ch1_a_delete_of_a_new_model_does_not_wedge_the_chain(world: Any) -> None:
    """CH1: what was queued before the delete is sent, when its turn comes."""
    models = world()
    page = models.new()
    models.save(page, {"title": "b"})
    models.save(page, {"title": "c"})
    models.delete(page)
    models.wire.answer_all()
    assert models.wire.titles[:2] == ["b", "c"], "the chain is wedged"


# The chain is let go by the wrong one


@the_original_breaks("two saves in flight")
def test_ch2_the_end_of_a_read_does_not_let_the_next_save_go(world: Any) -> None:
    """CH2: only the end of the save in flight makes room for the next; a refresh that ends does not."""
    models = world()
    page = models.stored()
    models.refresh(page)
    models.save(page, {"title": "b"})
    models.save(page, {"title": "c"})
    models.wire.answer("read")
    writes = [flight for flight in models.wire.flying if flight.method == "update"]
    assert len(writes) == 1, "two saves in flight"


@the_original_breaks("two things were created")
def test_ch2_the_end_of_a_read_does_not_let_a_new_model_be_created_twice(world: Any) -> None:
    """CH2, AL1: the same while a create is in flight."""
    models = world()
    page = models.new()
    models.save(page, {"title": "b"})
    models.save(page, {"title": "c"})
    models.refresh(page)
    models.wire.answer("read", title="b")
    models.wire.answer_all()
    assert models.wire.methods.count("create") == 1, "two things were created"


# Snapshots


@the_original_breaks("an edit after the call was sent")
def test_sn1_an_edit_inside_a_list_does_not_reach_a_queued_save(world: Any) -> None:
    """SN1: what is sent is what the model was at the call, at every depth."""
    models = world()
    page = models.stored()
    models.save(page, {"title": "b"})
    models.save(page, {"tags": ["red"]})
    models.value(page, "tags").append("green")
    models.wire.answer_all()
    assert models.wire.sent[1].values["tags"] == ["red"], "an edit after the call was sent"


@the_original_breaks("an edit of the argument was sent")
def test_sn1_an_edit_of_the_argument_does_not_reach_a_queued_save(world: Any) -> None:
    """SN1: nor does an edit of what was handed to `save()`."""
    models = world()
    page = models.stored()
    tags = ["red"]
    models.save(page, {"title": "b"})
    models.save(page, {"tags": tags})
    tags.append("green")
    models.wire.answer_all()
    assert models.wire.sent[1].values["tags"] == ["red"], "an edit of the argument was sent"


@the_original_breaks("cannot pickle", raised=TypeError, on=WholeCopyModels)
def test_sn2_a_model_with_a_lock_is_queued(world: Any) -> None:
    """SN2: the declared attributes are copied, not the model with all that hangs on it."""
    models = world()
    page = models.stored()
    models.equip(page, new_lock())
    models.save(page, {"title": "b"})
    models.save(page, {"title": "c"})
    models.wire.answer_all()
    assert models.wire.titles == ["b", "c"]


@the_original_breaks("one model was given the values of the other")
def test_sn4_two_models_have_two_chains(world: Any) -> None:
    """SN4: what is queued for one model is not taken out, nor sent, by the other, whose save ends first."""
    models = world()
    one, other = models.new(id=1, title="one"), models.new(id=2, title="other")
    models.save(other)
    models.save(one)
    models.save(one, {"title": "one again"})
    models.wire.answer()
    assert models.value(other, "title") == "other", "one model was given the values of the other"
    models.wire.answer_all()
    assert models.wire.titles == ["other", "one", "one again"]


# Answers


@the_original_breaks("the answer overwrote an edit")
def test_an1_an_answer_does_not_overwrite_edits_made_in_flight(world: Any) -> None:
    """AN1: an attribute that was changed since keeps its value; one that was not takes the server's."""
    models = world()
    page = models.stored()
    models.save(page, {"title": "b", "tags": ["red"]})
    models.edit(page, title="typed since")
    models.wire.answer(title="B", tags=["RED"])
    assert models.value(page, "tags") == ["RED"]
    assert models.value(page, "title") == "typed since", "the answer overwrote an edit"


@the_original_breaks("the old state replaced the new")
def test_an8_a_refresh_during_a_save_does_not_bring_back_the_old_state(world: Any) -> None:
    """AN8: a read that the server carries out before the write does not undo the edit."""
    models = world()
    page = models.stored()
    models.save(page, {"title": "b"})
    models.refresh(page)
    models.wire.answer("read", title="a")
    models.wire.answer("update")
    assert models.value(page, "title") == "b", "the old state replaced the new"


@the_original_breaks("a later edit is lost", on=RollingBackModels)
def test_an6_a_failed_save_does_not_take_later_edits_away(world: Any) -> None:
    """AN6: what the user has typed since stays."""
    models = world()
    page = models.stored()
    models.save(page, {"title": "b"})
    models.edit(page, title="typed since")
    models.wire.refuse(REFUSED)
    assert models.value(page, "title") == "typed since", "a later edit is lost"


@the_original_breaks("the copy was written back")
def test_an6_sending_a_queued_save_does_not_set_the_model_back(world: Any) -> None:
    """AN6: the copy in the queue is for the server; the model stays as it is."""
    models = world()
    page = models.stored()
    models.save(page, {"title": "b"})
    models.save(page, {"title": "c"})
    models.edit(page, title="typed since")
    models.wire.answer()
    assert models.wire.titles == ["b", "c"]
    assert models.value(page, "title") == "typed since", "the copy was written back"


@the_original_breaks("not what is stored", on=RollingBackModels)
def test_an6_going_back_after_two_failures_goes_back_to_what_is_stored(world: Any) -> None:
    """AN6: not to what was there before the last of them, which was refused as well."""
    models = world()
    page = models.stored()
    models.save(page, {"title": "b"})
    models.save(page, {"title": "c"})
    models.wire.refuse(REFUSED)
    models.wire.refuse(REFUSED)
    models.go_back(page)
    assert models.value(page, "title") == "a", "not what is stored"


@the_original_breaks("a later edit is lost", on=RollingBackModels)
def test_an6_going_back_after_two_failures_leaves_what_was_edited_between(world: Any) -> None:
    """AN6: only what still holds a refused value goes back, and to what is stored."""
    models = world()
    page = models.stored()
    models.save(page, {"title": "b"})
    models.save(page, {"title": "c"})
    models.wire.refuse(REFUSED)
    models.edit(page, tags=["typed since"])
    models.wire.refuse(REFUSED)
    models.go_back(page)
    assert models.value(page, "tags") == ["typed since"], "a later edit is lost"
    assert models.value(page, "title") == "a"


# Creates and deletes


@the_original_breaks("two things were created", on=UnchainedModels)
def test_al1_two_saves_of_a_new_model_create_it_once(world: Any) -> None:
    """AL1: the second save is an update, of the identity that the first one was given."""
    models = world()
    page = models.new()
    models.save(page, {"title": "b"})
    models.save(page, {"title": "c"})
    models.wire.answer_all()
    assert models.wire.methods == ["create", "update"], "two things were created"
    assert models.wire.sent[1].values["id"] == 1


@the_original_breaks("an orphan is left behind")
def test_al2_a_delete_during_the_create_deletes_what_was_created(world: Any) -> None:
    """AL2: it waits for the identity, and is sent with it."""
    models = world()
    page = models.new()
    models.save(page)
    models.delete(page)
    models.wire.answer_all()
    assert models.wire.methods == ["create", "delete"], "an orphan is left behind"
    assert models.wire.sent[1].values["id"] == 1


@the_original_breaks("nobody is told that nothing is left")
def test_al2_a_delete_during_a_create_that_is_refused_has_nothing_to_delete(world: Any) -> None:
    """AL2: nothing was created, so nothing is sent, and the delete is SAVED."""
    models = world()
    page = models.new()
    models.save(page)
    deleted = models.delete(page)
    models.wire.refuse(REFUSED)
    assert models.wire.methods == ["create"]
    assert deleted.outcome == "SAVED", "nobody is told that nothing is left"


@the_original_breaks("nobody is told that it is gone")
def test_al14_a_delete_of_what_was_never_saved_ends(world: Any) -> None:
    """AL14: there is nothing to send, and the delete is SAVED."""
    models = world()
    deleted = models.delete(models.new())
    assert models.wire.sent == []
    assert deleted.outcome == "SAVED", "nobody is told that it is gone"


# Never ending


@the_original_breaks("saves are stranded")
def test_ch5_a_long_chain_is_drained_with_a_flat_stack(world: Any) -> None:
    """CH5: however many are queued, and although each is answered at once."""
    models = world()
    page = models.stored()
    for n in range(2000):
        models.save(page, {"title": str(n)})
    models.wire.at_once = True
    models.wire.answer()
    assert len(models.wire.sent) == 2000, "saves are stranded"


@the_original_breaks("one lost answer stops the chain for ever")
def test_tm7_a_save_that_is_never_answered_does_not_hold_up_the_chain_for_ever(world: Any) -> None:
    """TM7: its time ends, and the next one is sent."""
    models = world()
    page = models.stored()
    lost = models.save(page, {"title": "b"})
    models.save(page, {"title": "c"})
    models.advance(1000)
    assert models.wire.titles == ["b", "c"], "one lost answer stops the chain for ever"
    assert lost.outcome == "ABANDONED"
