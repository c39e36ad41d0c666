"""Dataclasses: what a snapshot takes, how an answer is read, and what is left without cattrs."""

from __future__ import annotations

import json
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import FrozenInstanceError, InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Generic, Literal, NamedTuple, NewType, Protocol, TypedDict, TypeVar
from uuid import UUID

import pytest

from chained_models._snapshot import MISSING, same
from chained_models.adapters import dataclass as module
from chained_models.adapters._fields import FieldsOf
from chained_models.adapters.dataclass import ADAPTER
from chained_models.exceptions import MissingExtra, SnapshotError

T = TypeVar("T")
UserId = NewType("UserId", int)


class Level(IntEnum):
    LOW = 1


class Mood(StrEnum):
    GOOD = "good"


class Shape(Enum):
    POINT = (1, 2)


class Text(str):
    """A text of a kind of its own."""

    __slots__ = ()


class Whatever(Protocol):
    def run(self) -> None: ...


class Address(TypedDict):
    street: str
    number: int


@dataclass
class Base:
    name: str


@dataclass
class Derived(Base):
    more: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0


class Pair(NamedTuple):
    one: Any
    other: Any


@dataclass
class Box(Generic[T]):
    content: T
    contents: list[T] = field(default_factory=list)


@pytest.fixture
def no_cattrs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module._converter.cache_clear()
    monkeypatch.setitem(sys.modules, "cattrs.preconf.json", None)
    yield
    module._converter.cache_clear()


# What is in a snapshot.


def test_fields_are_what_dataclasses_says() -> None:
    """Fields outside `__init__` count; class variables, init-only variables and other attributes do not."""

    @dataclass
    class Model:
        shared: ClassVar[list[int]] = []
        given: InitVar[int]
        id: int | None = None
        made: int = field(init=False, default=0)

        def __post_init__(self, given: int) -> None:
            self.made = given
            self.other = Lock()

    model = Model(3)
    assert ADAPTER.fields(Model) == ("id", "made")
    assert ADAPTER.snapshot(model) == {"id": None, "made": 3}
    assert ADAPTER.load(Model, {"given": 1, "made": 4, "other": 5}) == {"made": 4}


@pytest.mark.parametrize("slots", [False, True])
def test_an_unset_attribute_is_missing(slots: bool) -> None:
    """What has no value yet, or no longer, is not in the snapshot; None is."""

    @dataclass(slots=slots)
    class Model:
        id: None = None
        late: int = field(init=False)

    model = Model()
    assert ADAPTER.snapshot(model) == {"id": None}
    assert ADAPTER.peek(model, "late") is MISSING
    model.late = 1
    assert ADAPTER.snapshot(model) == {"id": None, "late": 1}


def test_a_dataclass_does_not_validate() -> None:
    """A wrong type is the user's business."""
    assert ADAPTER.snapshot(Base(name=5)) == {"name": 5}  # type: ignore[arg-type]


def test_containers_keep_their_kind() -> None:
    """Every standard container is copied as what it is, with its nested models made plain."""

    @dataclass
    class Model:
        values: Any

    containers = [
        OrderedDict(b=Point(1), a=Point(2)),
        Counter("aab"),
        defaultdict(list, {"a": [Point(1)]}),
        deque([Point(1), Point(2)], maxlen=2),
        MappingProxyType({"a": [1]}),
        {Point(1)},
        frozenset({Point(1), Fraction(1, 2)}),
        (1, "a", (2, 3)),
        ([1], Point(1)),
        Pair(Point(1), [1]),
        Text("text"),
        bytearray(b"ab"),
        Path("a") / "b",
        Mood.GOOD,
        int,
    ]
    snapshot = ADAPTER.snapshot(Model(containers))["values"]
    for typed, plain in zip(containers, snapshot, strict=True):
        assert type(plain) is type(typed)
        assert same(ADAPTER.peek(Model(typed), "values"), plain)
    assert snapshot[0] == {"b": {"x": 1, "y": 0}, "a": {"x": 2, "y": 0}}
    assert snapshot[2].default_factory is list
    assert snapshot[3].maxlen == 2
    assert snapshot[4]["a"] is not containers[4]["a"]  # type: ignore[index]
    assert snapshot[7] is containers[7]
    assert snapshot[8] == ([1], {"x": 1, "y": 0})
    assert ADAPTER.snapshot(Model(snapshot))["values"] == snapshot
    loaded = ADAPTER.load(Model, {"values": snapshot})["values"]
    assert loaded == containers


def test_a_cycle_through_a_tuple() -> None:
    """It can be entered at the list and at the tuple."""

    @dataclass
    class Model:
        values: Any

    items: list[Any] = []
    items.append((items,))
    copied = ADAPTER.snapshot(Model(items))["values"]
    assert copied[0][0] is copied
    assert copied is not items
    copied = ADAPTER.snapshot(Model(items[0]))["values"]
    assert copied[0][0] is copied
    assert copied is not items[0]


def test_what_a_property_makes_is_not_confused() -> None:
    """Values that exist only while the snapshot is taken do not lend their place in memory to one another."""

    class Fresh:
        """A list that is made anew by each look, behind a field."""

        def __get__(self, model: Any, owner: type | None = None) -> list[int]:
            if model is None:
                raise AttributeError("there is no default")
            return [model.number]

        def __set__(self, model: Any, value: object) -> None:
            pass

    @dataclass
    class Part:
        number: int
        many: list[int] = Fresh()  # type: ignore[assignment]  # noqa: RUF009

    @dataclass
    class Parts:
        parts: list[Part]

    parts = ADAPTER.snapshot(Parts([Part(number, []) for number in range(50)]))["parts"]
    assert [part["many"] for part in parts] == [[number] for number in range(50)]


def test_what_cannot_be_copied_is_named() -> None:
    """The class and the field are in the error."""

    @dataclass
    class Model:
        held: Any

    with pytest.raises(SnapshotError, match=r"Model\.held"):
        ADAPTER.snapshot(Model([Lock()]))
    with pytest.raises(SnapshotError, match=r"Model\.held"):
        ADAPTER.plain(Model, "held", Lock())


def test_a_frozen_dataclass_is_saved_and_refuses() -> None:
    """It can be written, and an answer cannot be assigned."""
    point = Point(1, 2)
    snapshot = ADAPTER.snapshot(point)
    assert ADAPTER.dump(Point, snapshot) == {"x": 1, "y": 2}
    with pytest.raises(FrozenInstanceError):
        ADAPTER.assign(point, "x", 5)


# Writing.


def test_leaves_are_written_as_json() -> None:
    """Dates, numbers, enums, paths and bytes have their usual forms; keys are text."""

    @dataclass
    class Model:
        values: Any

    values = {
        "when": datetime(2026, 1, 1, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "at": time(3, 4),
        "span": timedelta(minutes=1.5),
        "price": Decimal("1.10"),
        "id": UUID(int=1),
        "path": Path("a/b"),
        "level": Level.LOW,
        "mood": Mood.GOOD,
        "shape": Shape.POINT,
        "text": Text("text"),
        "queue": deque([Decimal(1)]),
        "set": {Point(1)},
        "data": b"\xff",
        1: {True: 1, None: 2, 2.5: 3, Mood.GOOD: 4, UUID(int=2): 5},
    }
    written = ADAPTER.dump(Model, ADAPTER.snapshot(Model(values)))["values"]
    assert written == {
        "when": "2026-01-01T00:00:00+00:00",
        "day": "2026-01-02",
        "at": "03:04:00",
        "span": 90.0,
        "price": "1.10",
        "id": str(UUID(int=1)),
        "path": "a/b",
        "level": 1,
        "mood": "good",
        "shape": [1, 2],
        "text": "text",
        "queue": ["1"],
        "set": [{"x": 1, "y": 0}],
        "data": "/w==",
        "1": {"true": 1, "null": 2, "2.5": 3, "good": 4, str(UUID(int=2)): 5},
    }
    assert json.loads(json.dumps(written)) == written


def test_what_json_has_no_form_for_is_named() -> None:
    """The class and field are told, not the value."""

    @dataclass
    class Model:
        value: Any

    with pytest.raises(TypeError, match=r"Model\.value holds a object"):
        ADAPTER.dump(Model, ADAPTER.snapshot(Model([object()])))


def test_a_subclass_in_a_field_is_written_whole() -> None:
    """The fields count that are there, not those of the declared class."""

    @dataclass
    class Model:
        part: Base
        parts: list[Base]

    snapshot = ADAPTER.snapshot(Model(Derived("a", [1]), [Base("b"), Derived("c")]))
    assert ADAPTER.dump(Model, snapshot) == {
        "part": {"name": "a", "more": [1]},
        "parts": [{"name": "b"}, {"name": "c", "more": []}],
    }


# Answers.


@dataclass
class Everything:
    number: int = 0
    ratio: float = 0.0
    text: str = ""
    flag: bool = False
    maybe: int | None = None
    either: int | str = 0
    price: Decimal = Decimal(0)
    id: UUID | None = None
    text_too: Text | None = None
    user: UserId = UserId(0)
    noted: Annotated[int, "note"] = 0
    fixed: Final[int] = 0
    choice: Literal["a", 1] = "a"
    at: time = time()
    span: timedelta = timedelta()
    data: bytes = b""
    level: Level = Level.LOW
    mood: Mood = Mood.GOOD
    pair: tuple[int, str] = (0, "")
    row: tuple[int, ...] = ()
    nothing: None = None
    table: dict[int, list[float]] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    points: list[Point] = field(default_factory=list)
    point: Point | None = None
    address: Address | None = None
    whatever: Whatever | None = None
    anything: Any = None
    names: Sequence[str] = ()
    when: datetime = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "value", "typed"),
    [
        ("number", 1, 1),
        ("number", 2.0, 2),
        ("number", "7", 7),
        ("ratio", 1, 1.0),
        ("ratio", 1.5, 1.5),
        ("ratio", "2.5", 2.5),
        ("text", "t", "t"),
        ("text_too", "t", Text("t")),
        ("flag", True, True),
        ("maybe", None, None),
        ("maybe", "3", 3),
        ("either", "x", "x"),
        ("either", 4, 4),
        ("price", "1.50", Decimal("1.50")),
        ("price", 1, Decimal(1)),
        ("price", 0.1, Decimal("0.1")),
        ("id", str(UUID(int=9)), UUID(int=9)),
        ("user", "5", UserId(5)),
        ("user", 6, UserId(6)),
        ("noted", 3, 3),
        ("fixed", 3, 3),
        ("choice", 1, 1),
        ("at", "03:04", time(3, 4)),
        ("span", 90, timedelta(seconds=90)),
        ("level", 1, Level.LOW),
        ("mood", "good", Mood.GOOD),
        ("pair", [1, "b"], (1, "b")),
        ("pair", (1, "b"), (1, "b")),
        ("row", [1, 2], (1, 2)),
        ("row", (1, 2), (1, 2)),
        ("nothing", None, None),
        ("data", "/w==", b"\xff"),
        ("table", {"1": [2]}, {1: [2.0]}),
        ("table", {1: [2.5]}, {1: [2.5]}),
        ("tags", ["a"], frozenset({"a"})),
        ("points", [{"x": 1, "unknown": 2}], [Point(1)]),
        ("points", [Point(1)], [Point(1)]),
        ("point", {"x": "1", "y": 2}, Point(1, 2)),
        ("address", {"street": "s", "number": 1}, {"street": "s", "number": 1}),
        ("whatever", 3, 3),
        ("anything", {"a": [1]}, {"a": [1]}),
        ("names", ["a"], ["a"]),
        ("when", "2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_an_answer_is_read_into_the_type(name: str, value: Any, typed: Any) -> None:
    """JSON and values that fit already become what the field declares."""
    loaded = ADAPTER.load(Everything, {name: value})
    assert loaded == {name: typed}
    assert type(loaded[name]) is type(typed)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", None),
        ("number", 3.7),
        ("number", True),
        ("number", "x"),
        ("ratio", "x"),
        ("ratio", None),
        ("ratio", True),
        ("text", None),
        ("text", 5),
        ("flag", "false"),
        ("flag", 1),
        ("price", "x"),
        ("price", []),
        ("id", "x"),
        ("nothing", 1),
        ("data", "no base 64"),
        ("choice", "c"),
        ("at", "x"),
        ("span", "x"),
        ("level", 9),
        ("pair", [1]),
        ("pair", (1, 2, 3)),
        ("table", {"a": []}),
        ("points", [{"y": 1}]),
        ("when", 5),
    ],
)
def test_a_misfit_is_refused(name: str, value: Any) -> None:
    """Nothing is bent until it fits."""
    with pytest.raises(Exception):
        ADAPTER.load(Everything, {name: value})


def test_what_is_written_is_read() -> None:
    """Every type of field survives the way to a backend and back."""
    model = Everything(
        1, 1.5, "t", True, 2, "e", Decimal("1.1"), UUID(int=5), Text("u"), UserId(3), 1, 2, 1, time(1), timedelta(seconds=1),
        b"\xff", Level.LOW, Mood.GOOD, (1, "b"), (1, 2), None, {1: [1.5]}, frozenset({"a"}), [Point(1)], Point(2),
        {"street": "s", "number": 1}, None, [1], ["n"],
    )  # fmt: skip
    written = json.loads(json.dumps(ADAPTER.dump(Everything, ADAPTER.snapshot(model))))
    loaded = ADAPTER.load(Everything, written)
    assert loaded == vars(model)
    for name, value in loaded.items():
        ADAPTER.assign(model, name, value)
        assert type(value) is type(getattr(model, name))


def test_hints_that_cannot_be_resolved_convert_nothing() -> None:
    """A name that exists for type checkers only lets every value through."""

    @dataclass
    class Model:
        when: datetime
        unknown: Nowhere  # type: ignore[name-defined]  # noqa: F821

    assert ADAPTER.load(Model, {"when": "2026-01-01", "unknown": [1]}) == {"when": "2026-01-01", "unknown": [1]}


def test_generic_dataclasses() -> None:
    """A type variable takes anything."""
    box = Box(content=Point(1), contents=[Point(2)])
    snapshot = ADAPTER.snapshot(box)
    assert isinstance(snapshot["content"], FieldsOf)
    assert ADAPTER.dump(Box, snapshot) == {"content": {"x": 1, "y": 0}, "contents": [{"x": 2, "y": 0}]}
    assert ADAPTER.load(Box, snapshot) == {"content": Point(1), "contents": [Point(2)]}
    assert ADAPTER.load(Box, {"content": 5}) == {"content": 5}


def test_who_gives_the_identity() -> None:
    """A factory is asked what it makes."""

    @dataclass
    class Model:
        required: int
        none: int | None = None
        factory: str | None = field(default_factory=lambda: None)
        made: str = field(default_factory=lambda: "new")

    given = {name: ADAPTER.server_given(Model, (name,)) for name in (*ADAPTER.fields(Model), "unknown")}
    assert given == {"required": False, "none": True, "factory": True, "made": False, "unknown": False}


# Without cattrs.


@pytest.mark.usefixtures("no_cattrs")
def test_what_fits_needs_no_extra() -> None:
    """JSON's own types and typed values go both ways without cattrs; the rest names the extra."""
    assert ADAPTER.load(
        Everything, {"number": 1, "text": "t", "maybe": None, "anything": [1], "tags": frozenset()}
    ) == {
        "number": 1,
        "text": "t",
        "maybe": None,
        "anything": [1],
        "tags": frozenset(),
    }
    snapshot = ADAPTER.snapshot(Derived("a", [1]))
    assert ADAPTER.dump(Derived, snapshot) == {"name": "a", "more": [1]}
    assert ADAPTER.dump(Box, ADAPTER.snapshot(Box((Point(1), Mood.GOOD)))) == {
        "content": [{"x": 1, "y": 0}, "good"],
        "contents": [],
    }
    for call in (
        lambda: ADAPTER.load(Everything, {"when": "2026-01-01T00:00:00Z"}),
        lambda: ADAPTER.dump(Everything, {"when": datetime(2026, 1, 1, tzinfo=UTC)}),
    ):
        with pytest.raises(MissingExtra, match=r"cattrs.*chained-models\[rest\]"):
            call()
