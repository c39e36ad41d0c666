"""Every kind of model, through the mixin: one suite over all of them."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pydantic
import pytest
import sqlalchemy as sa
import sqlmodel
from sqlalchemy import orm

from chained_models import (
    ChainedSaveMixin,
    Conflict,
    Deleted,
    Dispatcher,
    IdentityChanged,
    Method,
    NotBound,
    OnConflict,
    Operation,
    Outcome,
    Rejected,
    SaveEvent,
)
from chained_models.backends.memory import MemoryBackend


class PydanticNote(ChainedSaveMixin, pydantic.BaseModel):
    id: int | None = None
    title: str = ""
    tags: list[str] = []
    _scratch: int = pydantic.PrivateAttr(default=3)


class PydanticReversed(pydantic.BaseModel, ChainedSaveMixin):
    id: int | None = None
    title: str = ""
    tags: list[str] = []


@dataclasses.dataclass
class DataclassNote(ChainedSaveMixin):
    id: int | None = None
    title: str = ""
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class SlotsNote(ChainedSaveMixin):
    id: int | None = None
    title: str = ""
    tags: list[str] = dataclasses.field(default_factory=list)


@attrs.define
class AttrsNote(ChainedSaveMixin):
    id: int | None = None
    title: str = ""
    tags: list[str] = attrs.Factory(list)


class Base(orm.DeclarativeBase):
    type_annotation_map = {list[str]: sa.JSON}


class DeclarativeNote(ChainedSaveMixin, Base):
    __tablename__ = "declarative_note"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str] = orm.mapped_column(default="")
    tags: orm.Mapped[list[str]] = orm.mapped_column(default=list)

    def __init__(self, **given: Any) -> None:
        super().__init__(**{"title": "", "tags": [], **given})


class MappedDataclassNote(ChainedSaveMixin, orm.MappedAsDataclass, Base):
    __tablename__ = "mapped_dataclass_note"
    id: orm.Mapped[int | None] = orm.mapped_column(primary_key=True, default=None)
    title: orm.Mapped[str] = orm.mapped_column(default="")
    tags: orm.Mapped[list[str]] = orm.mapped_column(default_factory=list)


class SQLModelNote(ChainedSaveMixin, sqlmodel.SQLModel, table=True):
    id: int | None = sqlmodel.Field(default=None, primary_key=True)
    title: str = ""
    tags: list[str] = sqlmodel.Field(default_factory=list, sa_column=sa.Column(sa.JSON))


KINDS: list[type[Any]] = [
    PydanticNote,
    PydanticReversed,
    DataclassNote,
    SlotsNote,
    AttrsNote,
    DeclarativeNote,
    MappedDataclassNote,
    SQLModelNote,
]


class Held(MemoryBackend):
    """A memory backend that carries out nothing until it is told to, and keeps what it was handed."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def execute(self, operation: Operation) -> Any:
        self.operations.append(operation)
        return super().execute(operation)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def note(request: pytest.FixtureRequest) -> Iterator[type[Any]]:
    """A model class, bound to a memory backend of its own, carried out inline."""
    kind: type[Any] = request.param
    dispatcher = Dispatcher("inline")
    kind.bind(Held(), resource="notes", dispatcher=dispatcher)
    yield kind
    dispatcher.close()


def backend_of(kind: type[Any]) -> Held:
    backend: Held = kind.__chained_binding__.backend
    return backend


def paused(model: Any, *saves: Callable[[], Any]) -> list[Any]:
    """Make saves while nothing is sent, then let them go."""
    model.chain.pause()
    handles = [save() for save in saves]
    model.chain.resume()
    return handles


def test_a_save_settles_with_the_model_and_its_identity(note: type[Any]) -> None:
    """The first save creates; the identity that the backend gave is on the model, the handle and the record."""
    model = note(title="a")
    handle = model.save()
    assert handle.result() is model
    assert handle.outcome is Outcome.SAVED
    assert (model.id, handle.identity, handle.method) == (1, 1, Method.CREATE)
    assert not model.chain.is_new


def test_the_snapshot_is_isolated(note: type[Any]) -> None:
    """What is sent is what the model was at the call, at every depth, whatever happens to it later."""
    model = note(title="a", tags=["x"])
    model.chain.pause()
    handle = model.save()
    model.title = "b"
    model.tags.append("y")
    model.chain.resume()
    assert handle.result() is model
    sent = backend_of(note).operations[0].values
    assert (sent["title"], sent["tags"]) == ("a", ["x"])
    assert (model.title, model.tags) == ("b", ["x", "y"])


def test_the_argument_of_save_is_set_and_copied(note: type[Any]) -> None:
    """`save(attributes)` sets them first, and a later change of the argument does not leak into the queued write."""
    model = note()
    tags = ["x"]
    model.chain.pause()
    model.save({"title": "a", "tags": tags})
    tags.append("leak")
    model.chain.resume()
    assert backend_of(note).operations[0].values["tags"] == ["x"]
    assert model.title == "a"


def test_an_unknown_attribute_is_refused(note: type[Any]) -> None:
    """`save({"titel": ...})` is an error at the call, and not an attribute that is never saved."""
    model = note(title="a")
    with pytest.raises((AttributeError, ValueError), match="titel"):
        model.save({"titel": "b"})
    assert not hasattr(model, "titel")
    assert len(model.chain) == 0


def test_one_create_and_then_updates(note: type[Any]) -> None:
    """However many saves wait, a new model is created once, and the others carry the identity it got."""
    model = note(title="a")
    paused(model, model.save, model.save, lambda: model.save({"title": "z"}))
    methods = [operation.method for operation in backend_of(note).operations]
    assert methods == [Method.CREATE, Method.UPDATE, Method.UPDATE]
    assert [operation.identity for operation in backend_of(note).operations] == [None, 1, 1]
    assert [operation.values["id"] for operation in backend_of(note).operations[1:]] == [1, 1]
    assert backend_of(note).stored("notes")[1]["title"] == "z"


def test_an_answer_keeps_what_was_edited_meanwhile(note: type[Any]) -> None:
    """A refresh takes the stored values, but not for an attribute that was changed after the call."""
    model = note(title="a", tags=["x"])
    model.save()
    other = note(id=1, title="b", tags=["server"])
    other.save()
    model.chain.pause()
    events: list[SaveEvent] = []
    model.chain.on("sync", events.append)
    handle = model.refresh()
    model.title = "mine"
    model.chain.resume()
    handle.result()
    assert (model.title, model.tags) == ("mine", ["server"])
    assert (events[-1].taken, events[-1].kept) == (("tags",), ("title",))
    assert model.chain.unsaved_changes() == {"title": "mine"}


def test_refresh_loads_an_object_that_is_known_by_identity_only(note: type[Any]) -> None:
    """`Note(id=1).refresh()` loads, and `discard=True` takes everything."""
    note(title="a", tags=["x"]).save()
    model = note(id=1)
    model.chain.mark_saved()
    model.refresh().result()
    assert (model.title, model.tags) == ("a", ["x"])
    model.title = "mine"
    model.refresh(discard=True).result()
    assert model.title == "a"


def test_a_patch_sends_the_difference_and_nothing_if_there_is_none(note: type[Any]) -> None:
    """`patch=True` sends what differs from the base, in-place mutations included; an empty difference needs no request."""
    model = note(title="a", tags=["x"])
    model.save()
    model.tags.append("y")
    assert model.save(patch=True).result() is model
    last = backend_of(note).operations[-1]
    assert (last.method, last.changed) == (Method.PATCH, frozenset({"tags"}))
    sent = len(backend_of(note).operations)
    handle = model.save(patch=True)
    assert handle.outcome is Outcome.SAVED
    assert model.save(update_fields=[]).outcome is Outcome.SAVED
    assert len(backend_of(note).operations) == sent


def test_what_a_failed_patch_carried_is_carried_by_the_next(note: type[Any]) -> None:
    """A failed save merges nothing, so its difference is still one."""
    model = note(title="a")
    model.save()
    backend_of(note).fault = lambda operation: Conflict("no")
    model.title = "b"
    assert isinstance(model.save(patch=True).exception(), Conflict)
    backend_of(note).fault = None
    model.tags = ["x"]
    model.save(patch=True).result()
    assert backend_of(note).operations[-1].changed == {"title", "tags"}


def test_two_objects_of_one_identity_share_a_chain_not_a_base(note: type[Any]) -> None:
    """Two Python objects for one stored thing are saved one after the other; each knows its own version."""
    first = note(title="a")
    first.save()
    second = note(id=1, title="b")
    second.chain.mark_saved(version=1)
    second.chain.pause()
    assert first.chain.paused
    one, two = first.save({"title": "c"}), second.save({"title": "d"})
    assert len(first.chain) == len(second.chain) == 2
    first.chain.resume()
    assert one.outcome is Outcome.SAVED
    assert isinstance(two.exception(), Conflict)  # the first wrote in between, as the second does not know


def test_a_failed_value_is_set_back(note: type[Any]) -> None:
    """`revert()` gives the object what is stored, as values of its own: editing them in place is a change again."""
    model = note(title="a", tags=["x"])
    model.save()
    backend_of(note).fault = lambda operation: Rejected("no")
    model.title = "b"
    model.tags.append("y")
    assert isinstance(model.save().exception(), Rejected)
    backend_of(note).fault = None
    model.title = "c"
    model.chain.revert()
    assert (model.title, model.tags) == ("c", ["x"])
    model.tags.append("z")
    assert model.chain.unsaved_changes() == {"title": "c", "tags": ["x", "z"]}
    model.chain.revert()
    assert (model.title, model.tags) == ("c", ["x", "z"])
    model.chain.revert(all=True)
    assert (model.id, model.title, model.tags) == (1, "a", ["x"])
    assert not model.chain.unsaved_changes()
    assert model.save().result() is model


# A mapped class has versions where it has a version column, and then of its own database; see tests/integration.
@pytest.mark.parametrize("note", [kind for kind in KINDS if not hasattr(kind, "__mapper__")], indirect=True)
def test_two_objects_are_rebased(note: type[Any]) -> None:
    """With REBASE both changes are stored, and the object has both; the queue goes with it, in one round."""
    note.bind(None, on_conflict=OnConflict.REBASE)
    try:
        model = note(title="a", tags=["x"])
        model.save()
        other = note(id=1, title="a", tags=["x", "theirs"])
        other.chain.mark_saved(version=1)
        other.save()
        model.title = "b"
        first, second = paused(model, model.save, lambda: model.save({"title": "c"}, patch=True))
        assert (first.outcome, second.outcome) == (Outcome.SUPERSEDED, Outcome.SAVED)
        assert backend_of(note).stored("notes")[1] == {"id": 1, "title": "c", "tags": ["x", "theirs"]}
        assert (model.title, model.tags) == ("c", ["x", "theirs"])
        model.tags.append("ours")
        assert model.chain.unsaved_changes() == {"tags": ["x", "theirs", "ours"]}
        other.refresh()
        assert other.save({"title": "theirs"}).outcome is Outcome.SAVED
        assert isinstance(model.save({"title": "ours"}).exception(), Conflict)
    finally:
        note.bind(None, on_conflict=OnConflict.FAIL)


def clones(kind: type[Any]) -> list[Callable[[Any], Any]]:
    """The ways to copy a model of that kind."""
    ways: list[Callable[[Any], Any]] = [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
    if not hasattr(kind, "__mapper__"):
        ways.append(copy.copy)  # a shallow copy of a mapped object shares the state of the original: not a copy at all
    if issubclass(kind, pydantic.BaseModel):
        ways.append(lambda model: model.model_copy(deep=True))
    return ways


def test_copies_start_afresh_and_show_nothing(note: type[Any]) -> None:
    """A copy, however made, of a model with queued saves is saved on its own, and nothing of the chain shows in it."""
    for number, clone in enumerate(clones(note)):
        model = note(title="a")
        model.chain.pause()
        model.save()
        twin = clone(model)
        assert repr(twin) == repr(model) or "object at" in repr(model)
        assert len(twin.chain) == 0
        assert not any("chain" in name for name in getattr(twin, "__dict__", {}))
        model.chain.resume()
        twin.save().result()
        assert (model.id, twin.id) == (2 * number + 1, 2 * number + 2)


def test_the_chain_does_not_show(note: type[Any]) -> None:
    """Neither dump, repr, comparison nor the mapper know of the chain."""
    model, twin = note(title="a"), note(title="a")
    model.save()
    twin.id = model.id
    if not hasattr(note, "__mapper__") or note is MappedDataclassNote:
        assert model == twin
    if hasattr(model, "model_dump"):
        assert model.model_dump() == {"id": 1, "title": "a", "tags": []}
    if hasattr(note, "__mapper__"):
        assert {attribute.key for attribute in sa.inspect(note).attrs} == {"id", "title", "tags"}


def test_identity_by_client(note: type[Any]) -> None:
    """With identities of our own the first save creates, with the identity; a second object joins the record."""
    note.bind(Held(), resource="notes", identity_by="client")
    try:
        model = note(id=7, title="a")
        assert model.save().method is Method.CREATE
        assert model.save().method is Method.UPDATE
        assert note(id=7, title="b").save().method is Method.UPDATE
        assert set(backend_of(note).stored("notes")) == {7}
    finally:
        note.bind(Held(), identity_by="server")


def test_a_confirmed_identity_is_fixed(note: type[Any]) -> None:
    """Changing the identity of a stored object raises at the call; nothing is queued."""
    model = note(title="a")
    model.save()
    model.id = 99
    with pytest.raises(IdentityChanged):
        model.save()
    assert len(model.chain) == 0


def test_delete_and_after(note: type[Any]) -> None:
    """A deleted object cannot be saved; a delete of one never stored needs no request and cancels what was queued."""
    model = note(title="a")
    model.save()
    assert model.delete().outcome is Outcome.SAVED
    with pytest.raises(Deleted):
        model.save()
    fresh = note(title="b")
    fresh.chain.pause()
    queued = fresh.save()
    sent = len(backend_of(note).operations)
    assert fresh.delete().outcome is Outcome.SAVED
    assert queued.outcome is Outcome.CANCELLED
    assert len(backend_of(note).operations) == sent
    assert note(title="c").delete().outcome is Outcome.SAVED


def test_nothing_is_left_when_the_models_are_gone(note: type[Any]) -> None:
    """An idle object leaves neither record nor facts behind, and its handle holds nothing once it is dropped."""
    model = note(title="a")
    handle = model.save()
    model.save(patch=True)
    dispatcher = note.__chained_binding__.dispatcher
    port = dispatcher.port(backend_of(note))
    watch = weakref.ref(model)
    del model, handle
    backend_of(note).operations.clear()
    gc.collect()
    assert watch() is None
    assert len(port.objects) == 0
    assert len(port.records) == 0
    assert len(dispatcher) == 0


def test_unbound_is_a_clear_error(note: type[Any]) -> None:
    """A class without a backend says both ways to give it one."""
    binding = note.__chained_binding__
    type.__delattr__(note, "__chained_binding__")
    try:
        with pytest.raises(NotBound, match=r"class keyword.*bind"):
            note().save()
    finally:
        type.__setattr__(note, "__chained_binding__", binding)
