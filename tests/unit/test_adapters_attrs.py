"""attrs classes: validators, aliases, slots, and the two ways to be frozen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

import attr
import attrs
import pytest

from chained_models._snapshot import MISSING
from chained_models.adapters import adapter_for
from chained_models.adapters.attrs import ADAPTER

T = TypeVar("T")


@attrs.define
class Line:
    amount: int = attrs.field(default=1, validator=attrs.validators.instance_of(int))


@attrs.frozen
class Tag:
    name: str


@attr.s(auto_attribs=True)
class Old:
    id: int | None = None
    tags: list[Tag] = attr.Factory(list)


@attrs.define
class Box(Generic[T]):
    content: T


def test_validators_are_asked_at_every_depth() -> None:
    """An invalid value raises the validator's own error at the snapshot, in nested models too."""

    @attrs.define
    class Model:
        lines: list[Line] = attrs.Factory(list)
        name: str = attrs.field(default="n", on_setattr=[], validator=attrs.validators.max_len(3))

    model = Model([Line(2)])
    assert ADAPTER.snapshot(model) == {"lines": [{"amount": 2}], "name": "n"}
    model.name = "long name"
    with pytest.raises(ValueError, match="name"):
        ADAPTER.snapshot(model)
    with attrs.validators.disabled():
        assert ADAPTER.snapshot(model)["name"] == "long name"
    model.name = "n"
    object.__setattr__(model.lines[0], "amount", "many")
    with pytest.raises(TypeError, match="amount"):
        ADAPTER.snapshot(model)


class Two(NamedTuple):
    one: Any
    other: Any


class Items(list[Any]):
    """A list that only deepcopy can copy."""


@pytest.mark.parametrize("holder", [lambda line: Two(line, 1), lambda line: Items([line]), lambda line: {"a": (line,)}])
def test_validators_are_asked_in_any_container(holder: Any) -> None:
    """Also in named tuples, and in subclasses of containers."""
    line = Line(2)
    box = Box(holder(line))
    ADAPTER.snapshot(box)
    object.__setattr__(line, "amount", "many")
    with pytest.raises(TypeError, match="amount"):
        ADAPTER.snapshot(box)


def test_an_unset_attribute_is_missing_and_not_judged() -> None:
    """What has no value yet is neither copied nor validated."""

    @attrs.define
    class Model:
        id: int = 1
        late: int = attrs.field(init=False, validator=attrs.validators.instance_of(int))

    model = Model()
    assert ADAPTER.snapshot(model) == {"id": 1}
    assert ADAPTER.peek(model, "late") is MISSING


def test_an_answer_may_use_the_alias() -> None:
    """A private attribute is written by its name, and read by its name or the name it has in `__init__`."""

    @attrs.define
    class Model:
        _secret: int = 0
        when: datetime = attrs.field(default=datetime(2026, 1, 1, tzinfo=UTC), alias="at")

    model = Model(secret=1)
    assert ADAPTER.fields(Model) == ("_secret", "when")
    assert ADAPTER.dump(Model, ADAPTER.snapshot(model)) == {"_secret": 1, "when": "2026-01-01T00:00:00+00:00"}
    assert ADAPTER.load(Model, {"secret": 2, "at": "2027-01-01T00:00:00Z", "unknown": 1}) == {
        "_secret": 2,
        "when": datetime(2027, 1, 1, tzinfo=UTC),
    }
    assert ADAPTER.load(Model, {"_secret": 3, "secret": 4}) == {"_secret": 3}


def test_assigning_goes_through_the_class() -> None:
    """Converters and validators of the attribute are respected; a frozen class refuses."""

    @attrs.define
    class Model:
        name: str = attrs.field(default="n", converter=str)

    model = Model()
    ADAPTER.assign(model, "name", 5)
    assert model.name == "5"
    with pytest.raises(TypeError):
        ADAPTER.assign(Line(), "amount", "many")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        ADAPTER.assign(Tag("a"), "name", "b")


def test_the_older_ways_to_make_a_class() -> None:
    """`attr.s` classes, generic ones and subclasses are known too."""

    @attrs.define
    class Child(Line):
        more: Any = None

    model = Old(tags=[Tag("a")])
    assert adapter_for(Old) is ADAPTER
    snapshot = ADAPTER.snapshot(model)
    assert snapshot == {"id": None, "tags": [{"name": "a"}]}
    assert ADAPTER.load(Old, snapshot) == {"id": None, "tags": [Tag("a")]}
    assert ADAPTER.load(Old, ADAPTER.dump(Old, snapshot)) == {"id": None, "tags": [Tag("a")]}
    assert ADAPTER.dump(Box, ADAPTER.snapshot(Box(Tag("b")))) == {"content": {"name": "b"}}
    assert ADAPTER.snapshot(Child(2, [Tag("c"), bytearray(b"d")])) == {
        "amount": 2,
        "more": [{"name": "c"}, b"d"],
    }


def test_frozen_models_in_a_set() -> None:
    """They are hashed by their values, and come back as they were."""

    @attrs.define
    class Model:
        tags: set[Tag]

    snapshot = ADAPTER.snapshot(Model({Tag("a"), Tag("b")}))
    assert snapshot == ADAPTER.snapshot(Model({Tag("b"), Tag("a")}))
    assert ADAPTER.load(Model, snapshot) == {"tags": {Tag("a"), Tag("b")}}


def test_who_gives_the_identity() -> None:
    """A factory is asked what it makes, unless it needs the object."""

    @attrs.define
    class Model:
        required: int
        none: int | None = None
        factory: str | None = attrs.field(factory=lambda: None)
        made: str = attrs.field(factory=lambda: "new")
        own: str = attrs.Factory(lambda self: self.made, takes_self=True)

    given = {name: ADAPTER.server_given(Model, (name,)) for name in (*ADAPTER.fields(Model), "unknown")}
    assert given == {
        "required": False,
        "none": True,
        "factory": True,
        "made": False,
        "own": False,
        "unknown": False,
    }
