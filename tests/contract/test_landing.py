"""A save that lands, which is to say: ends without anybody to be told. It keeps what the longer way to the end promises."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
from sqlalchemy import PickleType, create_engine, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from chained_models import (
    Answer,
    ChainedSaveMixin,
    Dispatcher,
    Guarantee,
    InvalidOption,
    Lane,
    Method,
    Operation,
    Outcome,
    Rejected,
    RetryPolicy,
    WouldDeadlock,
)
from chained_models.testing import Harness, ScriptedBackend


class Base(DeclarativeBase):
    """Of the mapped classes here."""


class Quick:
    """Accepts everything at once, and says nothing new but the identity of what it creates."""

    guarantee = Guarantee.PLAIN

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def execute(self, operation: Operation) -> Any:
        self.operations.append(operation)
        return {"id": 1} if operation.method is Method.CREATE and operation.identity is None else None


# The account that the model's own library keeps


class Account(ChainedSaveMixin, Base):
    __tablename__ = "attack_account"
    id: Mapped[int | None] = mapped_column(primary_key=True)
    total: Mapped[int]


def test_a_late_end_of_an_abandoned_save_does_not_move_what_counts_as_stored() -> None:
    """When a newer save is confirmed, the late end of an abandoned one changes nothing: an edit is still sent after it."""
    Account.bind(ScriptedBackend(), retry=RetryPolicy(attempts=1, timeout=1.0), timeout=1.0)
    with Harness(ScriptedBackend()) as chained:
        account = Account(total=0)
        account.save()
        account.total = 1
        chained.backend.answer_late(5.0)
        first = account.save()
        chained.advance(2.0)
        assert first.outcome is Outcome.ABANDONED
        account.total = 2
        assert account.save().outcome is Outcome.SAVED
        account.total = 1
        assert account.chain.unsaved_changes() == {"total": 1}
        chained.advance(10.0)  # now the first one ends
        assert account.chain.unsaved_changes() == {"total": 1}
        account.save(patch=True)
        assert [dict(one.values)["total"] for one in chained.backend.applied] == [0, 1, 2, 1]


@pytest.mark.parametrize("last", ["saved", "rejected", "cancelled"])
def test_after_many_saves_the_account_says_what_is_stored(last: str) -> None:
    """An account that was not kept between saves that wait for each other is right when the last one has ended, however."""
    Account.bind(ScriptedBackend())
    with Harness(ScriptedBackend()) as chained:
        account = Account(total=0)
        account.save()
        chained.backend.hold(times=1)
        handles = []
        for total in (1, 2, 3):
            account.total = total
            handles.append(account.save())
        if last == "rejected":
            chained.backend.fail(Rejected("no"), handles[-1])
        elif last == "cancelled":
            handles[-1].cancel()
        chained.backend.release()
        assert [one.outcome for one in handles[:-1]] == [Outcome.SAVED, Outcome.SAVED]
        assert inspect(account).attrs.total.history.has_changes() is (last != "saved")
        stored = 3 if last == "saved" else 2
        for total in (3, 0, 2):
            account.total = total
            assert account.chain.unsaved_changes() == ({} if total == stored else {"total": total})


# Chains


def test_a_handle_of_the_same_chain_is_refused_also_when_it_has_landed() -> None:
    """Whether `after=` is refused does not depend on how quick the save was that it names."""
    Ordered.bind(Quick(), dispatcher=Dispatcher("inline"), identity_by="client")
    ordered = Ordered(1)
    landed = ordered.save()
    assert landed.done()
    with pytest.raises(InvalidOption, match="same chain"):
        ordered.save(after=[landed])


# Interrupts


class Angry:
    """A value of which one comparison is interrupted."""

    armed: ClassVar[list[bool]] = []

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        if self.armed:
            self.armed.clear()
            raise KeyboardInterrupt
        return isinstance(other, Angry) and self.number == other.number

    __hash__ = None  # type: ignore[assignment]


class Mood(ChainedSaveMixin, Base):
    __tablename__ = "attack_mood"
    id: Mapped[int | None] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(PickleType)


def test_an_interrupt_while_a_save_lands_does_not_stop_its_chain() -> None:
    """An interrupt out of a comparison, after the backend has answered: the save is SAVED, and the next one is sent."""

    class Arming(Quick):
        def execute(self, operation: Operation) -> Any:
            if operation.method is Method.UPDATE and operation.values["value"].number == 2:
                Angry.armed.append(True)
            return super().execute(operation)

    backend = Arming()
    Mood.bind(backend, dispatcher=(dispatcher := Dispatcher("inline")))
    mood = Mood(value=Angry(1))
    mood.save()
    mood.value = Angry(2)
    with pytest.raises(KeyboardInterrupt):
        mood.save()
    Angry.armed.clear()
    mood.value = Angry(3)
    last = mood.save()
    try:
        assert last.outcome is Outcome.SAVED, last.why_waiting
    finally:
        dispatcher.close(0)


# The lock


@dataclasses.dataclass
class Holder(ChainedSaveMixin):
    id: int
    value: Any = None


def test_what_a_landed_save_replaces_is_not_freed_under_the_lock() -> None:
    """The base that a landed save replaces goes outside the lock: a finalizer of a value in it may save another object."""
    refused: list[BaseException] = []
    saved: list[Any] = []

    class Value:
        def __init__(self, say: Callable[[], object] | None = None) -> None:
            self.say = say

        def __deepcopy__(self, memo: object) -> Value:
            return Value(speak)

        def __eq__(self, other: object) -> bool:
            return self is other

        __hash__ = None  # type: ignore[assignment]

        def __del__(self) -> None:
            if self.say is not None:
                self.say()

    def speak() -> None:
        try:
            saved.append(other.save())
        except WouldDeadlock as error:
            refused.append(error)

    class Forgetful:  # who keeps the operations keeps their values
        guarantee = Guarantee.PLAIN

        def execute(self, operation: Operation) -> None:
            pass

    Holder.bind(Forgetful(), dispatcher=Dispatcher("inline"), identity_by="client")
    holder, other = Holder(1), Holder(2)
    holder.value = Value()
    holder.save()
    holder.value = None
    holder.save()
    assert not refused
    assert saved


_HANDLER = """
import dataclasses, faulthandler, threading
from chained_models import ChainedSaveMixin, Dispatcher, Guarantee
from chained_models.drivers.threads import ThreadsDriver

faulthandler.dump_traceback_later(10, exit=True)
deciding, second_goes, second_runs, first_goes = (threading.Event() for _ in range(4))
armed = []

class Telling(ThreadsDriver):
    def now(self):  # asked with the dispatcher's lock held
        if armed and self.owns_thread():
            deciding.set()
        return super().now()

class Backend:
    guarantee = Guarantee.PLAIN
    def execute(self, operation):
        if operation.identity == 1:
            first_goes.wait()
        if operation.identity == 2:
            second_runs.set()
            second_goes.wait()

@dataclasses.dataclass
class Thing(ChainedSaveMixin):
    id: int

dispatcher = Dispatcher(Telling())
Thing.bind(Backend(), dispatcher=dispatcher, identity_by="client")
first, second, third = Thing(1), Thing(2), Thing(3)
handle = first.save()
second.save()
second_runs.wait()
Condition = threading.Condition

class Moment(Condition):
    # The moment at which a signal handler, or a finalizer, comes: somebody begins to wait for a handle.
    def __init__(self, *given):
        threading.Condition = Condition
        super().__init__(*given)
        armed.append(True)
        second_goes.set()
        deciding.wait()  # the second one is about to land
        armed.clear()
        third.save()

threading.Condition = Moment
handle.add_done_callback(lambda _: None)
first_goes.set()
dispatcher.flush()
print("done")
"""


def test_a_save_out_of_a_signal_handler_of_one_who_waits_does_not_deadlock() -> None:
    """Who begins to wait for a handle may be interrupted by a handler that saves, while another thread's save lands."""
    ran = subprocess.run([sys.executable, "-c", _HANDLER], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.strip() == "done", ran.stderr[-2000:]


# Order


@dataclasses.dataclass
class Ordered(ChainedSaveMixin):
    id: int
    total: int = 0
    value: Any = None


def test_a_save_from_inside_the_snapshot_of_another_one_comes_after_it() -> None:
    """A save that began before another one of the object, and ended its copy after it, carries what is there by then."""
    inner: list[Callable[[], object]] = []

    class Value:
        def __deepcopy__(self, memo: object) -> Value:
            if inner:
                inner.pop()()
            return self

    backend = Quick()
    Ordered.bind(backend, dispatcher=Dispatcher("inline"), identity_by="client")
    ordered = Ordered(1, 1, Value())

    def save_newer() -> None:
        ordered.total = 2
        ordered.save()

    inner.append(save_newer)
    ordered.save()
    assert [dict(one.values)["total"] for one in backend.operations] == [2, 2]


# Batches


@dataclasses.dataclass
class Batched(ChainedSaveMixin):
    id: int
    number: int = 0


def test_saves_that_come_free_by_the_end_of_one_batch_are_sent_as_one_batch() -> None:
    """The ends of a batch are one completion: the next saves of its chains share one call, though none is listened to."""
    sizes: list[int] = []

    class Gathering(Quick):
        lane = Lane(max_in_flight=8)

        def execute(self, operation: Operation) -> Any:
            return self.execute_many([operation])[0]

        def execute_many(self, operations: Sequence[Operation]) -> Any:
            sizes.append(len(operations))
            return [Answer() for _ in operations]

    backend = Gathering()
    Batched.bind(backend, dispatcher=Dispatcher("inline"), identity_by="client")
    things = [Batched(number) for number in range(10)]
    backend.lane.pause()
    for number in range(3):
        for thing in things:
            thing.number = number
            thing.save()
    backend.lane.resume()
    assert sizes == [10, 10, 10]


# The thread of an object


class Shown(ChainedSaveMixin, Base):
    __tablename__ = "attack_shown"
    id: Mapped[int | None] = mapped_column(primary_key=True)
    total: Mapped[int]


def test_a_save_in_another_thread_at_the_same_time_does_not_take_an_object_over() -> None:
    """What is answered for an object in a Session is given to the thread that saved it, whoever saves meanwhile."""

    class Counting(Quick):
        def execute(self, operation: Operation) -> Any:
            return {"total": 42} if operation.identity == 1 else None

    dispatcher = Dispatcher("threads")
    Shown.bind(backend := Counting(), dispatcher=dispatcher)
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as session:
        session.add_all([mine := Shown(id=1, total=0), others := Shown(id=2, total=0)])
        session.commit()
        session.expunge(others)
        mine.total, others.total = 1, 1
        code = dispatcher.submit.__func__.__code__  # type: ignore[attr-defined]
        moments = iter([True])

        def meanwhile(frame: Any, event: str, _: object) -> Any:
            # As another thread may come in between: after the ident was noted, and before it is read again.
            if frame.f_code is not code:
                return None
            here = dispatcher._intake._here
            if (
                event == "line"
                and here == threading.get_ident()
                and "save" not in frame.f_locals
                and next(moments, None)
            ):
                other = threading.Thread(target=others.save)
                other.start()
                other.join()
            return meanwhile

        sys.settrace(meanwhile)
        try:
            handle = mine.save()
        finally:
            sys.settrace(None)
        handle.result()
        assert mine.total == 42
        session.rollback()
    dispatcher.close()
    assert backend is not None
