"""What the inspector shows of values: what is secret, what nobody can show, and what its buttons do with nonsense."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chained_models import Answer, CallChain, ChainedSaveMixin, Coalesce, Dispatcher, InvalidOption
from chained_models.inspector._history import History
from chained_models.inspector._text import LONGEST, text
from chained_models.inspector._timeline import chrome_trace
from chained_models.inspector._view import View

SECRET = "canary"


class Answering:
    """A backend that answers what it is told to."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer

    def execute(self, operation: Any) -> Any:
        return self.answer


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    with Dispatcher("inline") as dispatcher:
        yield dispatcher


@pytest.fixture
def view(dispatcher: Dispatcher) -> Iterator[View]:
    history = History(dispatcher)
    yield View(history, values=True, readonly=False)
    history.close()


def all_of(view: View) -> tuple[list[dict[str, Any]], str]:
    """What is shown of each save, and all that leaves the process, as text."""
    overview = view.overview()
    details: list[Any] = [view.detail(box["id"]) for chain in overview["chains"] for box in chain["boxes"]]
    return details, json.dumps([overview, details, chrome_trace(view.history)])


# Secrets


def test_a_subclass_keeps_the_secrets_of_its_base(view: View, dispatcher: Dispatcher) -> None:
    """What a class inherits from has named as secret stays so when the class names others."""

    @dataclasses.dataclass
    class User(ChainedSaveMixin):
        id: int = 1
        password: str = SECRET
        __chained_secret__: ClassVar[Any] = ("password",)

    @dataclasses.dataclass
    class Customer(User):
        card: str = f"{SECRET} too"
        __chained_secret__: ClassVar[Any] = "card"

    Customer.bind(Answering(), dispatcher=dispatcher)
    Customer().save()
    (detail,), told = all_of(view)
    assert detail["sent"] == {"id": "1", "password": None, "card": None} and SECRET not in told


@pytest.mark.parametrize("names", [None, 7, (name for name in ["password"]), object()])
def test_what_cannot_be_understood_hides_all(view: View, dispatcher: Dispatcher, names: Any) -> None:
    """Where something is said to be secret, and nobody knows what, nothing is shown; also when it is looked at again."""

    @dataclasses.dataclass
    class User(ChainedSaveMixin):
        id: int = 1
        password: str = SECRET

    User.__chained_secret__ = names  # type: ignore[attr-defined]
    User.bind(Answering(Answer({"id": 1, "password": SECRET})), dispatcher=dispatcher)
    User().save()
    assert [SECRET in all_of(view)[1] for _ in range(2)] == [False, False]


def test_secrets_by_another_name(view: View, dispatcher: Dispatcher) -> None:
    """By whatever name the answer has it: what was not understood as some other attribute is not shown beside secrets."""

    class User(ChainedSaveMixin, pydantic.BaseModel):
        __chained_secret__ = ("password",)
        id: int = 1
        name: str = "anne"
        password: str = pydantic.Field(SECRET, alias="pwd")

    answer = Answer({"id": 1, "name": "bert", "pwd": f"{SECRET} new", "old": [SECRET], SECRET[:0]: SECRET})
    User.bind(Answering(answer), dispatcher=dispatcher)
    User().save()
    (detail,), told = all_of(view)
    assert detail["answer"]["values"] == {
        "id": "1",
        "name": "'bert'",
        "password": None,
        "pwd": None,
        "old": None,
        "": None,
    }
    assert SECRET not in told


@pytest.mark.parametrize("secret", [SECRET, f"{SECRET} \u00e9\n", f"{SECRET}'s", 47_114_711_471_147, SECRET * 200])
@pytest.mark.parametrize("key", [lambda user: user.password, lambda user: f"user of {user.password}", "password"])
def test_chains_that_are_told_apart_by_a_secret(
    view: View, dispatcher: Dispatcher, secret: Any, key: Callable[[Any], Any] | str
) -> None:
    """A key that is made of a secret is hidden wherever chains are named."""

    @dataclasses.dataclass
    class User(ChainedSaveMixin):
        id: int = 1
        password: Any = SECRET
        __chained_secret__: ClassVar[Any] = ["password"]

    User.bind(Answering(), dispatcher=dispatcher, ordering_key=key)
    User(1, secret).save()
    User(2, secret).save()
    _, told = all_of(view)
    assert SECRET not in told and "4711471147" not in told and "(hidden)" in told


def test_an_identity_that_is_secret(view: View, dispatcher: Dispatcher) -> None:
    """Neither the title of its chain tells it, nor the reason why another save waits for it."""

    @dataclasses.dataclass
    class Key(ChainedSaveMixin):
        id: str = SECRET
        __chained_secret__: ClassVar[Any] = {"id"}

    Key.bind(Answering(), dispatcher=dispatcher)
    key = Key()
    key.save()
    key.chain.pause()
    first, behind = key.save(), key.save()
    details, told = all_of(view)
    assert (
        details[2]["why_waiting"]
        == f"queued behind save {first.seq} of Key '(hidden)', which is held: its chain is paused until resume()"
    )
    assert SECRET not in told
    behind.cancel(), first.cancel()
    key.chain.resume()


def test_a_secret_within_a_value(view: View, dispatcher: Dispatcher) -> None:
    """What a class names as secret is hidden at any depth."""

    @dataclasses.dataclass
    class Order(ChainedSaveMixin):
        id: int = 1
        customers: Any = None
        __chained_secret__: ClassVar[Any] = ("password",)

    Order.bind(Answering(Answer({"customers": [{"password": [SECRET]}]})), dispatcher=dispatcher)
    Order(1, [{"name": "anne", "password": SECRET, 7: ({"password": {"password": SECRET}},)}]).save()
    (detail,), told = all_of(view)
    assert detail["sent"]["customers"] == "[{'name': 'anne', 'password': (hidden), 7: ({'password': (hidden)},)}]"
    assert SECRET not in told


def test_without_values_nothing_of_them_is_shown(dispatcher: Dispatcher) -> None:
    """With `values=False` names alone leave the process, also of answers and differences."""

    @dataclasses.dataclass
    class User(ChainedSaveMixin):
        id: int = 1
        note: Any = SECRET

    User.bind(Answering(Answer({"id": 1, "note": f"{SECRET}!", "more": SECRET}, version=3)), dispatcher=dispatcher)
    history = History(dispatcher)
    user = User()
    user.save()
    user.note = f"{SECRET}?"
    user.save()
    CallChain(lambda item: {item: SECRET}, dispatcher=dispatcher).add(SECRET)
    details, told = all_of(View(history, values=False, readonly=True))
    assert details[1]["changed"] == [{"name": "note", "before": None, "after": None}]
    assert details[1]["answer"] == {"version": "3", "values": {"id": None, "note": None, "more": None}}
    assert SECRET not in told
    history.close()


# What nobody can show


class Words(str):
    """Text with ideas of its own."""

    __slots__ = ()

    def __radd__(self, other: Any) -> Any:
        raise RuntimeError

    __add__ = __len__ = __getitem__ = __format__ = encode = __radd__  # type: ignore[assignment]


def raising(error: BaseException) -> Any:
    def show(self: Any) -> str:
        raise error

    return type("Rude", (), {"__repr__": show, "__str__": show})()


def answering(words: Any) -> Any:
    return type("Odd", (), {"__repr__": lambda self: words})()


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


cycle: list[Any] = []
cycle.append(cycle)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (raising(RuntimeError(SECRET)), "<Rude cannot be shown: RuntimeError>"),
        (raising(SystemExit(SECRET)), "<Rude cannot be shown: SystemExit>"),
        (raising(KeyboardInterrupt()), "<Rude cannot be shown: KeyboardInterrupt>"),
        (raising(GeneratorExit()), "<Rude cannot be shown: GeneratorExit>"),
        (raising(RecursionError()), "<Rude cannot be shown: RecursionError>"),
        (answering(7), "<Odd cannot be shown: TypeError>"),
        (answering(Words("fine")), "fine"),
        (answering("a\x1b[2J\nb\u202e\ud800"), "a\\x1b[2J\\nb\\u202e\\ud800"),
        (10**5_000, "<int cannot be shown: ValueError>"),
        (math.nan, "nan"),
        ({"a": -math.inf, "b": (1,), "c": set(), "d": {2}, "e": frozenset({3}), "f": ()},
         "{'a': -inf, 'b': (1,), 'c': set(), 'd': {2}, 'e': frozenset({3}), 'f': ()}"),
        (cycle, "[" * 20 + "…" + "]" * 20),
        (nested(100_000), "[" * 20 + "…" + "]" * 20),
        ("x" * 10_000_000, "'" + "x" * 499 + "… (10000000 characters)"),
        (b"x" * 10_000_000, "b'" + "x" * 498 + "… (10000000 bytes)"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_words_for_anything(value: Any, words: str) -> None:
    """Whatever a value is, and its `repr` does, there are words for it, not too many, and no characters that forge others."""
    assert text(value) == words
    json.dumps(text(value)).encode()


class Counted(list[int]):
    """Says how far somebody has read."""


def test_of_a_large_value_only_what_is_shown_is_looked_at() -> None:
    """Of a million values as many are written out as fit; each look would take seconds."""
    looked_at: list[int] = []

    class One:
        def __repr__(self) -> str:
            looked_at.append(1)
            return "one"

    words = text([One()] * 1_000_000)
    assert words.endswith("… (1000000 values)") and len(looked_at) <= 500
    assert (
        text({number: [One()] * 1_000 for number in range(1_000)}).endswith("… (1000 values)")
        and len(looked_at) <= 1_000
    )


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=3)
        | st.sets(st.integers(), max_size=3)
    ),
    max_leaves=9,
)


@given(PLAIN)
def test_small_values_are_written_as_python_does(value: Any) -> None:
    """What is not too long is its `repr`; what is, begins like it."""
    whole = repr(value)
    assert text(value) == whole if len(whole) <= LONGEST else text(value).startswith(whole[:LONGEST])


class Broken:
    """Which cannot be compared, or even be asked for its class."""

    def __eq__(self, other: object) -> bool:
        raise SystemExit(SECRET)

    __hash__ = None  # type: ignore[assignment]

    @property
    def __class__(self) -> Any:
        raise RuntimeError(SECRET)

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        pass

    def __deepcopy__(self, memo: Any) -> Broken:
        return self


class Mapped(Mapping[str, Any]):
    """An answer that cannot be read."""

    def __getitem__(self, name: str) -> Any:
        raise SystemExit(SECRET)

    def __iter__(self) -> Iterator[str]:
        raise SystemExit(SECRET)

    def __len__(self) -> int:
        return 1


def test_what_cannot_be_compared_or_read(view: View, dispatcher: Dispatcher) -> None:
    """A value that raises when it is compared differs from the one before; an answer that raises is not shown."""

    @dataclasses.dataclass
    class Odd(ChainedSaveMixin):
        id: int = 1
        note: Any = None

    backend = Answering()
    Odd.bind(backend, dispatcher=dispatcher)
    odd = Odd()
    saves = [odd.save(), odd.save()]
    for save in saves:
        save.snapshot = {"id": 1, "note": Broken()}
        save.answer = Answer(Mapped())
    details, told = all_of(view)
    assert [one["name"] for one in details[1]["changed"]] == ["note"] and details[1]["answer"]["values"] == {}
    assert SECRET not in told


def test_a_thousand_attributes_and_odd_names(view: View, dispatcher: Dispatcher) -> None:
    """All of them are shown, as text that can be sent."""
    kind: Any = pydantic.create_model(
        "Wide",
        __base__=(ChainedSaveMixin, pydantic.BaseModel),
        id=(int, 1),
        **{f"a{n}": (int, n) for n in range(1_000)},
    )
    kind.bind(Answering(Answer({"\ud800": 1, "\x1b[2J": 2})), dispatcher=dispatcher)
    kind().save()
    (detail,), told = all_of(view)
    assert len(detail["sent"]) == 1_001 and detail["answer"]["values"] == {"\\ud800": "1", "\\x1b[2J": "2"}
    assert told.encode()


def test_a_difference_in_an_attribute_with_an_odd_name(view: View, dispatcher: Dispatcher) -> None:
    """Is shown like any other."""

    class Open(ChainedSaveMixin, pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        id: int = 1

    Open.bind(Answering(), dispatcher=dispatcher)
    one = Open(**{"\n": 1})
    one.save()
    setattr(one, "\n", 2)
    one.save()
    details, _ = all_of(view)
    assert details[1]["changed"] == [{"name": "\\n", "before": "1", "after": "2"}]


def test_what_a_repr_does_to_its_own_chain(view: View, dispatcher: Dispatcher) -> None:
    """Looking may save, pause and clear: it holds no lock, and what came of it is seen at the next look."""

    class Busy:
        def __repr__(self) -> str:
            order.chain.pause()
            order.save()
            return "busy"

        def __deepcopy__(self, memo: Any) -> Busy:
            return self

    @dataclasses.dataclass
    class Order(ChainedSaveMixin):
        id: int = 1
        note: Any = None

    Order.bind(Answering(), dispatcher=dispatcher)
    order = Order(1, Busy())
    order.save()
    (detail,), _ = all_of(view)
    assert detail["sent"]["note"] == "busy"
    (chain,) = view.overview()["chains"]
    assert chain["paused"] and [box["state"] for box in chain["boxes"]] == ["saved", "queued"]
    order.chain.clear()
    order.chain.resume()


def test_the_difference_to_the_last_whose_values_are_known(view: View, dispatcher: Dispatcher) -> None:
    """Not to one whose place it took: that one has none any more."""

    @dataclasses.dataclass
    class Order(ChainedSaveMixin):
        id: int = 1
        total: int = 0

    Order.bind(Answering(), dispatcher=dispatcher, coalesce=Coalesce.LATEST)
    order = Order()
    order.save()
    order.chain.pause()
    for order.total in (1, 2):
        order.save()
    details, _ = all_of(view)
    assert details[2]["changed"] == [{"name": "total", "before": "0", "after": "2"}]
    order.chain.resume()


class Fickle:
    """A key that cannot be looked for any more."""

    broken = False

    def __hash__(self) -> int:
        if self.broken:
            raise SystemExit(SECRET)
        return 1

    def __repr__(self) -> str:
        return "fickle"


def test_a_key_that_has_become_unusable(view: View, dispatcher: Dispatcher) -> None:
    """Its chain is shown with what is known of it, and says so; the others are shown as ever, and a button says what happened."""

    @dataclasses.dataclass
    class Order(ChainedSaveMixin):
        id: int = 1

    key = Fickle()
    Order.bind(Answering(), dispatcher=dispatcher, ordering_key=lambda order: key if order.id == 1 else order.id)
    Order(1).save()
    Order(2).save()
    key.broken = True
    first, second = view.overview()["chains"]
    assert (first["title"], second["title"]) == ("fickle (its chain cannot be found: SystemExit)", "2")
    assert [box["state"] for box in first["boxes"]] == ["saved"]
    details, told = all_of(view)
    assert len(details) == 2 and SECRET not in told
    key.broken = False


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit(SECRET)


class Anonymous(metaclass=Meta):
    """Of which not even the class says its name."""

    def __repr__(self) -> str:
        raise SystemExit(SECRET)


def test_a_class_without_a_name() -> None:
    """Has one all the same."""
    assert text(Anonymous()) == "<Anonymous cannot be shown: SystemExit>"


class Nameless:
    """A worker whose name cannot be asked for."""

    def __getattr__(self, name: str) -> Any:
        raise SystemExit(SECRET) if name == "__qualname__" else AttributeError(name)

    def __call__(self, item: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("worker", "title"),
    [
        (partial(partial(print, sep=SECRET), end=""), "print"),
        (Nameless(), "<_Name cannot be shown: SystemExit>"),
        ("".join, "str.join"),
        (lambda item: None, "<lambda>"),
    ],
)
def test_what_calls_are_called(view: View, dispatcher: Dispatcher, worker: Any, title: str) -> None:
    """By the name of their worker, never by what it was given."""
    calls = CallChain(worker, dispatcher=dispatcher)
    calls.pause()
    call = calls.add("item")
    _, told = all_of(view)
    assert view.overview()["chains"][0]["title"] == title and SECRET not in told
    call.cancel()


def test_a_lane_whose_options_are_not_numbers(view: View, dispatcher: Dispatcher) -> None:
    """They are plain attributes, and JSON has no infinity."""

    @dataclasses.dataclass
    class Order(ChainedSaveMixin):
        id: int = 1

    backend = Answering()
    Order.bind(backend, dispatcher=dispatcher)
    lane = dispatcher.port(backend).lane.lane
    lane.max_in_flight = lane.max_batch = math.inf  # type: ignore[assignment]
    Order().save()
    (shown,) = json.loads(json.dumps(view.overview(), allow_nan=False))["lanes"]
    assert shown["max_in_flight"] == shown["max_batch"] == "inf"


# Buttons


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("pause", {"chain": True}),
        ("cancel", {"save": True}),
        ("batch", {"lane": True, "size": 2}),
        ("batch", {"chain": True, "size": 2}),
        ("batch", {"chain": 1, "size": True}),
        ("batch", {"chain": 1, "size": 2.0}),
        ("pause", {"all": 1}),
        ("pause", {"chain": None, "all": "yes"}),
        ("pause", {"chain": [1]}),
    ],
)
def test_true_is_no_number(view: View, dispatcher: Dispatcher, command: str, what: dict[str, Any]) -> None:
    """What is not said in the right type is not meant."""
    calls = CallChain(print, dispatcher=dispatcher)
    calls.pause()
    call = calls.add(1)
    with pytest.raises(InvalidOption):
        view.do(command, what)
    assert call.outcome is None and calls._pace.options.batch == 1
    call.cancel()


def test_what_one_chain_raises_stops_no_other(view: View, dispatcher: Dispatcher) -> None:
    """Of all chains all go on; what the first has raised comes out then."""
    done: list[int] = []

    def work(item: int) -> None:
        if item == 1:
            raise SystemExit(SECRET)
        done.append(item)

    for item in (1, 2, 3):
        calls = CallChain(work, dispatcher=dispatcher)
        calls.pause()
        calls.add(item)
    with pytest.raises(SystemExit):
        view.do("resume", {"all": True})
    assert done == [2, 3] and len(dispatcher) == 0


def test_a_batch_of_any_size(view: View, dispatcher: Dispatcher) -> None:
    """A size that no list can have stops nothing."""

    class Batching(Answering):
        def execute_many(self, operations: Any) -> list[Any]:
            return [None] * len(operations)

    @dataclasses.dataclass
    class Order(ChainedSaveMixin):
        id: int = 1

    Order.bind(Batching(), dispatcher=dispatcher)
    Order().save()
    view.do("batch", {"lane": view.overview()["lanes"][0]["id"], "size": 10**30})
    orders = [Order(number) for number in range(3)]
    view.do("pause", {"all": True})
    for order in orders:
        order.chain.pause()
        order.save()
    view.do("resume", {"all": True})
    assert len(dispatcher) == 0


def test_a_chain_of_thousands(view: View, dispatcher: Dispatcher) -> None:
    """Of a long chain those that have ended and the first that wait are told, and the rest is counted."""
    calls = CallChain(len, dispatcher=dispatcher)
    calls.extend(["some", "work"])
    calls.pause()
    calls.extend(["more"] * 5_000)
    (chain,) = view.overview()["chains"]
    assert len(chain["boxes"]) == 200
    assert chain["more"] == 5_002 - 200
    assert [box["state"] for box in chain["boxes"][:3]] == ["saved", "saved", "queued"]
    calls.clear()
