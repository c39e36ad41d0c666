"""State beside objects: by identity, gone with them, whatever they compare as."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from chained_models._weakmap import WeakIdMap


@dataclass
class Model:
    """Unhashable, and equal to every other one of the same name."""

    name: str = "same"


@pytest.fixture
def busy_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_by_identity() -> None:
    """Two equal objects have two entries, and hashing is not asked for."""
    values: WeakIdMap[Model, int] = WeakIdMap()
    one, other = Model(), Model()
    assert values.get(one) is None
    assert values.setdefault(one, 1) == 1
    assert values.setdefault(one, 2) == 1
    assert values.setdefault(other, 3) == 3
    assert (values.get(one), values.get(other)) == (1, 3)
    assert sorted(values.values()) == [1, 3] and len(values) == 2


def test_pop() -> None:
    """An entry is taken out once; what has none is left alone."""
    values: WeakIdMap[Model, int] = WeakIdMap()
    one, other = Model(), Model()
    values.setdefault(one, 1)
    values.pop(other)
    values.pop(one)
    values.pop(one)
    assert len(values) == 0 and values.get(one) is None


def test_an_entry_goes_with_its_object() -> None:
    """Also if the object only dies as part of a cycle."""
    values: WeakIdMap[Model, int] = WeakIdMap()
    one, ring = Model(), Model()
    ring.ring = ring  # type: ignore[attr-defined]
    values.setdefault(one, 1)
    values.setdefault(ring, 2)
    del one
    assert list(values.values()) == [2]
    del ring
    gc.collect()
    assert len(values) == 0


def test_what_cannot_be_referred_to_weakly() -> None:
    """An object of a slots class without a place for weak references is kept, rather than refused."""

    class Slots:
        __slots__ = ("__dict__",)

    values: WeakIdMap[Slots, int] = WeakIdMap()
    values.setdefault(slots := Slots(), 1)
    assert values.setdefault(slots, 2) == values.get(slots) == 1


def test_an_id_used_again() -> None:
    """A new object at the place of a dead one has no entry, and the end of the dead one does not take the new one's."""
    values: WeakIdMap[Model, int] = WeakIdMap()
    for number in range(2000):
        model = Model()
        assert values.get(model) is None
        assert values.setdefault(model, number) == number
        del model
    assert len(values) == 0


def test_an_entry_made_anew() -> None:
    """An object whose entry was taken out and made again keeps the new one until its own end."""
    values: WeakIdMap[Model, int] = WeakIdMap()
    model = Model()
    values.setdefault(model, 1)
    (old,) = values._entries.values()
    assert isinstance(old, weakref.ref)
    values.pop(model)
    values.setdefault(model, 2)
    forget = old.__callback__
    assert forget is not None
    forget(old)
    assert values.get(model) == 2
    values.pop(model)
    forget(old)
    assert len(values) == 0


def test_an_entry_of_another_object() -> None:
    """If an entry is left of an object whose id is in use again, nobody takes it for its own."""
    values: WeakIdMap[Model, int] = WeakIdMap()
    dead, model = Model(), Model()
    values.setdefault(dead, 1)
    values._entries[id(model)] = values._entries.pop(id(dead))
    assert values.get(model) is None
    values.pop(model)
    assert len(values) == 1


def test_threads_agree(busy_switching: None) -> None:
    """Of many threads that give one object a value at once, all see the first one's, while other objects come and go."""
    values: WeakIdMap[Model, object] = WeakIdMap()
    gate = threading.Barrier(4)

    def give(model: Model) -> object:
        gate.wait()
        value = values.setdefault(model, object())
        for _ in range(50):
            values.setdefault(Model(), object())
        return value

    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            model = Model()
            seen = {future.result() for future in [pool.submit(give, model) for _ in range(4)]}
            assert seen == {values.get(model)}
    del model
    gc.collect()
    assert len(values) == 0
