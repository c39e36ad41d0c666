"""What the Backbone.js model with chained saves can do: ours does it too, and so does the port, which shows that it is faithful."""

from __future__ import annotations

import contextlib
from typing import Any

from .claims import both
from .models import REFUSED, BackboneModels, OurModels

backbone = both(OurModels, BackboneModels)


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
