"""Pydantic models: validity, secrets, aliases, serializers."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, Self, TypeVar, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    GetPydanticSchema,
    HttpUrl,
    Json,
    PlainValidator,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    ValidationError,
    WrapValidator,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import core_schema

from chained_models._snapshot import MISSING, same
from chained_models.adapters._fields import FieldsOf, fields_of
from chained_models.adapters.pydantic import ADAPTER
from chained_models.exceptions import MaskedSecret, SnapshotError, UnsupportedModel

T = TypeVar("T")


class Inner(BaseModel):
    amount: int = Field(default=1, alias="Amount")


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    name: str


class Node(BaseModel):
    name: str = ""
    children: list[Node] = []
    parent: Node | None = None


def test_neither_the_package_nor_its_adapters_import_a_model_library() -> None:
    """Whoever uses one kind of model does not pay for the others."""
    code = (
        "import sys; from chained_models.adapters import adapter_for, attrs, dataclass, pydantic\n"
        "from dataclasses import dataclass as d\n"
        "adapter = adapter_for(d(type('X', (), {'__annotations__': {'a': int}})))\n"
        "assert adapter is dataclass.ADAPTER\n"
        "loaded = {'pydantic', 'pydantic_core', 'attr', 'attrs', 'cattrs'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=60)


# What is in a snapshot.


def test_a_snapshot_holds_declared_fields_and_extras_only() -> None:
    """Private attributes, computed fields and cached properties are nobody's business but the model's."""

    class Model(BaseModel):
        model_config = ConfigDict(extra="allow")
        id: int = 1
        hidden: str = Field(default="h", exclude=True)
        _lock: Any = PrivateAttr(default_factory=threading.Lock)

        @computed_field
        @property
        def twice(self) -> int:
            return self.id * 2

        @cached_property
        def thrice(self) -> int:
            return self.id * 3

    model = Model.model_validate({"more": [1]})
    assert model.thrice == 3
    object.__setattr__(model, "_bookkeeping", threading.Lock())
    snapshot = ADAPTER.snapshot(model)
    assert snapshot == {"id": 1, "hidden": "h", "more": [1]}
    assert ADAPTER.peek(model, "more") == [1]
    assert ADAPTER.peek(model, "thrice") is MISSING
    assert ADAPTER.peek(model, "twice") is MISSING
    assert ADAPTER.dump(Model, snapshot) == {"id": 1, "more": [1]}


def test_a_deleted_attribute_is_not_in_the_snapshot() -> None:
    """Missing is not None."""

    class Model(BaseModel):
        id: int = 1
        name: str = "n"

    model = Model()
    del model.name
    assert ADAPTER.snapshot(model) == {"id": 1}
    assert ADAPTER.peek(model, "name") is MISSING


def test_nested_models_become_dicts_that_remember() -> None:
    """A nested model is compared and printed as a dict; the class it came from still counts."""

    class Cat(BaseModel):
        name: str

    class Dog(BaseModel):
        name: str

    class Model(BaseModel):
        pet: Cat | Dog

    cat, dog = ADAPTER.snapshot(Model(pet=Cat(name="x"))), ADAPTER.snapshot(Model(pet=Dog(name="x")))
    assert cat["pet"] == {"name": "x"}
    assert {"name": "x"} == dog["pet"]
    assert cat["pet"] != dog["pet"]
    assert cat["pet"] != {"name": "y"}
    assert repr(cat["pet"]) == "{'name': 'x'}"


def test_models_in_sets_and_keys() -> None:
    """Frozen models may be hashed, and so may what becomes of them."""

    class Model(BaseModel):
        tags: set[Frozen]
        by: dict[Frozen, int]
        all: frozenset[Frozen]

    def make() -> Model:
        one, two = Frozen(name="one"), Frozen(name="two")
        return Model(tags={one, two}, by={one: 1}, all=frozenset({two}))

    snapshot = ADAPTER.snapshot(make())
    assert snapshot == ADAPTER.snapshot(make())
    assert {each["name"] for each in snapshot["tags"]} == {"one", "two"}
    assert sorted(ADAPTER.dump(Model, {"tags": snapshot["tags"]})["tags"], key=str) == [
        {"name": "one"},
        {"name": "two"},
    ]


class Two(NamedTuple):
    one: Any
    other: Any


class Noted(Two):
    """A named tuple that can have attributes."""


class Extra(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


def test_sets_of_equal_models_have_equal_snapshots() -> None:
    """The order in which extra fields were given makes no difference to the models, nor to their plain values."""

    class Many(BaseModel):
        members: set[Extra]

    one, other = Extra.model_validate({"a": 1, "b": 2}), Extra.model_validate({"b": 2, "a": 1})
    assert one == other
    assert ADAPTER.snapshot(Many(members={one})) == ADAPTER.snapshot(Many(members={other}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (frozenset({1}), {1}),
        (b"ab", bytearray(b"ab")),
        ((1, frozenset({1})), (1, {1})),
        (Two(1, b"ab"), (1, bytearray(b"ab"))),
        (fields_of(Extra, {"a": 1}), {"a": 1}),
        (1, 1.0),
        ([1], [True]),
    ],
)
def test_equal_plain_models_have_equal_hashes(one: Any, other: Any) -> None:
    """Whether or not their values have any."""
    left, right = fields_of(Extra, {"a": one, "b": 1}), fields_of(Extra, {"b": 1, "a": other})
    assert left == right
    assert hash(left) == hash(right)


def test_different_plain_models_have_different_hashes() -> None:
    """As a rule: else a set of them would take for ever."""
    hashes = {hash(fields_of(Extra, {"a": n, "b": (n % 7, "x"), "c": [n]})) for n in range(100)}
    assert len(hashes) == 100


def test_a_hash_needs_no_hashable_fields() -> None:
    """A model that hashes itself in its own way may hold lists."""

    class Own(BaseModel):
        names: list[str]

        def __hash__(self) -> int:
            return 1

    class Model(BaseModel):
        owns: set[Own]

    snapshot = ADAPTER.snapshot(Model(owns={Own(names=["a"])}))
    assert list(snapshot["owns"]) == [{"names": ["a"]}]


def test_the_same_thing_twice_stays_one_thing() -> None:
    """Aliases within a field and across fields are kept, as deepcopy would."""

    class Model(BaseModel):
        a: Any
        b: Any

    shared: list[int] = [1]
    model = Model(a=[shared, shared], b=shared)
    snapshot = ADAPTER.snapshot(model)
    assert snapshot["a"][0] is snapshot["a"][1] is snapshot["b"]
    assert snapshot["b"] is not shared


class Opaque:
    """No container, and no model that an adapter knows."""

    def __init__(self, part: Any) -> None:
        self.part = part


class Whole(BaseModel):
    first: Any = None
    second: Any = None


def test_an_object_of_another_kind_keeps_the_models_it_holds() -> None:
    """It is deep-copied: a model inside of it is a model in the copy, also if a field holds the same one."""
    node = Node(name="node")
    for whole in (Whole(first=node, second=Opaque(node)), Whole(first=Opaque(node), second=[node])):
        snapshot = ADAPTER.snapshot(whole)
        (opaque,) = (each for each in snapshot.values() if isinstance(each, Opaque))
        assert type(opaque.part) is Node
        assert opaque.part is not node


def test_a_nested_model_becomes_plain_wherever_else_it_is() -> None:
    """Also if it was met before inside of an object that is deep-copied."""
    node = Node(name="node")
    snapshot = ADAPTER.snapshot(Whole(first=Opaque(node), second=node))
    assert isinstance(snapshot["second"], FieldsOf)


def test_objects_of_another_kind_share_what_they_hold() -> None:
    """Among themselves, wherever in the model they are, as deepcopy would."""
    shared: list[int] = [1]
    snapshot = ADAPTER.snapshot(Whole(first=Opaque(shared), second=[Opaque(shared) for _ in range(5)]))
    assert {id(snapshot["first"].part)} == {id(each.part) for each in snapshot["second"]}
    assert snapshot["first"].part is not shared


def test_models_in_named_tuples() -> None:
    """They become plain, and typed again, like those in any other tuple."""
    snapshot = ADAPTER.snapshot(Whole(first=Two(Node(name="a"), [1]), second=[Two(n, "b") for n in range(5)]))
    assert isinstance(snapshot["first"].one, FieldsOf)
    assert type(snapshot["first"]) is type(snapshot["second"][0]) is Two
    assert ADAPTER.dump(Whole, snapshot)["first"] == [{"name": "a", "parent": None, "children": []}, [1]]
    assert ADAPTER.load(Whole, {"first": snapshot["first"]})["first"] == Two(Node(name="a"), [1])


def test_named_tuples_that_are_more_than_their_items() -> None:
    """They are copied in their own way."""

    class Own(Two):
        __slots__ = ()

        def __deepcopy__(self, memo: Any) -> str:
            return "copied"

    noted: Any = Noted([1], 2)
    noted.note = "kept"
    snapshot = ADAPTER.snapshot(Whole(first=noted, second=Own([1], 2)))
    assert (snapshot["first"], snapshot["first"].note, snapshot["second"]) == (noted, "kept", "copied")
    assert snapshot["first"].one is not noted.one


def test_a_cycle_is_copied_as_a_cycle() -> None:
    """A graph that leads back to itself ends."""
    parent = Node(name="parent")
    child = Node(name="child", parent=parent)
    parent.children.append(child)
    snapshot = ADAPTER.snapshot(child)
    copied = snapshot["parent"]["children"][0]
    assert copied["name"] == "child"
    assert copied["parent"] is snapshot["parent"]


@pytest.mark.parametrize("value", [threading.Lock(), (n for n in ()), sys.stdout], ids=["lock", "generator", "file"])
def test_what_cannot_be_copied_is_named(value: Any) -> None:
    """The error tells the class and the field, at any depth, and nothing of the value."""

    class Model(BaseModel):
        fine: int = 1
        bad: Any = None

    with pytest.raises(SnapshotError, match=r"Model\.bad cannot be copied \(TypeError\)") as caught:
        ADAPTER.snapshot(Model(bad={"deep": [("secret", value)]}))
    assert "secret" not in str(caught.value)


def test_too_deep_is_named() -> None:
    """5,000 levels are refused at the call, not somewhere in a worker."""
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]

    class Model(BaseModel):
        deep: Any

    with pytest.raises(SnapshotError, match=r"Model\.deep cannot be copied \(RecursionError\)"):
        ADAPTER.snapshot(Model(deep=deep))
    node = Node()
    for _ in range(5_000):
        node = Node(children=[node])
    with pytest.raises(SnapshotError, match=r"Node\.children"):
        ADAPTER.snapshot(node)


class Torn:
    """Somebody edits it while it is copied, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __deepcopy__(self, memo: dict[int, Any]) -> str:
        self.times -= 1
        if self.times >= 0:
            raise RuntimeError("dictionary changed size during iteration")
        return "copied"


def test_a_torn_container_is_copied_again() -> None:
    """An edit by another thread is waited out; one that never ends is an error."""

    class Model(BaseModel):
        before: list[int]
        torn: Any

    snapshot = ADAPTER.snapshot(Model(before=[1], torn=Torn(3)))
    assert snapshot == {"before": [1], "torn": "copied"}
    with pytest.raises(SnapshotError, match=r"Model\.torn cannot be copied \(RuntimeError\)"):
        ADAPTER.snapshot(Model(before=[1], torn=Torn(1_000)))


def test_peek_of_what_cannot_be_copied_differs() -> None:
    """After the call somebody may put a lock there; that is a change, not an error."""

    class Model(BaseModel):
        held: Any = None

    model = Model()
    snapshot = ADAPTER.snapshot(model)
    model.held = threading.Lock()
    assert not same(ADAPTER.peek(model, "held"), snapshot["held"])


# Valid or not.


def test_an_invalid_model_raises_at_the_snapshot() -> None:
    """pydantic's own error, for a value that was put past the validation, at any depth."""

    class Line(BaseModel):
        amount: int

    class Model(BaseModel):
        id: int = 1
        lines: list[Line] = []

    model = Model(lines=[Line(amount=1)])
    ADAPTER.snapshot(model)
    model.lines[0].amount = "many"  # type: ignore[assignment]
    with pytest.raises(ValidationError, match="amount"):
        ADAPTER.snapshot(model)
    model.lines[0].amount = 2
    model.id = "x"  # type: ignore[assignment]
    with pytest.raises(ValidationError, match="id"):
        ADAPTER.snapshot(model)
    with pytest.raises(ValidationError, match="missing"):
        ADAPTER.snapshot(Line.model_construct())


class Items(list[Any]):
    """Containers of kinds that only deepcopy can copy."""


class Table(dict[Any, Any]):
    pass


class Row(tuple[Any, ...]):
    __slots__ = ()


class Bag(set[Any]):
    pass


class Frost(frozenset[Any]):
    pass


class Queue(deque[Any]):
    pass


class Default(defaultdict[Any, Any]):
    pass


def cycle(item: Any) -> Items:
    items = Items([item])
    items.append(items)
    return items


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "named tuple": lambda item: Two(1, item),
    "named tuples": lambda item: [*(Two(n, "a") for n in range(5)), Two(1, (item,))],
    "attributed named tuple": lambda item: Noted(1, item),
    "deque": lambda item: deque([item]),
    "OrderedDict": lambda item: OrderedDict(a=item),
    "defaultdict": lambda item: defaultdict(list, a=[item]),
    "list subclass": lambda item: Items([item]),
    "list subclasses": lambda item: [Items([item]) for _ in range(5)],
    "list subclass with itself": cycle,
    "dict subclass": lambda item: Table(a=[item]),
    "key of a dict subclass": lambda item: Table({item: 1}),
    "tuple subclass": lambda item: Row((1, item)),
    "set subclass": lambda item: Bag([item]),
    "frozenset subclass": lambda item: Frost([item]),
    "deque subclass": lambda item: Queue([item]),
    "defaultdict subclass": lambda item: Default(None, a=item),
    "nested": lambda item: Table(a=Items([Row([[item]])])),
    "four of a kind": lambda item: Items([item] * 4),
}
"""Containers, whoever copies them."""


class Counted(BaseModel):
    number: int = 0

    __hash__ = object.__hash__


@pytest.mark.parametrize("holder", HOLDERS)
def test_an_invalid_model_is_refused_in_any_container(holder: str) -> None:
    """A snapshot is taken of a valid model only, in whatever container the part is that is not."""
    part = Counted(number=1)
    model = Whole(first=HOLDERS[holder](part))
    ADAPTER.snapshot(model)
    part.number = "none"  # type: ignore[assignment]
    with pytest.raises(ValidationError):
        ADAPTER.snapshot(model)


@pytest.mark.parametrize("holder", [*HOLDERS, "opaque"])
def test_an_invalid_model_is_refused_although_something_else_has_it_too(holder: str) -> None:
    """Whatever else refers to it, and was met before."""
    part = Counted(number=1)
    model = Whole(first=HOLDERS.get(holder, Opaque)(part), second=part)
    part.number = "none"  # type: ignore[assignment]
    with pytest.raises(ValidationError):
        ADAPTER.snapshot(model)


@pytest.mark.parametrize("extra", ["forbid", "ignore", "allow"])
def test_configurations_that_get_in_the_way(extra: Literal["forbid", "ignore", "allow"]) -> None:
    """Strict, frozen, aliased, with extras or without: a valid model is valid."""

    class Model(BaseModel):
        model_config = ConfigDict(
            strict=True, frozen=True, extra=extra, alias_generator=to_camel, revalidate_instances="always"
        )
        order_id: int
        inner_model: Inner
        placed_at: datetime

    model = Model.model_validate(
        {"orderId": 1, "innerModel": Inner(Amount=2), "placedAt": datetime(2026, 1, 1, tzinfo=UTC)}
    )
    snapshot = ADAPTER.snapshot(model)
    assert snapshot == {"order_id": 1, "inner_model": {"amount": 2}, "placed_at": datetime(2026, 1, 1, tzinfo=UTC)}
    assert ADAPTER.dump(Model, snapshot) == {
        "orderId": 1,
        "innerModel": {"Amount": 2},
        "placedAt": "2026-01-01T00:00:00Z",
    }


def test_converters_are_for_input() -> None:
    """What turns input into values is not run on the values: it would fail, or turn them twice."""
    calls: list[str] = []

    def at_commas(value: str) -> list[str]:
        return value.split(",")

    def wrapped(value: Any, handler: Any) -> Any:
        return handler(value["wrapped"])

    class Model(BaseModel):
        decorated: list[str]
        annotated: Annotated[list[str], BeforeValidator(at_commas)]
        optional: Annotated[list[str] | None, BeforeValidator(at_commas)] = None
        plain: Annotated[int, PlainValidator(lambda value: value["plain"])]
        wrap: Annotated[int, WrapValidator(wrapped)]
        json_list: Json[list[int]]
        any_json: Json[Any]
        encoded: Base64Bytes

        @field_validator("decorated", mode="before")
        @classmethod
        def split(cls, value: str) -> list[str]:
            return value.split(",")

        @model_validator(mode="before")
        @classmethod
        def envelope(cls, data: Any) -> Any:
            return data["data"]

        def model_post_init(self, context: Any) -> None:
            calls.append("post_init")

    model = Model.model_validate(
        {
            "data": {
                "decorated": "a,b",
                "annotated": "c,d",
                "optional": "e",
                "plain": {"plain": 1},
                "wrap": {"wrapped": 2},
                "json_list": "[1, 2]",
                "any_json": "{}",
                "encoded": b"YWJj",
            }
        }
    )
    assert ADAPTER.snapshot(model) == {
        "decorated": ["a", "b"],
        "annotated": ["c", "d"],
        "optional": ["e"],
        "plain": 1,
        "wrap": 2,
        "json_list": [1, 2],
        "any_json": {},
        "encoded": b"abc",
    }
    assert calls == ["post_init"]
    model.decorated.append(3)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="decorated"):
        ADAPTER.snapshot(model)


def test_converters_are_found_wherever_a_schema_holds_them() -> None:
    """In unions, tuples, dicts and chains the types are judged all the same."""

    class Cat(BaseModel):
        kind: Literal["cat"] = "cat"

    class Dog(BaseModel):
        kind: Literal["dog"] = "dog"

    class Model(BaseModel):
        pet: Annotated[Cat | Dog, Field(discriminator="kind")]
        pair: tuple[int, Json[list[int]]]
        table: dict[str, Json[int]]
        either: Union[Json[list[int]], int]
        path: Path
        share: Fraction
        labelled: Annotated[
            Any,
            GetPydanticSchema(
                lambda source, handler: core_schema.chain_schema(
                    [core_schema.union_schema([(core_schema.str_schema(), "text"), core_schema.int_schema()])]
                )
            ),
        ]

    model = Model.model_validate(
        {
            "pet": Dog(),
            "pair": (1, "[2]"),
            "table": {"a": "3"},
            "either": "[4]",
            "path": "somewhere",
            "share": "1/2",
            "labelled": 1,
        }
    )
    assert ADAPTER.snapshot(model) == {
        "pet": {"kind": "dog"},
        "pair": (1, [2]),
        "table": {"a": 3},
        "either": [4],
        "path": Path("somewhere"),
        "share": Fraction(1, 2),
        "labelled": 1,
    }


def test_checks_are_asked_again() -> None:
    """After validators of fields and of the model judge the values as they are; what they return is dropped."""

    def even(value: int) -> int:
        if value % 2:
            raise ValueError("odd")
        return value + 2

    class Span(BaseModel):
        start: int
        end: Annotated[int, AfterValidator(even)]
        _limit: int = PrivateAttr(default=100)

        @model_validator(mode="after")
        def ordered(self) -> Self:
            if self.end < self.start:
                raise ValueError("ends before it starts")
            if "start" in self.model_fields_set and self.end > self._limit:
                raise ValueError("too long")
            return self

        @model_validator(mode="after")
        def small(self) -> Self:
            if self.start > 1_000:
                raise ValueError("too far")
            return self

    class Holder(BaseModel):
        span: Span

    span = Span(start=1, end=2)
    assert span.end == 4
    assert ADAPTER.snapshot(span) == {"start": 1, "end": 4}
    assert span.end == 4
    span.start = 9
    with pytest.raises(ValidationError, match="ends before"):
        ADAPTER.snapshot(span)
    with pytest.raises(ValidationError, match="ends before"):
        ADAPTER.snapshot(Holder(span=span))
    span.start, span.end = 1, 5
    with pytest.raises(ValidationError, match="odd"):
        ADAPTER.snapshot(span)
    span.end = 50
    span._limit = 10
    with pytest.raises(ValidationError, match="too long"):
        ADAPTER.snapshot(span)


def test_a_check_that_edits_edits_a_copy() -> None:
    """A model validator that sorts in place changes neither the live model nor the snapshot."""

    class Model(BaseModel):
        names: list[str]

        @model_validator(mode="after")
        def sorts(self) -> Self:
            self.names.sort()
            return self

    model = Model(names=["a"])
    model.names[:] = ["b", "a"]
    assert ADAPTER.snapshot(model) == {"names": ["b", "a"]}
    assert model.names == ["b", "a"]


def test_a_default_is_taken_unvalidated() -> None:
    """pydantic does not validate defaults, so a class that relies on that can be saved, and dumped."""

    class Model(BaseModel):
        id: int = None  # type: ignore[assignment]
        inner: Inner | None = None

    model = Model(inner=Inner(Amount=3))
    snapshot = ADAPTER.snapshot(model)
    assert snapshot == {"id": None, "inner": {"amount": 3}}
    assert ADAPTER.dump(Model, snapshot) == {"id": None, "inner": {"Amount": 3}}


def test_a_rebuilt_class_is_looked_at_again() -> None:
    """What was worked out for a class holds as long as its schema."""
    Model = create_model("Model", id=(int, 1))
    ADAPTER.snapshot(Model())
    Model.model_fields["id"].annotation = str
    Model.model_rebuild(force=True)
    with pytest.raises(ValidationError):
        ADAPTER.snapshot(Model.model_construct(id=5))


def test_a_forward_reference_is_resolved_when_needed() -> None:
    """A class that could not be completed when it was made is completed at its first save."""

    class Outer(BaseModel):
        model_config = ConfigDict(defer_build=True)
        inner: Inner

    assert ADAPTER.snapshot(Outer.model_construct(inner=Inner())) == {"inner": {"amount": 1}}


# Secrets.


@pytest.mark.parametrize("secret", [SecretStr("s3cret"), SecretBytes(b"s3cret")], ids=["text", "bytes"])
def test_a_secret_that_would_be_masked_is_refused(secret: Any) -> None:
    """Asterisks never overwrite a password, wherever in the field it is; the error tells no secret."""

    class Login(BaseModel):
        number: int = 1
        password: SecretStr | SecretBytes

    class Model(BaseModel):
        id: int = 1
        logins: dict[str, list[Login]]

    with pytest.raises(MaskedSecret, match=r"Login\.password") as caught:
        ADAPTER.snapshot(Login(password=secret))
    assert "s3cret" not in str(caught.value)
    with pytest.raises(MaskedSecret, match=r"Model\.logins"):
        ADAPTER.snapshot(Model(logins={"a": [Login(password=secret)]}))


def test_a_secret_with_a_serializer_is_sent() -> None:
    """Where the user says how it is sent, or that it is not, it is a value like any other, and stays a secret."""

    class Model(BaseModel):
        revealed: SecretStr
        unsent: SecretStr = Field(exclude=True)
        empty: SecretStr = SecretStr("")

        @field_serializer("revealed", when_used="json")
        def reveal(self, value: SecretStr) -> str:
            return value.get_secret_value()

    snapshot = ADAPTER.snapshot(Model(revealed=SecretStr("r"), unsent=SecretStr("u")))
    assert snapshot["revealed"] == SecretStr("r")
    assert "u" not in repr(snapshot["unsent"])
    assert ADAPTER.dump(Model, snapshot) == {"revealed": "r", "empty": ""}


def test_a_secret_that_cannot_be_written_is_left_to_who_writes() -> None:
    """Where nothing can be written, no asterisks are."""

    class Model(BaseModel):
        mixed: Any

    snapshot = ADAPTER.snapshot(Model(mixed=[SecretStr("s"), object()]))
    with pytest.raises(Exception, match="serialize"):
        ADAPTER.dump(Model, {"mixed": snapshot["mixed"]})


@pytest.mark.parametrize("holder", [name for name, make in HOLDERS.items() if make is not cycle])
def test_a_secret_is_refused_in_any_container(holder: str) -> None:
    """Subclasses are written like the containers they are."""
    model = Whole(first=HOLDERS[holder](SecretStr("s3cret")))
    with pytest.raises(MaskedSecret, match=r"Whole\.first"):
        ADAPTER.snapshot(model)


@pytest.mark.parametrize("wrap", [lambda secret: secret, lambda secret: [secret], lambda secret: Items([secret])])
def test_a_secret_that_another_field_reveals_is_refused(wrap: Callable[[Any], Any]) -> None:
    """One object in two fields, of which one says how it is sent: by the other, asterisks would be."""

    class Model(BaseModel):
        sent: Any
        masked: Any = None

        @field_serializer("sent")
        def reveal(self, value: Any) -> str:
            return "s3cret"

    secret = wrap(SecretStr("s3cret"))
    ADAPTER.snapshot(Model(sent=secret, masked=["**********"]))
    with pytest.raises(MaskedSecret, match=r"Model\.masked"):
        ADAPTER.snapshot(Model(sent=secret, masked=secret))


# Writing.


def test_a_dump_follows_the_class() -> None:
    """Aliases, serializers, exclusions and the subclass that is really there; no computed fields."""

    class Special(Inner):
        more: str = "m"

    class Model(BaseModel):
        when: datetime = Field(serialization_alias="When")
        inner: Any
        hidden: int = Field(default=1, exclude=True)
        size: ByteSize = ByteSize(5)
        link: HttpUrl = HttpUrl("https://example.com")

        @field_serializer("when")
        def only_the_day(self, value: datetime) -> str:
            return value.date().isoformat()

        @computed_field
        @property
        def double(self) -> int:
            raise AssertionError("not asked for")

    model = Model(when=datetime(2026, 1, 1, tzinfo=UTC), inner=[Special(Amount=2)])
    assert ADAPTER.dump(Model, ADAPTER.snapshot(model)) == {
        "When": "2026-01-01",
        "inner": [{"Amount": 2, "more": "m"}],
        "size": 5,
        "link": "https://example.com/",
    }


def test_a_model_serializer_writes_the_whole_and_not_a_part() -> None:
    """It expects every attribute, so a part is written field by field."""

    class Model(BaseModel):
        id: int = Field(alias="ID")
        name: str

        @model_serializer
        def write(self) -> dict[str, Any]:
            return {"model": f"{self.id} {self.name}"}

    snapshot = ADAPTER.snapshot(Model(ID=1, name="n"))
    assert ADAPTER.dump(Model, snapshot) == {"model": "1 n"}
    assert ADAPTER.dump(Model, {"id": 1}) == {"ID": 1}


def test_plain_dicts_from_elsewhere_are_validated_by_name() -> None:
    """A journal knows no classes; each field that does not fit its type is read by the type, and only that."""
    seen: list[Any] = []

    class Model(BaseModel):
        inner: Inner
        when: datetime
        other: Annotated[int, AfterValidator(lambda value: seen.append(value) or value)]

    values = {"inner": {"amount": 3}, "when": "2026-01-01T00:00:00+00:00", "other": 1}
    assert ADAPTER.dump(Model, values) == {"inner": {"Amount": 3}, "when": "2026-01-01T00:00:00Z", "other": 1}
    assert ADAPTER.dump(Model, {**values, "when": "no date"})["when"] == "no date"
    assert seen == []


def test_validators_are_not_run_by_a_dump() -> None:
    """The typed values are made again as they were: nothing is hashed twice, no post-init, private defaults are there."""
    calls: list[str] = []

    class Part(BaseModel):
        name: Annotated[str, AfterValidator(lambda value: value + "!")]
        _sign: str = PrivateAttr(default="?")

        def model_post_init(self, context: Any) -> None:
            calls.append("post_init")

        @field_serializer("name")
        def write(self, value: str) -> str:
            return value + self._sign

    class Model(BaseModel):
        part: Part

    model = Model(part=Part(name="x"))
    del calls[:]
    assert ADAPTER.dump(Model, ADAPTER.snapshot(model)) == {"part": {"name": "x!?"}}
    assert calls == []


def test_nested_dataclasses_and_extras_are_written() -> None:
    """Whatever kind of model a field holds is made again as that kind."""

    @dataclass(frozen=True, slots=True)
    class Point:
        x: int
        y: int = 0

    @pydantic_dataclass
    class Size:
        width: int

    class Loose(BaseModel):
        model_config = ConfigDict(extra="allow")

    class Pair(NamedTuple):
        one: int
        two: int

    class Model(BaseModel):
        point: Point
        size: Size
        loose: Loose
        pair: Pair

    model = Model(point=Point(1, 2), size=Size(3), loose=Loose.model_validate({"a": Point(4)}), pair=Pair(5, 6))
    snapshot = ADAPTER.snapshot(model)
    assert snapshot == {
        "point": {"x": 1, "y": 2},
        "size": {"width": 3},
        "loose": {"a": {"x": 4, "y": 0}},
        "pair": (5, 6),
    }
    assert ADAPTER.dump(Model, snapshot) == {**snapshot, "pair": [5, 6]}
    assert ADAPTER.load(Model, snapshot) == dict(model)


def test_a_root_model_has_one_field() -> None:
    """`root`, as pydantic itself calls it, on the top and nested."""

    class Names(RootModel[list[str]]):
        pass

    class Model(BaseModel):
        names: Names

    assert ADAPTER.snapshot(Names(["a"])) == {"root": ["a"]}
    assert ADAPTER.dump(Names, {"root": ["a"]}) == {"root": ["a"]}
    assert ADAPTER.load(Names, {"root": ["b"]}) == {"root": ["b"]}
    snapshot = ADAPTER.snapshot(Model(names=Names(["a"])))
    assert ADAPTER.dump(Model, snapshot) == {"names": ["a"]}
    assert ADAPTER.load(Model, {"names": ["c"]}) == {"names": Names(["c"])}


# Answers.


def test_an_answer_may_use_any_name() -> None:
    """Field names, validation aliases, paths, and the alias under which the field was sent."""

    class Model(BaseModel):
        model_config = ConfigDict(extra="forbid")
        a: int = Field(alias="A")
        b: int = Field(validation_alias=AliasChoices("bee", AliasPath("nested", 0)))
        c: int = Field(serialization_alias="sea")
        d: int = Field(validation_alias=AliasPath("deep", "d"))
        e: int = Field(default=1, serialization_alias="a")

    assert ADAPTER.load(Model, {"a": 1, "b": 2, "c": 3, "d": 4}) == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert ADAPTER.load(Model, {"A": 1, "bee": 2, "sea": 3, "deep": {"d": 4}}) == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert ADAPTER.load(Model, {"nested": [5], "unknown": 6}) == {"b": 5}


def test_extras_in_an_answer() -> None:
    """A model that allows extras takes them."""

    class Model(BaseModel):
        model_config = ConfigDict(extra="allow")
        id: int

    assert ADAPTER.load(Model, {"id": "1", "more": [2]}) == {"id": 1, "more": [2]}


def test_model_validators_do_not_judge_a_part() -> None:
    """Field validators run, in the answer's order of fields; model validators, post-init and defaults do not."""

    class Model(BaseModel):
        id: int | None = None
        name: str
        factory: list[int] = Field(default_factory=lambda: pytest.fail("not asked for"))

        @field_validator("name")
        @classmethod
        def upper(cls, value: str) -> str:
            return value.upper()

        @model_validator(mode="after")
        def whole(self) -> Self:
            raise AssertionError("not asked of a part")

        @model_validator(mode="before")
        @classmethod
        def raw(cls, data: Any) -> Any:
            raise AssertionError("not asked of a part")

    assert ADAPTER.load(Model, {"name": "n"}) == {"name": "N"}
    assert ADAPTER.load(Model, {"id": 7}) == {"id": 7}


def test_a_strict_model_reads_json() -> None:
    """An answer comes from JSON, where a date is text."""

    class Model(BaseModel):
        model_config = ConfigDict(strict=True, ser_json_bytes="base64", val_json_bytes="base64")
        id: int
        when: datetime
        day: date = Field(strict=True)
        span: timedelta
        data: bytes

    values = {
        "id": 1,
        "when": datetime(2026, 1, 1, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "span": timedelta(seconds=90),
        "data": b"\xff\x00",
    }
    written = ADAPTER.dump(Model, values)
    assert written["when"] == "2026-01-01T00:00:00Z"
    assert ADAPTER.load(Model, written) == values
    assert ADAPTER.load(Model, values) == values
    assert ADAPTER.load(Model, {"id": "7"}) == {"id": 7}
    with pytest.raises(ValidationError):
        ADAPTER.load(Model, {"id": "seven"})


def test_an_echo_need_not_pass_the_converters() -> None:
    """What was sent comes back in the form in which it was sent, and not as the class's input."""

    class Model(BaseModel):
        id: int
        tags: Annotated[list[str], BeforeValidator(lambda value: value.split(","))]
        when: datetime

    assert ADAPTER.load(Model, {"tags": "a,b"}) == {"tags": ["a", "b"]}
    loaded = ADAPTER.load(Model, {"id": "1", "tags": ["a", "b"], "when": "2026-01-01T00:00:00Z"})
    assert loaded == {"id": 1, "tags": ["a", "b"], "when": datetime(2026, 1, 1, tzinfo=UTC)}
    with pytest.raises(AttributeError):
        ADAPTER.load(Model, {"tags": 5})


def test_assigning() -> None:
    """A set name counts as set; validate_assignment is respected, and a frozen model refuses."""

    class Model(BaseModel):
        model_config = ConfigDict(validate_assignment=True)
        id: int | None = None
        code: str = "c"

    model = Model()
    ADAPTER.assign(model, "id", 7)
    assert (model.id, model.model_fields_set) == (7, {"id"})
    with pytest.raises(ValidationError):
        ADAPTER.assign(model, "code", 5)
    assert model.code == "c"
    with pytest.raises(ValidationError, match="frozen"):
        ADAPTER.assign(Frozen(name="n"), "name", "m")


# Kinds of class.


class Box(BaseModel, Generic[T]):
    content: T


def test_generic_models() -> None:
    """Each parametrised class has a plan of its own."""
    snapshot = ADAPTER.snapshot(Box[Inner](content=Inner(Amount=2)))
    assert snapshot == {"content": {"amount": 2}}
    assert ADAPTER.dump(Box[Inner], snapshot) == {"content": {"Amount": 2}}
    assert ADAPTER.load(Box[int], {"content": "3"}) == {"content": 3}
    assert ADAPTER.load(Box, {"content": "3"}) == {"content": "3"}


def test_inheritance() -> None:
    """A subclass is not taken for its parent, and inherits its validators."""

    class Parent(BaseModel):
        names: list[str]

        @field_validator("names", mode="before")
        @classmethod
        def split(cls, value: str) -> list[str]:
            return value.split(",")

    class Child(Parent):
        more: int = 1

    assert ADAPTER.snapshot(Parent(names="a,b")) == {"names": ["a", "b"]}
    assert ADAPTER.snapshot(Child(names="a,b")) == {"names": ["a", "b"], "more": 1}
    assert ADAPTER.fields(Child) == ("names", "more")


def test_recursive_models() -> None:
    """A class that refers to itself is checked, written and read."""
    tree = Node(name="root", children=[Node(name="leaf")])
    snapshot = ADAPTER.snapshot(tree)
    assert isinstance(snapshot["children"][0], FieldsOf)
    assert ADAPTER.load(Node, ADAPTER.dump(Node, snapshot)) == dict(tree)
    tree.children[0].name = 5  # type: ignore[assignment]
    with pytest.raises(ValidationError):
        ADAPTER.snapshot(tree)


def test_a_class_with_a_schema_of_its_own_making() -> None:
    """A class may wrap its core schema; what is inside still counts."""

    class Model(BaseModel):
        id: int

        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            return core_schema.no_info_before_validator_function(lambda data: {"id": data}, handler(source))

    model = Model.model_validate(5)
    assert ADAPTER.snapshot(model) == {"id": 5}
    assert ADAPTER.load(Model, {"id": "6"}) == {"id": 6}


def test_a_class_whose_schema_hides_it() -> None:
    """Where nothing of the class can be found in its schema, nothing can be promised."""

    class Model(BaseModel):
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            return core_schema.any_schema()

    with pytest.raises(UnsupportedModel, match="Model"):
        ADAPTER.snapshot(Model.model_construct())


def test_who_gives_the_identity_when_a_factory_does() -> None:
    """A factory that makes ids is the client's; one that gives None, or needs the other fields, is looked at."""

    class Model(BaseModel):
        made: str = Field(default_factory=lambda: "new")
        none: str | None = Field(default_factory=lambda: None)
        needs: str = Field(default_factory=lambda data: str(data["made"]))
        required: int | None

    given = {name: ADAPTER.server_given(Model, (name,)) for name in (*ADAPTER.fields(Model), "unknown")}
    assert given == {"made": False, "none": True, "needs": False, "required": False, "unknown": False}


# Any value.

leaves = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.dates()
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner, inner)
        | inner.map(lambda value: Box[Any](content=value))
        | st.frozensets(leaves)
        | st.sets(leaves)
    ),
    max_leaves=12,
)


class Holder(BaseModel):
    value: Any


def expected(value: Any) -> Any:
    """The plain value, the slow and obvious way."""
    match value:
        case BaseModel():
            return {name: expected(item) for name, item in value.__dict__.items()}
        case dict():
            return {key: expected(item) for key, item in value.items()}
        case list() | tuple():
            return type(value)(expected(item) for item in value)
    return value


def mutable(value: Any) -> list[Any]:
    """Every part of a typed or plain value that somebody could edit."""
    match value:
        case BaseModel():
            return [value, *mutable(value.__dict__)]
        case dict():
            return [value, *(part for item in value.values() for part in mutable(item))]
        case list():
            return [value, *(part for item in value for part in mutable(item))]
        case tuple():
            return [part for item in value for part in mutable(item)]
        case set():
            return [value]
    return []


@given(values)
def test_any_value_is_copied_whole(value: Any) -> None:
    """As deepcopy and a conversion of the nested models would; no part that can be edited is shared."""
    snapshot = ADAPTER.snapshot(Holder(value=value))
    assert snapshot == {"value": expected(copy.deepcopy(value))}
    assert not {id(part) for part in mutable(value)} & {id(part) for part in mutable(snapshot["value"])}
    assert same(ADAPTER.peek(Holder(value=value), "value"), snapshot["value"])


@given(values)
def test_any_value_comes_back(value: Any) -> None:
    """A plain value still knows the typed one, and is not changed by being asked."""
    snapshot = ADAPTER.snapshot(Holder(value=value))
    kept = copy.deepcopy(snapshot)
    loaded = ADAPTER.load(Holder, snapshot)["value"]
    assert loaded == value
    assert type(loaded) is type(value)
    assert snapshot == kept


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_is_dumped_as_it_is(value: Any) -> None:
    """A field that holds JSON is written as that JSON."""
    snapshot = ADAPTER.snapshot(Holder(value=value))
    assert ADAPTER.dump(Holder, snapshot) == {"value": value}
    assert json.loads(json.dumps(ADAPTER.dump(Holder, snapshot))) == {"value": value}
