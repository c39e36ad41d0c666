"""Records by identity: found as long as anything stands for them, and not a moment longer."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator

import pytest

from chained_models._known import Known
from chained_models._merge import Facts
from chained_models._record import Record
from chained_models._weakmap import WeakIdMap


class Model:
    """Can be referred to weakly."""


class Other:
    """Has identities of its own."""


class Objects:
    """What a port does with its objects and records."""

    def __init__(self) -> None:
        self.known = Known()
        self.facts: WeakIdMap[Model, Facts] = WeakIdMap(self.known.gone)

    def make(self, record: Record) -> Model:
        """An object that stands for that record."""
        model = Model()
        self.facts.setdefault(model, Facts(record))
        return model

    def put(self, record: Record, model: Model, model_type: type = Model) -> None:
        facts = self.facts.get(model)
        assert facts is not None
        self.known.put(model_type, record, facts)


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def busy_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_by_type_and_identity(objects: Objects) -> None:
    """Two types may have the same identity."""
    mine, theirs = Record("Model", 7), Record("Other", 7)
    one, other = objects.make(mine), objects.make(theirs)
    objects.put(mine, one)
    objects.put(theirs, other, Other)
    assert objects.known.get(Model, 7) is mine
    assert objects.known.get(Other, 7) is theirs
    assert objects.known.get(Model, 8) is None
    assert objects.known.get(Record, 7) is None
    assert len(objects.known) == 2


def test_it_goes_with_its_last_object(objects: Objects) -> None:
    """Whichever of its objects was the first: as long as there is one it is found, then it is gone, without a collector."""
    record = Record("Model", 7)
    first, second = objects.make(record), objects.make(record)
    objects.put(record, first)
    gone = weakref.ref(record)
    del record, first
    assert objects.known.get(Model, 7) is gone() is not None
    del second
    assert gone() is None
    assert len(objects.known) == 0
    assert objects.known.get(Model, 7) is None


def test_it_stays_with_what_else_holds_it(objects: Objects) -> None:
    """A chain that is paused, say."""
    chain = record = Record("Model", 7)
    model = objects.make(record)
    objects.put(record, model)
    del record, model
    assert objects.known.get(Model, 7) is chain
    del chain
    assert len(objects.known) == 0


def test_an_object_that_stands_for_another_record(objects: Objects) -> None:
    """The record that it stood for is found as long as something else holds it."""
    seven, eight = Record("Model", 7), Record("Model", 8)
    model = objects.make(seven)
    facts = objects.facts.get(model)
    assert facts is not None
    objects.put(seven, model)
    objects.known.leave(facts)
    facts.record = eight
    objects.put(eight, model)
    objects.known.leave(Facts(eight))  # those are not the entry
    assert objects.known.get(Model, 7) is seven
    assert objects.known.get(Model, 8) is eight
    del seven
    assert objects.known.get(Model, 7) is None
    assert len(objects.known) == 1


def test_an_object_that_does_not_know_yet_for_which_record_it_stands(objects: Objects) -> None:
    """Its Facts still name the one that has become this one: the record is referred to itself."""
    record = Record("Model", 7)
    model = objects.make(Record("Model"))
    objects.put(record, model)
    assert objects.known.get(Model, 7) is record
    del model
    assert objects.known.get(Model, 7) is record
    del record
    assert len(objects.known) == 0


def test_what_is_forgotten(objects: Objects) -> None:
    """It is not found any more, and comes back neither with the end of its objects nor over a new one."""
    record, new = Record("Model", 7), Record("Model", 7)
    model, other = objects.make(record), objects.make(new)
    objects.known.forget(Model, record)  # it is not known yet
    objects.put(record, model)
    objects.known.forget(Model, new)
    assert objects.known.get(Model, 7) is record
    objects.known.forget(Model, record)
    assert objects.known.get(Model, 7) is None
    objects.put(new, other)
    del model, record
    assert objects.known.get(Model, 7) is new


def test_an_end_at_a_bad_time(objects: Objects) -> None:
    """What ends while another thread changes entries is not waited for; that thread sees to it."""
    record = Record("Model", 7)
    model = objects.make(record)
    objects.put(record, model)
    with objects.known._busy:
        ended = threading.Thread(target=objects.known.gone, args=(objects.facts.get(model),))
        ended.start()
        ended.join(10)
        assert not ended.is_alive()
        assert len(objects.known._gone) == 1
    objects.put(nine := Record("Model", 9), objects.make(nine))
    assert len(objects.known._gone) == 0
    assert objects.known.get(Model, 7) is record


def test_an_old_reference_does_not_take_the_new_one_along(objects: Objects) -> None:
    """The end of a record may be seen to after there is another of its identity."""
    record = Record("Model", 7)
    objects.put(record, objects.make(record))
    with objects.known._busy:
        (reference,) = objects.known._of[Model].values()
        new = Record("Model", 7)
        other = objects.make(new)
        objects.put(new, other)
    objects.known.gone(reference)
    assert objects.known.get(Model, 7) is new


def test_threads_agree(objects: Objects, busy_switching: None) -> None:
    """One thread looks records up, as under the dispatcher's lock, while objects of them end in others."""
    wrong: list[object] = []

    def adopt() -> None:
        for n in range(1000):
            identity = n % 5
            record = objects.known.get(Model, identity)
            if record is None:
                record = Record("Model", identity)
                objects.put(record, model := objects.make(record))
            else:
                model = objects.make(record)
            models.append(model)
            del model
            if objects.known.get(Model, identity) is not record:
                wrong.append(identity)
        over.set()

    def end() -> None:
        while not over.is_set():
            if models:
                models.pop()

    models: list[Model] = []
    over = threading.Event()
    threads = [threading.Thread(target=end) for _ in range(2)]
    for thread in threads:
        thread.start()
    adopt()
    for thread in threads:
        thread.join(10)
    models.clear()
    objects.known._see_to()
    assert wrong == []
    assert len(objects.known) == 0
