"""A snapshot is what a plain conversion, with `copy.deepcopy` for what it does not know, would make of the model, and shares
nothing with it.

Whatever makes it quick must not show: here are the graphs for which a quick way could be wrong, against the slow and obvious
one. Values that appear twice, cycles, subclasses of leaves, classes that copy themselves, fields that are missing or stand in
another order, extras, and many of a kind with one among them that is not.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import enum
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import attrs
import pydantic
import pytest
from annotated_types import Ge, MaxLen
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from sqlalchemy import JSON, ForeignKey, PickleType, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from chained_models._snapshot import MISSING, same
from chained_models.adapters import adapter_for
from chained_models.adapters._fields import LEAVES, FieldsOf
from chained_models.exceptions import SnapshotError

# What a model may hold.


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Text(str):  # noqa: SLOT000
    """A leaf's subclass, with something of its own that can be edited."""


class Number(int):
    pass


class Thing:
    def __init__(self, held: Any) -> None:
        self.held = held


class Careful:
    """Copies itself, in its own way."""

    def __init__(self, held: Any) -> None:
        self.held = held
        self.copies = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Careful:
        made = Careful(None)
        memo[id(self)] = made
        made.held = copy.deepcopy(self.held, memo)
        made.copies = self.copies + 1
        return made


class Pair(NamedTuple):
    one: Any
    other: Any


class Items(list[Any]):
    """A list of another kind."""


class Table(dict[Any, Any]):
    """A dict of another kind."""


class Line(BaseModel):
    sku: Any = ""
    count: Any = 0
    note: Any = None


class GiftLine(Line):
    wish: Any = None


class OpenLine(BaseModel):
    model_config = ConfigDict(extra="allow")
    sku: Any = ""
    count: Any = 0
    note: Any = None


@dataclasses.dataclass(repr=False)
class DataLine:
    sku: Any = ""
    count: Any = 0
    note: Any = None


@dataclasses.dataclass(slots=True, repr=False)
class SlottedLine:
    sku: Any = ""
    count: Any = 0
    note: Any = None


@dataclasses.dataclass(repr=False)
class CheckedLine:
    """The attribute is a descriptor's business."""

    sku: Any
    count: Any = 0
    note: Any = None

    @property
    def sku(self) -> Any:
        return self._sku

    @sku.setter
    def sku(self, value: Any) -> None:
        self._sku = value


@attrs.define(repr=False)
class AttrsLine:
    sku: Any = ""
    count: Any = 0
    note: Any = None


LINES = (Line, GiftLine, OpenLine, DataLine, SlottedLine, CheckedLine, AttrsLine)


class PydanticHolder(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: Any = None
    b: Any = None
    c: Any = None


@dataclasses.dataclass(repr=False)
class DataHolder:
    a: Any = None
    b: Any = None
    c: Any = None


@dataclasses.dataclass(slots=True, repr=False)
class SlottedHolder:
    a: Any = None
    b: Any = None
    c: Any = None


@attrs.define(repr=False)
class AttrsHolder:
    a: Any = None
    b: Any = None
    c: Any = None


# What a snapshot deep-copies, of that what holds something.
OPAQUE = (Thing, Careful, Text, Number, Items, Table)
HOLDERS = (PydanticHolder, DataHolder, SlottedHolder, AttrsHolder)

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(width=16), st.text(max_size=2), st.binary(max_size=2),
    st.sampled_from([
        Colour.RED, Colour.BLUE, date(2026, 1, 2), datetime(2026, 1, 2, tzinfo=UTC), time(1), timedelta(1),
        Decimal("1.5"), UUID(int=7), PurePosixPath("a"), int, len, 1j, range(3), ...,
    ]),
)  # fmt: skip
names = st.sampled_from(["sku", "count", "note", "more"])


@st.composite
def graphs(draw: st.DrawFn) -> list[Any]:
    """Things that hold one another in any way, cycles included."""
    parts: list[Any] = draw(st.lists(leaves, min_size=1, max_size=4))

    def any_part() -> Any:
        return parts[draw(st.integers(0, len(parts) - 1))]

    kinds: list[Callable[[], Any]] = [
        list, dict, set, deque, OrderedDict, Counter, lambda: defaultdict(list),
        lambda: bytearray(b"ab"), lambda: Thing(any_part()), lambda: Careful(any_part()),
        lambda: Text("text"), lambda: Number(3), lambda: SecretStr("secret"),
        lambda: (any_part(), any_part()), lambda: (1, "a"), lambda: frozenset({1, "a"}), lambda: MappingProxyType({"a": any_part()}),
        lambda: Pair(any_part(), any_part()), lambda: Pair(1, "a"), lambda: Items([any_part()]), Table,
        *LINES,
        # Many of a kind, with leaves, or with one among them that is in the way.
        lambda: [Line(sku=str(n), count=n) for n in range(5)],
        lambda: [*([line] * 2 if isinstance(line := any_part(), Line) else []), *(Line(sku=n) for n in range(4))],
        lambda: [*(Line(sku=n) for n in range(4)), Line(sku=any_part(), note=any_part())],
        lambda: [*(OpenLine(sku=n) for n in range(4)), OpenLine(sku=1, more=any_part())],
        lambda: [*(DataLine(n) for n in range(4)), DataLine(any_part(), any_part())],
        lambda: [*(CheckedLine(n) for n in range(4)), CheckedLine(any_part(), any_part())],
        lambda: [*(SlottedLine(n) for n in range(4)), SlottedLine(any_part(), any_part())],
        lambda: [Thing(any_part()) for _ in range(4)],
        lambda: [*(Pair(n, "a") for n in range(3)), Pair(any_part(), any_part())],
        lambda: [Items([any_part()]) for _ in range(4)],
        lambda: [{"a": n, "b": None} for n in range(5)],
        lambda: [*({"a": n} for n in range(4)), {"a": any_part()}],
        lambda: [Colour.RED, Colour.BLUE, Colour.RED, Colour.RED],
    ]  # fmt: skip
    for _ in range(draw(st.integers(1, 8))):
        parts.append(draw(st.sampled_from(kinds))())
    for part in list(parts):
        for _ in range(draw(st.integers(0, 3))):
            edit(part, draw(names), any_part())
    for part in everything(parts):
        if isinstance(part, OPAQUE) and any(isinstance(each, MappingProxyType) for each in everything(part)):
            vars(part).update({name: None for name in ("held", "extra") if name in vars(part)})
            if isinstance(part, (Items, Table)):
                part.clear()
    return parts


def edit(part: Any, name: str, value: Any) -> None:
    """Put `value` into `part`, if it holds anything."""
    match part:
        case list() | deque():
            part.append(value)
        case set():
            if type(value) in LEAVES:
                part.add(value)
        case Counter():
            part[name] += 1  # deepcopy makes two of a Counter that leads back to itself
        case dict():
            part[name] = value
        case bytearray():
            part.append(1)
        case Thing() | Careful():
            part.held = value
        case Text() | Number():
            part.extra = value
        case BaseModel():
            held = part.__dict__ if name in type(part).model_fields else part.__pydantic_extra__
            if held is not None:
                held.pop(name, None)  # to stand last, which is another order
                if value is not None:
                    held[name] = value
        case _ if type(part) in (DataLine, SlottedLine, AttrsLine) and name != "more":
            if value is not None or type(part) is AttrsLine:  # which deepcopy refuses without one of its attributes
                setattr(part, name, value)
            else:
                with contextlib.suppress(AttributeError):
                    delattr(part, name)
        case CheckedLine():
            part.sku = value


# The slow and obvious way.


def converted(value: Any, known: dict[int, Any], apart: dict[int, Any]) -> Any:
    """What a snapshot holds in the place of a value. What is in an object that is deep-copied is apart from all else."""
    if id(value) in known:
        return known[id(value)]
    made: Any
    if (fields := fields_in(value)) is not None:
        made = known[id(value)] = FieldsOf()
        made.model_type = type(value)
        made.update({name: converted(item, known, apart) for name, item in fields.items()})
        return made
    if isinstance(value, OPAQUE):
        return copy.deepcopy(value, apart)
    match value:
        case list():
            made = known[id(value)] = []
            made.extend(converted(item, known, apart) for item in value)
        case deque():
            made = known[id(value)] = deque(maxlen=value.maxlen)
            made.extend(converted(item, known, apart) for item in value)
        case set():
            made = known[id(value)] = set(value)
        case dict():
            made = known[id(value)] = defaultdict(list) if type(value) is defaultdict else type(value)()
            made.update({key: converted(item, known, apart) for key, item in value.items()})
        case tuple():
            items = [converted(item, known, apart) for item in value]
            made = known.setdefault(id(value), Pair(*items) if type(value) is Pair else tuple(items))
        case _:
            made = copy.deepcopy(value, apart)
    return made


def fields_in(model: Any) -> dict[str, Any] | None:
    declared: Any
    if isinstance(model, BaseModel):
        held = {name: model.__dict__[name] for name in type(model).model_fields if name in model.__dict__}
        return held | (model.__pydantic_extra__ or {})
    if dataclasses.is_dataclass(model):
        declared = [field.name for field in dataclasses.fields(model)]
    elif attrs.has(type(model)):
        declared = [field.name for field in attrs.fields(type(model))]
    else:
        return None
    return {name: getattr(model, name) for name in declared if hasattr(model, name)}


def reference(model: Any) -> dict[str, Any]:
    known: dict[int, Any] = {}
    apart: dict[int, Any] = {}
    return {name: converted(value, known, apart) for name, value in (fields_in(model) or {}).items()}


def parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """What is held by a typed or plain value, in order, and where."""
    match value:
        case _ if (fields := fields_in(value)) is not None:
            yield from fields.items()
        case dict() | MappingProxyType():
            yield from ((repr(key), item) for key, item in value.items())
        case list() | tuple() | deque():
            yield from ((str(n), item) for n, item in enumerate(value))
        case Thing() | Careful() | Text() | Number():
            yield from vars(value).items()


def drawn(root: Any) -> list[Any]:
    """The whole graph as a list: two of them are equal if values, types, orders and whatever is there twice are."""
    seen: dict[int, int] = {}
    told: list[Any] = []
    waiting = [("", root)]
    while waiting:
        where, value = waiting.pop()
        kind = value.model_type if isinstance(value, FieldsOf) else None
        if type(value) in LEAVES or isinstance(value, (enum.Enum, PurePosixPath)):
            told.append((where, type(value), "nan" if isinstance(value, float) and math.isnan(value) else value))
            continue
        # Of what cannot be edited nobody can tell whether it is the same twice.
        new = id(value) not in seen
        told.append((where, type(value), kind, seen.setdefault(id(value), len(seen)) if mutable(value) else None))
        if new:
            match value:
                case set() | frozenset():
                    told.append(sorted(map(repr, value)))
                case bytearray():
                    told.append(bytes(value))
                case Text() | Number():
                    told.append(repr(value))
                case SecretStr():
                    told.append(value.get_secret_value())
            waiting.extend(parts_of(value))
    return told


def mutable(value: Any) -> bool:
    return isinstance(value, (list, dict, set, deque, bytearray, Thing, Careful, Text, Number)) or (
        fields_in(value) is not None
    )


def reachable(root: Any) -> list[Any]:
    """Every part that somebody could edit."""
    seen: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) not in seen:
            seen[id(value)] = value
            waiting.extend(item for _, item in parts_of(value))
    return [value for value in seen.values() if mutable(value)]


def everything(root: Any) -> list[Any]:
    seen: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) not in seen:
            seen[id(value)] = value
            waiting.extend(item for _, item in parts_of(value))
    return list(seen.values())


@st.composite
def holders(draw: st.DrawFn) -> Any:
    parts = draw(graphs())
    holder = draw(st.sampled_from(HOLDERS))()
    for name in draw(st.lists(st.sampled_from("abc"), max_size=3)):
        setattr(holder, name, parts[draw(st.integers(0, len(parts) - 1))])
    if isinstance(holder, PydanticHolder) and draw(st.booleans()):
        holder.extra = parts[-1]
    if draw(st.booleans()):
        delattr(holder, "b")
    return holder


@given(holders())
def test_a_snapshot_is_the_deep_copy_as_plain_values(model: Any) -> None:
    """Same values, same types, same order, the same things twice, for every kind of model and of graph; but what is inside of
    an object that is deep-copied is the same as what is inside of such objects only."""
    adapter = adapter_for(type(model))
    snapshot = adapter.snapshot(model, check=False)
    if not any(isinstance(part, MappingProxyType) for part in everything(model)):  # which deepcopy does not know
        assert drawn(snapshot) == drawn(reference(model))
    assert list(snapshot) == list(fields_in(model) or {})
    again = adapter.snapshot(model, check=False)  # by what was worked out the first time
    assert drawn(again) == drawn(snapshot)


@given(holders(), st.lists(st.tuples(names, leaves), min_size=1, max_size=3))
def test_a_snapshot_shares_nothing_with_its_model(model: Any, edits: list[tuple[str, Any]]) -> None:
    """Editing the model at any depth is not seen in the snapshot, and the other way round."""
    snapshot = adapter_for(type(model)).snapshot(model, check=False)
    theirs, ours = reachable(model), reachable(snapshot)
    assert not {id(part) for part in theirs} & {id(part) for part in ours}
    before = drawn(snapshot)
    for part in theirs:
        for name, value in edits:
            edit(part, name, value)
    assert drawn(snapshot) == before
    before = drawn(model)
    for part in ours:
        for name, value in edits:
            edit(part, name, value)
    assert drawn(model) == before


@given(holders())
def test_a_look_at_an_attribute_says_what_a_snapshot_says(model: Any) -> None:
    """Nothing counts as changed because it was looked at in another way."""
    adapter = adapter_for(type(model))
    snapshot = adapter.snapshot(model, check=False)
    for name in ("a", "b", "c", "extra"):
        seen = adapter.peek(model, name)
        if name in snapshot:
            assert drawn(seen) == drawn(snapshot[name])
        elif isinstance(model, PydanticHolder):
            assert seen is MISSING


class Shouting:
    """Keeps a value in the instance, and gives another one."""

    def __get__(self, model: Any, _: Any = None) -> Any:
        return "default" if model is None else model.__dict__["sku"].upper()

    def __set__(self, model: Any, value: Any) -> None:
        model.__dict__["sku"] = value


@dataclasses.dataclass
class ShoutingLine:
    sku: Any = Shouting()  # noqa: RUF009
    count: Any = 0
    note: Any = None


def missing(lines: list[Any]) -> None:
    del lines[2].__dict__["count"]


def in_another_order(lines: list[Any]) -> None:
    held = lines[2].__dict__
    held["sku"] = held.pop("sku")


def with_more(lines: list[Any]) -> None:
    lines[2].__dict__["_more"] = [1]


def the_same_twice(lines: list[Any]) -> None:
    lines[2] = lines[1]


def another_class(lines: list[Any]) -> None:
    lines[2] = Line(sku=Text("a"))


def nothing(lines: list[Any]) -> None:
    pass


@pytest.mark.parametrize("change", [missing, in_another_order, with_more, the_same_twice, another_class, nothing])
@pytest.mark.parametrize("kind", [Line, GiftLine, OpenLine, DataLine, CheckedLine, ShoutingLine])
@pytest.mark.parametrize("many", [3, 20])
def test_many_of_a_kind_are_copied_as_one_by_one(many: int, kind: Any, change: Callable[[list[Any]], None]) -> None:
    """Whatever one of them is like, and wherever else it is met."""
    lines = [kind(sku=f"a{n}") for n in range(many)]
    with contextlib.suppress(KeyError):  # what a descriptor keeps elsewhere
        change(lines)
    first = lines[:1]
    for model in (DataHolder(a=lines), DataHolder(a=first, b=lines, c=[lines]), DataHolder(a=lines[1], b=lines)):
        taken = adapter_for(DataHolder).snapshot(model)
        assert drawn(taken) == drawn(reference(model))
        assert drawn(adapter_for(DataHolder).peek(model, "b")) == drawn(reference(DataHolder(b=model.b))["b"])


@pytest.mark.parametrize("kind", HOLDERS)
def test_what_cannot_be_copied_is_refused_among_many_of_a_kind_too(kind: Any) -> None:
    """A generator is named by its field wherever it is."""
    lines = [*(Line(sku=n) for n in range(5)), Line(sku=(n for n in ()))]
    for value in (lines, [(n for n in ()) for _ in range(5)], {"a": {"b": (n for n in ())}}):
        with pytest.raises(SnapshotError, match=r"\.b cannot be copied"):
            adapter_for(kind).snapshot(kind(b=value))


# Valid or not.

ANNOTATIONS: dict[str, Any] = {
    "int": int, "str": str, "float": float, "bool": bool, "bytes": bytes, "none": None, "date": date, "datetime": datetime,
    "time": time, "timedelta": timedelta, "uuid": UUID, "decimal": Decimal, "enum": Colour, "any": Any, "line": Line,
    "optional": str | None, "union": int | str, "choice": Literal["a", 1], "lines": list[Line], "ints": list[int],
    "texts": dict[str, list[str]], "pair": tuple[int, str], "set": set[int], "short": Annotated[str, MaxLen(2)],
    "positive": Annotated[int, Ge(1)], "finite": Annotated[float, Field(allow_inf_nan=False)],
    "strict": Annotated[int, Field(strict=True)], "model or text": Line | str, "data": DataLine, "object": Thing,
}  # fmt: skip
CONFIGS: list[ConfigDict] = [
    {}, {"strict": True}, {"str_max_length": 1}, {"str_min_length": 1}, {"allow_inf_nan": False},
    {"revalidate_instances": "always"}, {"extra": "forbid"}, {"coerce_numbers_to_str": True},
]  # fmt: skip
VALUES: list[Any] = [
    None, True, 0, 3, 10**400, 1.5, math.nan, math.inf, "", "a", "abc", "1", "\ud800", b"", b"\xff", date.max,
    datetime.min, datetime.max.replace(tzinfo=UTC), datetime(2026, 1, 1), time.max, timedelta.max, timedelta.min, UUID(int=0),
    Decimal("NaN"), Decimal(1), Decimal("1e999999"), Colour.RED, Number(3), Text("a"), Thing(1), DataLine(), Line(), GiftLine(),
    Line.model_construct(sku=1), [], [1], ["a"], [Line()], [Line(), GiftLine()], [{"sku": 1}], {"a": ["b"]}, {"a": [1]},
    (1, "a"), (1, 2), {1}, {"a"}, frozenset({1}), bytearray(b"a"), {"sku": 1}, ...,
]  # fmt: skip


class Shifting(tzinfo):
    """A time zone that cannot be asked."""

    def utcoffset(self, _: Any) -> timedelta:
        raise ValueError("nobody knows")


VALUES += [datetime(2026, 1, 1, tzinfo=Shifting()), time(1, tzinfo=Shifting())]


def made_class(annotations: tuple[str, ...], config: int) -> Any:
    """A class with these fields, made once."""
    key = (annotations, config)
    if key not in _classes:
        fields: dict[str, Any] = {f"f{n}": (ANNOTATIONS[name], ...) for n, name in enumerate(annotations)}
        _classes[key] = pydantic.create_model(
            "Made", __config__={"arbitrary_types_allowed": True, **CONFIGS[config]}, **fields
        )
    return _classes[key]


_classes: dict[Any, Any] = {}


def asked_class(kind: Any) -> Any:
    """The same fields, with one more validator, so that each value is asked about each time."""
    if kind not in _classes:

        class Asked(kind):
            @pydantic.field_validator("f0")
            @classmethod
            def seen(cls, value: Any) -> Any:
                return value

        _classes[kind] = Asked
    return _classes[kind]


def verdict(call: Callable[[], object]) -> Any:
    """What was found wrong, and where; None if nothing was."""
    try:
        call()
    except ValidationError as error:
        return [(each["type"], each["loc"]) for each in error.errors(include_url=False, include_input=False)]
    except Exception as error:  # a value that raises when it is looked at
        return type(error)
    return None


@given(
    st.lists(st.tuples(st.sampled_from(sorted(ANNOTATIONS)), st.integers(0, len(VALUES) - 1)), min_size=1, max_size=3),
    st.integers(0, len(CONFIGS) - 1),
)
def test_a_model_is_valid_if_pydantic_says_so_of_each_value(fields: list[tuple[str, int]], config: int) -> None:
    """What is not asked for is what could only be valid: the verdict is that of a validator of all fields, word for word."""
    kind = made_class(tuple(name for name, _ in fields), config)
    model = kind.model_construct()
    model.__dict__.update({f"f{n}": VALUES[value] for n, (_, value) in enumerate(fields)})

    asked = asked_class(kind).model_construct()
    asked.__dict__.update(model.__dict__)
    adapter = adapter_for(kind)
    expected = verdict(lambda: adapter.snapshot(asked))
    for _ in range(2):
        assert verdict(lambda: adapter.snapshot(model)) == expected


@pytest.mark.parametrize("name", sorted(ANNOTATIONS))
@pytest.mark.parametrize("config", range(len(CONFIGS)), ids=lambda n: next(iter(CONFIGS[n]), "plain"))
def test_each_value_is_judged_as_its_field_would(name: str, config: int) -> None:
    """One field after the other, against pydantic's own validator of that type."""
    kind = made_class((name,), config)
    adapter, asked = adapter_for(kind), kind.__pydantic_validator__
    for value in VALUES:
        model = kind.model_construct()
        model.__dict__["f0"] = value
        found = verdict(lambda: asked.validate_assignment(kind.model_construct(), "f0", value))
        assert (verdict(lambda: adapter.snapshot(model)) is None) == (found is None), value


# What a mapper knows.


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)


class Row(Base):
    __tablename__ = "row"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    count: Mapped[int | None]
    colour: Mapped[Colour | None]
    data: Mapped[Any] = mapped_column(JSON)
    thing: Mapped[Any] = mapped_column(PickleType)
    version: Mapped[int] = mapped_column(default=1)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("owner.id"))
    owner: Mapped[Owner | None] = relationship()
    __mapper_args__ = {"version_id_col": version}


ENGINE = create_engine("sqlite://")
Base.metadata.create_all(ENGINE)
COLUMNS = ("id", "name", "count", "colour", "data", "thing", "version", "owner_id")
ROW_VALUES: dict[str, list[Any]] = {
    "name": ["a", "b", None], "count": [1, 2, None], "colour": [Colour.RED, None], "data": [{"a": [1]}, [], None],
    "thing": [(1, 2), [1, (2,)], None], "owner_id": [None, 3],
}  # fmt: skip


@given(
    st.booleans(),
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(sorted(ROW_VALUES)), st.integers(0, 2)),
            st.tuples(st.sampled_from(["delete", "expire"]), st.sampled_from(sorted(ROW_VALUES))),
        ),
        max_size=5,
    ),
)
@example(True, [("name", 0), ("name", 1)])
@example(True, [("delete", "name")])
def test_what_a_mapper_knows_is_what_its_history_says(loaded: bool, edits: list[tuple[str, Any]]) -> None:
    """The origin is the history of every attribute, the snapshot a deep copy of every loaded one."""
    with Session(ENGINE, expire_on_commit=False) as session:
        row = Row(name="a", count=1, colour=Colour.RED, data={"a": [1]}, thing=(1, 2))
        if loaded:
            session.add(row)
            session.commit()
        expired = set()
        for name, choice in edits:
            if name == "delete":
                if choice in row.__dict__ and choice not in expired:  # which SQLAlchemy could not load any more
                    delattr(row, choice)
            elif name == "expire":
                if loaded:
                    session.expire(row, [choice])
                    expired.add(choice)
            else:
                choices = ROW_VALUES[name]
                setattr(row, name, choices[choice % len(choices)])
        adapter = adapter_for(Row)
        state = row._sa_instance_state
        known: dict[str, Any] = {}
        for name in COLUMNS if loaded else ():
            history = state.attrs[name].history
            values = (*(history.unchanged or ()), *(history.deleted or ()))
            if values and not isinstance(values[0], (list, dict)) and values != ([1, (2,)],):
                known[name] = values[0]
        origin = adapter.origin(row)
        assert origin is not None
        assert origin.stored is loaded
        assert origin.base == (known if loaded else None)
        assert origin.version == known.get("version")
        taken = adapter.snapshot(row)
        assert taken == {name: copy.deepcopy(row.__dict__[name]) for name in COLUMNS if name in row.__dict__}
        assert not {id(part) for part in reachable(taken)} & {id(part) for part in reachable(dict(row.__dict__))}
        assert all(same(adapter.peek(row, name), taken.get(name, MISSING)) for name in COLUMNS)
        session.rollback()


def test_a_mapper_that_is_given_another_column_is_looked_at_again() -> None:
    """What was worked out for a mapper holds as long as what it maps."""

    class Growing(Base):
        __tablename__ = "growing"
        id: Mapped[int] = mapped_column(primary_key=True)

    adapter = adapter_for(Growing)
    assert adapter.snapshot(Growing(id=1)) == {"id": 1}
    Growing.more = mapped_column(JSON)
    assert adapter.fields(Growing) == ("id", "more")
    assert adapter.snapshot(Growing(id=1, more=[2])) == {"id": 1, "more": [2]}
