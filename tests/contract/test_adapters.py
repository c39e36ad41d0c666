"""What every adapter promises, for each of them.

Another adapter joins with one entry in `CASES`.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import attrs
import pydantic
import pytest
import sqlalchemy as sa
import sqlmodel
from sqlalchemy import orm

from chained_models._snapshot import MISSING, same
from chained_models.adapters import adapter_for
from chained_models.adapters.attrs import ADAPTER as ATTRS
from chained_models.adapters.dataclass import ADAPTER as DATACLASS
from chained_models.adapters.pydantic import ADAPTER as PYDANTIC
from chained_models.adapters.sqlalchemy import ADAPTER as MAPPED
from chained_models.protocols import Adapter

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TOKEN = UUID("12345678-1234-5678-1234-567812345678")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class PydanticLine(pydantic.BaseModel):
    name: str
    sizes: list[int] = []


class PydanticOrder(pydantic.BaseModel):
    id: int | None = None
    title: str = ""
    total: Decimal = Decimal(0)
    when: datetime | None = None
    token: UUID | None = None
    colour: Colour = Colour.RED
    tags: list[str] = []
    notes: dict[str, list[str]] = {}
    line: PydanticLine | None = None
    lines: list[PydanticLine] = []


class PydanticClientOrder(pydantic.BaseModel):
    id: str


@dataclass
class DataclassLine:
    name: str
    sizes: list[int] = field(default_factory=list)


@dataclass
class DataclassOrder:
    id: int | None = None
    title: str = ""
    total: Decimal = Decimal(0)
    when: datetime | None = None
    token: UUID | None = None
    colour: Colour = Colour.RED
    tags: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    line: DataclassLine | None = None
    lines: list[DataclassLine] = field(default_factory=list)


@dataclass(slots=True)
class SlottedOrder:
    id: int | None = None
    title: str = ""
    total: Decimal = Decimal(0)
    when: datetime | None = None
    token: UUID | None = None
    colour: Colour = Colour.RED
    tags: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    line: DataclassLine | None = None
    lines: list[DataclassLine] = field(default_factory=list)


@dataclass
class DataclassClientOrder:
    id: str


@attrs.define
class AttrsLine:
    name: str
    sizes: list[int] = attrs.Factory(list)


@attrs.define
class AttrsOrder:
    id: int | None = None
    title: str = ""
    total: Decimal = Decimal(0)
    when: datetime | None = None
    token: UUID | None = None
    colour: Colour = Colour.RED
    tags: list[str] = attrs.Factory(list)
    notes: dict[str, list[str]] = attrs.Factory(dict)
    line: AttrsLine | None = None
    lines: list[AttrsLine] = attrs.Factory(list)


@attrs.define
class AttrsClientOrder:
    id: str


class MappedBase(orm.DeclarativeBase):
    pass


class MappedOrder(MappedBase):
    __tablename__ = "mapped_order"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str]
    total: orm.Mapped[Decimal]
    when: orm.Mapped[datetime | None] = orm.mapped_column(sa.DateTime(timezone=True))
    token: orm.Mapped[UUID | None]
    colour: orm.Mapped[Colour]
    tags: orm.Mapped[list[str]] = orm.mapped_column(sa.JSON)
    notes: orm.Mapped[dict[str, Any]] = orm.mapped_column(sa.JSON)
    line: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(sa.JSON)
    lines: orm.Mapped[list[Any]] = orm.mapped_column(sa.PickleType)


class MappedClientOrder(MappedBase):
    __tablename__ = "mapped_client_order"
    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)


class MappedDataclassOrder(orm.MappedAsDataclass, MappedBase):
    __tablename__ = "mapped_dataclass_order"
    id: orm.Mapped[int | None] = orm.mapped_column(primary_key=True, default=None)
    title: orm.Mapped[str] = orm.mapped_column(default="")
    total: orm.Mapped[Decimal] = orm.mapped_column(default=Decimal(0))
    when: orm.Mapped[datetime | None] = orm.mapped_column(sa.DateTime(timezone=True), default=None)
    token: orm.Mapped[UUID | None] = orm.mapped_column(default=None)
    colour: orm.Mapped[Colour] = orm.mapped_column(default=Colour.RED)
    tags: orm.Mapped[list[str]] = orm.mapped_column(sa.JSON, default_factory=list)
    notes: orm.Mapped[dict[str, Any]] = orm.mapped_column(sa.JSON, default_factory=dict)
    line: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(sa.JSON, default=None)
    lines: orm.Mapped[list[Any]] = orm.mapped_column(sa.JSON, default_factory=list)


class MappedDataclassClientOrder(orm.MappedAsDataclass, MappedBase):
    __tablename__ = "mapped_dataclass_client_order"
    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)


class SQLModelOrder(sqlmodel.SQLModel, table=True):
    id: int | None = sqlmodel.Field(default=None, primary_key=True)
    title: str = ""
    total: Decimal = Decimal(0)
    when: datetime | None = None
    token: UUID | None = None
    colour: Colour = Colour.RED
    tags: list[str] = sqlmodel.Field(sa_type=sa.JSON)
    notes: dict[str, list[str]] = sqlmodel.Field(sa_type=sa.JSON)
    line: dict[str, Any] | None = sqlmodel.Field(default=None, sa_type=sa.JSON)
    lines: list[dict[str, Any]] = sqlmodel.Field(sa_type=sa.JSON)


class SQLModelClientOrder(sqlmodel.SQLModel, table=True):
    id: str = sqlmodel.Field(primary_key=True)


def edit_tags(order: Any) -> None:
    order.tags.append("edited")


def edit_notes(order: Any) -> None:
    order.notes["edited"] = []


def edit_deep_notes(order: Any) -> None:
    order.notes["a"].append("edited")


def edit_line(order: Any) -> None:
    order.line.name = "edited"


def edit_deep_line(order: Any) -> None:
    order.line.sizes.append(99)


def edit_lines(order: Any) -> None:
    order.lines.pop()


def edit_deep_lines(order: Any) -> None:
    order.lines[0].sizes[0] = 99


@dataclass
class Case:
    """One kind of model.

    Attributes:
        name: What the tests are called.
        adapter: The adapter.
        make: A new model with a value in every field; the same values each time.
        client_given: A class whose identity "id" has no default.
        edits: In-place changes of a model, one at every depth.
        written: The model as `dump` gives it.
        answer: What a JSON backend may answer, different from the model in these fields.
        typed: What it comes to.
        misfit: An answer that no field can take; None if this kind of model takes everything.
    """

    name: str
    adapter: Adapter
    make: Callable[[], Any]
    client_given: type
    edits: tuple[Callable[[Any], None], ...]
    written: Mapping[str, Any]
    answer: Mapping[str, Any]
    typed: Mapping[str, Any]
    misfit: Mapping[str, Any] | None


WRITTEN = {
    "id": 7,
    "title": "first",
    "total": "1.50",
    "when": "2026-01-02T03:04:05+00:00",
    "token": str(TOKEN),
    "colour": "blue",
    "tags": ["x", "y"],
    "notes": {"a": ["b"]},
    "line": {"name": "one", "sizes": [1]},
    "lines": [{"name": "two", "sizes": [2, 3]}],
}


def order(kind: Callable[..., Any], line: Callable[..., Any]) -> Callable[[], Any]:
    def make() -> Any:
        return kind(
            id=7,
            title="first",
            total=Decimal("1.50"),
            when=WHEN,
            token=TOKEN,
            colour=Colour.BLUE,
            tags=["x", "y"],
            notes={"a": ["b"]},
            line=line(name="one", sizes=[1]),
            lines=[line(name="two", sizes=[2, 3])],
        )

    return make


def in_memory(
    name: str, adapter: Adapter, kind: type, line: Callable[..., Any], client_given: type, written: Mapping[str, Any]
) -> Case:
    return Case(
        name,
        adapter,
        make=order(kind, line),
        client_given=client_given,
        edits=(edit_tags, edit_notes, edit_deep_notes, edit_line, edit_deep_line, edit_lines, edit_deep_lines),
        written=written,
        answer={
            "id": 8,
            "when": "2027-01-01T00:00:00Z",
            "total": "2.25",
            "colour": "red",
            "tags": [],
            "lines": [{"name": "three", "sizes": []}],
        },
        typed={
            "id": 8,
            "when": datetime(2027, 1, 1, tzinfo=UTC),
            "total": Decimal("2.25"),
            "colour": Colour.RED,
            "tags": [],
            "lines": [line(name="three", sizes=[])],
        },
        misfit={"when": "not a date"},
    )


def edit_mapped_line(order: Any) -> None:
    order.line["name"] = "edited"


def edit_deep_mapped_line(order: Any) -> None:
    order.line["sizes"].append(99)


def edit_deep_mapped_lines(order: Any) -> None:
    order.lines[0]["sizes"][0] = 99


def mapped(name: str, kind: type, client_given: type) -> Case:
    """A mapped class: what is nested is plain data in a JSON column."""
    case = in_memory(name, MAPPED, kind, dict, client_given, WRITTEN)
    case.misfit = {"token": "not a UUID"}
    case.edits = (
        edit_tags,
        edit_notes,
        edit_deep_notes,
        edit_mapped_line,
        edit_deep_mapped_line,
        edit_lines,
        edit_deep_mapped_lines,
    )
    return case


CASES = [
    in_memory(
        "pydantic",
        PYDANTIC,
        PydanticOrder,
        PydanticLine,
        PydanticClientOrder,
        {**WRITTEN, "when": "2026-01-02T03:04:05Z"},
    ),
    in_memory("dataclass", DATACLASS, DataclassOrder, DataclassLine, DataclassClientOrder, WRITTEN),
    in_memory("slotted dataclass", DATACLASS, SlottedOrder, DataclassLine, DataclassClientOrder, WRITTEN),
    in_memory("attrs", ATTRS, AttrsOrder, AttrsLine, AttrsClientOrder, WRITTEN),
    mapped("declarative", MappedOrder, MappedClientOrder),
    mapped("mapped dataclass", MappedDataclassOrder, MappedDataclassClientOrder),
    mapped("sqlmodel", SQLModelOrder, SQLModelClientOrder),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def kinds(value: Any) -> Iterator[tuple[type, ...]]:
    """The types of a value and of everything in it."""
    yield (type(value),)
    if isinstance(value, dict):
        for key, item in value.items():
            yield type(key), type(item)
            yield from kinds(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from kinds(item)


def test_its_classes_lead_to_it(case: Case) -> None:
    """The adapter that is found for a class is the one that is meant for it."""
    model_type = type(case.make())
    assert case.adapter.accepts(model_type)
    assert adapter_for(model_type) is case.adapter


def test_it_declines_other_classes(case: Case) -> None:
    """A class that is no model is accepted by none."""
    assert not case.adapter.accepts(int)
    assert not case.adapter.accepts(type("Plain", (), {}))


def test_fields_are_the_declared_names_in_order(case: Case) -> None:
    """`fields` lists what a snapshot of a complete model holds, in the same order."""
    model = case.make()
    assert case.adapter.fields(type(model)) == tuple(case.adapter.snapshot(model)) == tuple(case.written)


def test_a_snapshot_is_repeatable(case: Case) -> None:
    """Two snapshots of equal models are equal, in every value and its type."""
    one, other = case.adapter.snapshot(case.make()), case.adapter.snapshot(case.make())
    assert all(same(one[name], other[name]) for name in one)
    assert list(kinds(one)) == list(kinds(other))


def test_a_snapshot_shares_nothing_with_the_model(case: Case) -> None:
    """No later edit, at whatever depth, reaches the snapshot, and each is visible in the next one."""
    for edit in case.edits:
        model = case.make()
        snapshot = case.adapter.snapshot(model)
        kept = copy.deepcopy(snapshot)
        edit(model)
        assert snapshot == kept, edit
        assert case.adapter.snapshot(model) != kept, edit


def test_a_snapshot_leaves_the_model_as_it_is(case: Case) -> None:
    """To take one changes nothing in the model."""
    model = case.make()
    before = copy.deepcopy(case.adapter.snapshot(model))
    case.adapter.snapshot(model)
    assert case.adapter.snapshot(model) == before


def test_a_snapshot_can_be_copied_and_pickled(case: Case) -> None:
    """A snapshot outlives the process: it is plain data."""
    snapshot = case.adapter.snapshot(case.make())
    for again in (copy.deepcopy(snapshot), pickle.loads(pickle.dumps(snapshot))):
        assert again == snapshot
        assert list(kinds(again)) == list(kinds(snapshot))
        assert case.adapter.dump(type(case.make()), again) == case.written


def test_peek_sees_what_the_snapshot_holds(case: Case) -> None:
    """While nobody edits, each attribute is the same as in the snapshot; afterwards, only the untouched ones."""
    model = case.make()
    snapshot = case.adapter.snapshot(model)
    for name, value in snapshot.items():
        assert same(case.adapter.peek(model, name), value), name
    for edit in case.edits:
        model = case.make()
        edit(model)
        changed = [name for name in snapshot if not same(case.adapter.peek(model, name), snapshot[name])]
        assert len(changed) == 1, edit


def test_peek_of_an_unset_attribute_is_missing(case: Case) -> None:
    """What is not set is told from None."""
    model = case.make()
    assert case.adapter.peek(model, "no_such_attribute") is MISSING


def test_an_answer_becomes_typed_values(case: Case) -> None:
    """JSON is read into the types of the fields, and only the given ones are there."""
    loaded = case.adapter.load(type(case.make()), case.answer)
    assert loaded == case.typed
    assert list(kinds(dict(sorted(loaded.items())))) == list(kinds(dict(sorted(case.typed.items()))))


def test_an_answer_goes_all_the_way(case: Case) -> None:
    """Loaded, assigned and peeked, an answer's value is what `plain` said it would be."""
    model = case.make()
    for name, value in case.adapter.load(type(model), case.answer).items():
        plain = case.adapter.plain(type(model), name, value)
        case.adapter.assign(model, name, value)
        assert same(case.adapter.peek(model, name), plain), name
        assert same(case.adapter.snapshot(model)[name], plain), name


def test_plain_is_a_copy(case: Case) -> None:
    """What `plain` gives shares nothing with the typed value."""
    model = case.make()
    snapshot = case.adapter.snapshot(model)
    for edit in case.edits:
        model = case.make()
        plain = {name: case.adapter.plain(type(model), name, getattr(model, name)) for name in snapshot}
        edit(model)
        assert plain == snapshot, edit


def test_unknown_names_in_an_answer_are_ignored(case: Case) -> None:
    """A backend may say more than the model wants to know."""
    assert case.adapter.load(type(case.make()), {"no_such_field": 1, **case.answer}) == case.typed
    assert case.adapter.load(type(case.make()), {"no_such_field": object()}) == {}


def test_an_answer_that_does_not_fit_is_refused(case: Case) -> None:
    """A misfit raises, and with it the rest of that answer is not loaded."""
    if case.misfit is None:
        pytest.skip("takes everything")
    with pytest.raises(Exception):
        case.adapter.load(type(case.make()), {**case.answer, **case.misfit})


def test_a_dump_is_json(case: Case) -> None:
    """`dump` gives JSON's own types, and the form in which the model is written."""
    model = case.make()
    written = case.adapter.dump(type(model), case.adapter.snapshot(model))
    assert written == case.written
    assert json.loads(json.dumps(written)) == written


def test_a_part_is_dumped_alone(case: Case) -> None:
    """Only the names that are given are written, for a patch."""
    model = case.make()
    snapshot = case.adapter.snapshot(model)
    for name, value in snapshot.items():
        assert case.adapter.dump(type(model), {name: value}) == {name: case.written[name]}
    assert case.adapter.dump(type(model), {}) == {}


def test_a_dump_leaves_the_snapshot_as_it_is(case: Case) -> None:
    """Nothing that was dumped is shared or changed."""
    model = case.make()
    snapshot = case.adapter.snapshot(model)
    kept = copy.deepcopy(snapshot)
    case.adapter.dump(type(model), snapshot)
    assert snapshot == kept


def test_an_echo_changes_nothing(case: Case) -> None:
    """What was sent, answered unchanged, is read as the very values it was made of."""
    model = case.make()
    snapshot = case.adapter.snapshot(model)
    echo = json.loads(json.dumps(case.adapter.dump(type(model), snapshot)))
    for name, value in case.adapter.load(type(model), echo).items():
        assert same(case.adapter.plain(type(model), name, value), snapshot[name]), name


def test_plain_values_are_an_answer_too(case: Case) -> None:
    """A backend that stores snapshots may answer with one."""
    model = case.make()
    snapshot = case.adapter.snapshot(model)
    for name, value in case.adapter.load(type(model), snapshot).items():
        assert same(case.adapter.plain(type(model), name, value), snapshot[name]), name
        assert type(value) is type(getattr(model, name)), name


def test_who_gives_the_identity(case: Case) -> None:
    """The backend does, if the identity is one field whose default is None."""
    model_type = type(case.make())
    assert case.adapter.server_given(model_type, ("id",))
    assert not case.adapter.server_given(model_type, ("id", "title"))
    assert not case.adapter.server_given(model_type, ("title",))
    assert not case.adapter.server_given(case.client_given, ("id",))


def test_identity_and_origin_are_optional(case: Case) -> None:
    """Only a kind of model that keeps accounts has something to say about identity, origin and Session."""
    model = case.make()
    names = case.adapter.identity_fields(type(model))
    assert names is None or set(names) <= set(case.adapter.fields(type(model)))
    if names is None:
        assert case.adapter.origin(model) is None
        assert not case.adapter.attached(model)
        case.adapter.stored(model, case.written)
