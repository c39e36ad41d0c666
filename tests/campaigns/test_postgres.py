"""A PostgreSQL server that crashes and cuts connections, at moments of commit above all, while eight threads save.

What was applied is written down by the database itself: a trigger appends a line to a log, in the transaction of the write.
So the log has exactly what was committed, in the order in which the row was written, and is held against what the handles
said. The server runs without fsync: a crash of the server loses nothing by that, only a power cut would.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import random
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import wait
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from chained_models import BaseUnknown, ChainedSaveMixin, Dispatcher, Guarantee, Lane, Outcome, RetryPolicy, SaveHandle
from chained_models.backends.sqlalchemy import SQLAlchemyBackend

from ..contract.scripted import threads_of_ours
from ..integration.postgres import Server, own_server
from .campaign import Campaign

WRITERS = 8
PATIENCE = 60.0
"""Seconds without any progress after which something hangs."""

QUEUED = 6
"""So many saves of an object may wait before its writer waits as well."""

AT_WORK = 50
"""So many commits there are between two crashes, at least."""

LIFE = 40
"""So many saves an object gets, before a new one is made: creates are attacked too."""

PATIENT = RetryPolicy(attempts=100_000, wait_initial=0.01, wait_max=0.1, timeout=PATIENCE)
HASTY = RetryPolicy(attempts=2, wait_initial=0.01, timeout=PATIENCE)
"""Gives up soon, so that there are saves that fail or are abandoned, and others behind them."""

LOG = sa.text("SELECT object, n, created FROM chained_log ORDER BY place")
LOGGED = """
CREATE TABLE chained_log (place bigserial PRIMARY KEY, object text NOT NULL, n integer NOT NULL, created boolean NOT NULL);
CREATE FUNCTION chained_log() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO chained_log (object, n, created) VALUES (NEW.object, NEW.n, TG_OP = 'INSERT'); RETURN NULL; END $$
"""
TRIGGER = "CREATE TRIGGER chained_log AFTER INSERT OR UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION chained_log()"


# What is saved. `object` names one object for ever, also before it has an identity; `n` is the number of the write.


class Base(DeclarativeBase):
    pass


class Keyed(ChainedSaveMixin, MappedAsDataclass, Base):
    __tablename__ = "chained_keyed"
    id: Mapped[int | None] = mapped_column(primary_key=True, default=None)
    object: Mapped[str] = mapped_column(default="")
    n: Mapped[int] = mapped_column(default=0)


class Fenced(ChainedSaveMixin, Base):
    __tablename__ = "chained_fenced"
    id: Mapped[int] = mapped_column(primary_key=True)
    object: Mapped[str]
    n: Mapped[int]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Both(ChainedSaveMixin, Base):
    """Keys and versions."""

    __tablename__ = "chained_both"
    id: Mapped[int] = mapped_column(primary_key=True)
    object: Mapped[str]
    n: Mapped[int]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Plain(ChainedSaveMixin, Base):
    __tablename__ = "chained_plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    object: Mapped[str]
    n: Mapped[int]


KINDS: dict[type[Any], Guarantee] = {
    Keyed: Guarantee.TRANSACTIONAL,
    Fenced: Guarantee.FENCED,
    Both: Guarantee.TRANSACTIONAL | Guarantee.FENCED,
    Plain: Guarantee.PLAIN,
}


# What must hold


@dataclasses.dataclass
class Written:
    """One write of one object: what its handles said (a retry by hand adds one)."""

    object: str
    n: int
    once: bool
    """Whether its backend promises that it is applied once at most."""
    may_end: frozenset[Outcome | None] = frozenset({None, *Outcome})
    """How it may end: what is tried until it is saved does not fail."""
    outcomes: list[Outcome | None] = dataclasses.field(default_factory=list)


Line = tuple[str, int, bool]


def violations(written: Iterable[Written], log: Iterable[Line]) -> list[str]:
    """What was promised and is not so.

    Args:
        written: Everything that was accepted.
        log: What was applied, in that order: object, number, whether the row was created.
    """
    applied: Counter[tuple[str, int]] = Counter()
    last: dict[str, int] = defaultdict(int)
    creates: Counter[str] = Counter()
    found: list[str] = []
    for name, n, created in log:
        applied[name, n] += 1
        creates[name] += created
        if n < last[name]:
            found.append(f"reordered: {name} {n} after {last[name]}")
        last[name] = n
    found += [f"created {times} times: {name}" for name, times in creates.items() if times > 1]
    for one in written:
        times = applied.pop((one.object, one.n), 0)
        outcomes = set(one.outcomes)
        if None in outcomes or not outcomes:
            found.append(f"not settled: {one}")
        if Outcome.SAVED in outcomes and not times:
            found.append(f"lost: {one}")
        if not outcomes <= one.may_end:
            found.append(f"not saved: {one}")
        if outcomes and outcomes <= {Outcome.FAILED, Outcome.CANCELLED} and times:
            found.append(f"applied in spite of {'/'.join(sorted(o.name for o in outcomes if o))}: {one}")
        if times > 1 and one.once:
            found.append(f"applied {times} times: {one}")
    return found + [f"nobody has saved this: {name} {n}" for name, n in applied]


A, F, C, S = Outcome.ABANDONED, Outcome.FAILED, Outcome.CANCELLED, Outcome.SAVED


@pytest.mark.parametrize(
    ("found", "outcomes", "once", "log"),
    [
        ([], {1: S, 2: F, 3: S}, True, [("a", 1, True), ("a", 3, False)]),
        ([], {1: S, 2: A}, True, [("a", 1, True), ("a", 2, False)]),
        ([], {1: S, 2: S}, False, [("a", 1, True), ("a", 2, False), ("a", 2, False)]),
        (["lost"], {1: S, 2: S}, True, [("a", 1, True)]),
        (["reordered"], {1: S, 2: S}, False, [("a", 2, True), ("a", 1, False)]),
        (["applied 2 times"], {1: S}, True, [("a", 1, False), ("a", 1, False)]),
        (["created 2 times"], {1: A, 2: S}, False, [("a", 1, True), ("a", 2, True)]),
        (["applied in spite of FAILED"], {1: F}, False, [("a", 1, True)]),
        (["applied in spite of CANCELLED"], {1: C}, False, [("a", 1, True)]),
        (["not settled"], {1: None}, False, []),
        (["not saved"], {1: A}, None, [("a", 1, True)]),
        ([], {1: S}, None, [("a", 1, True)]),
        (["nobody has saved this"], {}, False, [("a", 1, True)]),
    ],
)
def test_the_check(found: list[str], outcomes: dict[int, Outcome | None], once: bool | None, log: list[Line]) -> None:
    """It finds each kind of broken promise, and nothing where there is none."""
    may_end = frozenset({S} if once is None else {None, *Outcome})
    written = [Written("a", n, bool(once), may_end, [outcome]) for n, outcome in outcomes.items()]
    assert [one.split(":")[0] for one in violations(written, log)] == found


# Who disturbs


class Killer:
    """Ends the server's side of connections, as a superuser: every so many commits, at one moment of four.

    Attributes:
        every: Of so many transactions the connection of one is killed; None for never.
        kills: How many the server says were killed, by moment.
    """

    MOMENTS = ("in the transaction", "before COMMIT", "beside COMMIT", "after COMMIT")

    def __init__(self, url: str, every: int, moments: Sequence[str] = MOMENTS) -> None:
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True, pool_size=WRITERS)
        self._moments = moments
        self.every: int | None = every
        self.kills: Counter[str] = Counter()
        self.commits = 0
        self.news = threading.Condition()
        self._turn = itertools.count()
        self._beside: list[threading.Thread] = []

    def attach(self, engine: sa.Engine) -> None:
        """Attack the connections of this engine from now on."""
        commit = engine.dialect.do_commit
        here = threading.local()

        def begin(connection: sa.Connection) -> None:
            here.moment = self._moment()
            if here.moment == "in the transaction":
                self._kill(connection.connection.driver_connection, here.moment)

        def do_commit(driver: Any) -> None:
            moment, here.moment = here.moment, None
            raw = driver.driver_connection
            if moment == "before COMMIT":
                self._kill(raw, moment)
            elif moment == "beside COMMIT":
                # Nobody waits for it: it may be in time or too late.
                pid = raw.info.backend_pid
                beside = threading.Thread(target=self._kill_pid, args=(pid, moment))
                self._beside.append(beside)
                beside.start()
            commit(driver)
            if moment == "after COMMIT":
                # It has been applied; what the library hears of it is that the connection is gone.
                self._kill(raw, moment)
                raw.execute("SELECT 1")
            with self.news:
                self.commits += 1
                self.news.notify_all()

        sa.event.listen(engine, "begin", begin)
        engine.dialect.do_commit = do_commit

    def _moment(self) -> str | None:
        turn = next(self._turn)
        if self.every is None or turn % self.every:
            return None
        return self._moments[turn // self.every % len(self._moments)]

    def _kill(self, raw: Any, moment: str) -> None:
        self._kill_pid(raw.info.backend_pid, moment)

    def _kill_pid(self, pid: int, moment: str) -> None:
        # Waits until it has happened: a second, at most. While the server is down there is nothing to be killed.
        with contextlib.suppress(sa.exc.OperationalError), self._engine.connect() as connection:
            if connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 1000)"), {"pid": pid}).scalar():
                with self.news:
                    self.kills[moment] += 1
                    self.news.notify_all()

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait for commits and kills to come to that; something hangs if there are none."""
        with self.news:
            while not reached():
                before = (self.commits, self.kills.total())
                assert self.news.wait(PATIENCE), f"no commit within {PATIENCE:g} s"
                assert (self.commits, self.kills.total()) != before

    def stop(self) -> None:
        """Leave them alone from now on."""
        self.every = None

    def close(self) -> None:
        for beside in self._beside:
            beside.join(PATIENCE)
            assert not beside.is_alive()
        self._engine.dispose()


# Who writes


class Writer:
    """A thread that saves objects of every kind, one after the other, as the dice will have it."""

    def __init__(self, name: str, seed: int, kinds: Sequence[type[Any]], going: threading.Event) -> None:
        self._dice = random.Random(f"{seed} {name}")
        self._name = name
        self._kinds = kinds
        self._going = going
        self._serial = itertools.count(1)
        self._objects: dict[type[Any], Any] = {}
        self._numbers: Counter[type[Any]] = Counter()
        self._hasty: dict[type[Any], bool] = {}
        self._unsettled: dict[type[Any], deque[tuple[Written, SaveHandle[Any]]]] = {kind: deque() for kind in kinds}
        self.written: list[Written] = []
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=name)
        self.thread.start()

    def _run(self) -> None:
        try:
            while self._going.is_set():
                self._write(self._dice.choice(self._kinds))
            for kind in self._kinds:
                self._look_after(kind, 0)
        except BaseException as error:
            self.error = error

    def _write(self, kind: type[Any]) -> None:
        one = self._objects.get(kind)
        if one is None or self._numbers[kind] >= LIFE:
            self._look_after(kind, 0)
            one = self._objects[kind] = kind(object=f"{kind.__name__} {self._name}.{next(self._serial)}", n=0)
            self._numbers[kind] = 0
            self._hasty[kind] = self._dice.random() < 0.3
            if self._hasty[kind]:
                one.chain.update(retry=HASTY)
        for _ in range(self._dice.randrange(1, 4)):
            self._numbers[kind] += 1
            number = self._numbers[kind]  # not from the object: a refresh may set that back
            once = KINDS[kind] is not Guarantee.PLAIN
            write = Written(one.object, number, once, may_end=self._may_end(kind))
            try:
                save = one.save({"n": number}, patch=self._dice.random() < 0.3)
            except BaseUnknown:  # something was abandoned, and this writer has not looked yet
                self._look_after(kind, 0)
                break
            self.written.append(write)
            self._unsettled[kind].append((write, save))
        self._look_after(kind, QUEUED)

    def _may_end(self, kind: type[Any]) -> frozenset[Outcome | None]:
        if self._hasty[kind]:
            return frozenset(Outcome)
        if KINDS[kind] & Guarantee.TRANSACTIONAL:
            return frozenset({Outcome.SAVED})
        # Without keys a create that is in doubt is not repeated, and what waits behind it is cleared.
        return frozenset({Outcome.SAVED, Outcome.ABANDONED, Outcome.CANCELLED})

    def _look_after(self, kind: type[Any], left: int) -> None:
        """Wait until no more than so many are left, and do what a program would about those that did not go well."""
        unsettled = self._unsettled[kind]
        while len(unsettled) > left:
            write, save = unsettled.popleft()  # whatever has halted the chain is looked at before those behind it
            write.outcomes.append(_end(save))
            if save.outcome is not Outcome.SAVED:
                self._go_on(kind, save.model, write)

    def _go_on(self, kind: type[Any], one: Any, write: Written) -> None:
        if one.chain.halted is None and kind is not Keyed and kind is not Plain and not one.chain.is_new:
            # After something was abandoned, it is not known which version is stored.
            while _end(one.refresh()) is not Outcome.SAVED:
                pass
        while one.chain.halted is not None:  # a create that is in doubt
            if KINDS[kind] & Guarantee.TRANSACTIONAL and self._dice.random() < 0.7:
                write.outcomes.append(_end(one.chain.retry()))  # the same key, so it cannot be created twice
            else:
                one.chain.clear()
                self._objects.pop(kind, None)


def _end(save: SaveHandle[Any] | None) -> Outcome:
    """How it ends, which must be soon: the server is away for a second at most."""
    assert save is not None
    assert wait([save], PATIENCE).done, f"{save} hangs; it {save.why_waiting}"
    assert save.outcome is not None
    return save.outcome


# The campaign


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with own_server() as server:
        yield server


@pytest.fixture
def look(server: Server) -> Iterator[sa.Engine]:
    """The tests' own way in, to prepare and to look; nobody kills its connections."""
    engine = sa.create_engine(server.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
        Base.metadata.create_all(connection)
        connection.exec_driver_sql(LOGGED)
        for table in Base.metadata.tables:
            connection.exec_driver_sql(TRIGGER.format(table))
    SQLAlchemyBackend(engine, key_table=True).create_key_table()
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Failures that nobody listens to are logged; here there are thousands."""
    caplog.set_level(logging.CRITICAL, "chained_models")


def writing(url: str) -> sa.Engine:
    """No more connections than attempts can be in flight: one that is not given back is missed."""
    return sa.create_engine(url, pool_size=WRITERS, max_overflow=0, connect_args={"application_name": "writer"})


def log_of(look: sa.Engine) -> list[Line]:
    with look.connect() as connection:
        return [(row.object, row.n, row.created) for row in connection.execute(LOG)]


def open_connections(look: sa.Engine) -> int:
    """So many connections of writers the server has."""
    with look.connect() as connection:
        count = sa.text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'writer'")
        return int(connection.execute(count).scalar_one())


class Counting(SQLAlchemyBackend):
    """Counts what shares a transaction."""

    batched = 0

    def execute_many(self, operations: Any) -> Any:
        self.batched += len(operations)
        return super().execute_many(operations)


@pytest.mark.parametrize(
    "lane",
    [partial(Lane, max_in_flight=WRITERS, max_batch=1), partial(Lane, max_in_flight=2)],
    ids=["alone", "together"],
)
def test_crashes_and_killed_connections(
    campaign: Campaign, server: Server, look: sa.Engine, lane: Callable[[], Lane]
) -> None:
    """Nothing lost, nothing reordered, nothing twice where that is promised; no hang, and no connection left open.

    Whether each save has a transaction of its own, or those that gather share one.
    """
    restarts, kills = campaign.pick((3, 25), (30, 300), (150, 2000))
    threads = threading.enumerate()
    killer = Killer(server.url, every=5)
    engine = writing(server.url)
    killer.attach(engine)
    going = threading.Event()
    going.set()
    shared, batched = lane(), []
    with Dispatcher("threads") as dispatcher:
        for kind, guarantee in KINDS.items():
            backend = Counting(engine, lane=shared, key_table=bool(guarantee & Guarantee.TRANSACTIONAL))
            batched.append(backend)
            assert backend.guarantee(kind) == guarantee
            kind.bind(backend, dispatcher=dispatcher, retry=PATIENT)
        writers = [Writer(f"w{number}", campaign.seed, list(KINDS), going) for number in range(WRITERS)]
        try:
            for number in range(1, restarts + 1):
                enough = killer.commits + AT_WORK
                killer.until(lambda: killer.commits >= enough and killer.kills.total() >= kills * number // restarts)
                server.restart()
        finally:
            killer.stop()
            going.clear()
            for writer in writers:
                writer.thread.join(PATIENCE)
        assert [writer.error for writer in writers] == [None] * WRITERS
        assert not any(writer.thread.is_alive() for writer in writers)
        dispatcher.flush(PATIENCE)
        assert len(dispatcher) == 0
    killer.close()
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    engine.dispose()
    assert until_gone(look) == 0
    assert threads_of_ours(since=threads) == []
    written = [one for writer in writers for one in writer.written]
    log = log_of(look)
    assert violations(written, log) == []
    said = Counter(outcome.name.lower() for one in written for outcome in one.outcomes if outcome is not None)
    assert said["saved"] > 0
    assert said["abandoned"] > 0
    assert killer.kills.keys() == set(Killer.MOMENTS)
    together = sum(backend.batched for backend in batched)
    assert bool(together) is (shared.max_batch > 1)
    campaign.report(
        restarts=restarts,
        killed=killer.kills.total(),
        **{f"killed {moment}": killer.kills[moment] for moment in Killer.MOMENTS},
        commits=killer.commits,
        sent_together=together,
        lines_in_the_log=len(log),
        **dict(sorted(said.items())),
    )


def until_gone(look: sa.Engine) -> int:
    """The server notices a moment later that a connection was closed. Returns how many stay."""
    for _ in range(1000):
        if not (left := open_connections(look)):
            break
    return left


class Lying(SQLAlchemyBackend):
    """Says that it has a key table."""

    def guarantee(self, model_type: type) -> Guarantee:
        return Guarantee.TRANSACTIONAL


def test_without_the_key_table_writes_happen_twice(server: Server, look: sa.Engine) -> None:
    """What makes it exactly once is the key table, and the check sees when it is not there."""
    killer = Killer(server.url, every=2, moments=["after COMMIT"])
    engine = writing(server.url)
    killer.attach(engine)
    with Dispatcher("threads") as dispatcher:
        Plain.bind(Lying(engine), dispatcher=dispatcher, retry=PATIENT)
        one = Plain(object="a", n=0)
        saves = [one.save({"n": n}) for n in range(1, 5)]
        written = [Written("a", n, once=True, outcomes=[_end(save)]) for n, save in enumerate(saves, 1)]
    killer.close()
    engine.dispose()
    found = {violation.split(":")[0] for violation in violations(written, log_of(look))}
    assert "applied 2 times" in found
    assert found <= {"applied 2 times", "created 2 times"}
