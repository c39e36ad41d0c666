"""The SQLAlchemy backends on a real PostgreSQL: what a COMMIT can end in, and what a key table makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from chained_models import registry
from chained_models.adapters.sqlalchemy import ADAPTER
from chained_models.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend
from chained_models.exceptions import Conflict, Gone, InDoubt, Rejected, Unavailable
from chained_models.operation import Answer, Method, Operation


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "chained_test_account"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(unique=True)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Rich(Base):
    """Columns that only a real database has."""

    __tablename__ = "chained_test_rich"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=sa.text("gen_random_uuid()"))
    tags: Mapped[list[str]] = mapped_column(ARRAY(sa.Text), server_default="{a,b}")
    extra: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default='{"k": [1]}')
    made: Mapped[dt.datetime] = mapped_column(sa.DateTime(timezone=True), server_default=sa.func.now())
    changed: Mapped[dt.datetime | None] = mapped_column(sa.DateTime(timezone=True), onupdate=sa.func.clock_timestamp())
    note: Mapped[str | None]
    length: Mapped[int | None] = mapped_column(sa.Computed("length(note)", persisted=True))


class TransactionNumber(sa.types.UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self) -> str:
        return "xid"


class Tuple_(Base):
    """Its version is the server's: the number of the transaction that wrote the row."""

    __tablename__ = "chained_test_tuple"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str]
    xmin: Mapped[str] = mapped_column(TransactionNumber, system=True, server_default=sa.FetchedValue())
    __mapper_args__ = {"version_id_col": xmin, "version_id_generator": False}


class Nowhere(Base):
    __tablename__ = "chained_test_nowhere"
    id: Mapped[int] = mapped_column(primary_key=True)


class Watched(Session):
    """The Session of the backends under test, so that a test can act at a certain moment of theirs."""


REGISTERED = {
    model: registry.register(model, ADAPTER, ADAPTER.identity_fields(model))
    for model in (Account, Rich, Tuple_, Nowhere)
}
_serial = itertools.count(1)


def operation(
    model: type, method: Method, identity: Any = None, version: Any = None, timeout: float = 10.0, **values: Any
) -> Operation:
    """An operation as the dispatcher would make it; all values count as changed."""
    seq = next(_serial)
    return Operation(
        id=f"s{seq}",
        key="test",
        seq=seq,
        model=REGISTERED[model].name,
        method=method,
        resource="",
        identity=identity,
        values=values,
        changed=frozenset(values),
        version=version,
        idempotency_key=str(uuid.uuid4()),
        attempt=1,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    """The tests' own way in, to prepare and to look."""
    engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    tables = [table for table in Base.metadata.sorted_tables if table is not Nowhere.__table__]
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine, tables=tables)
    SQLAlchemyBackend(engine, key_table=True).create_key_table()
    yield engine
    Base.metadata.drop_all(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE chained_models_keys")
    engine.dispose()


@pytest.fixture(autouse=True)
def clean(engine: sa.Engine) -> None:
    """Every test begins with two accounts."""
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "TRUNCATE chained_test_account, chained_test_rich, chained_test_tuple, chained_models_keys RESTART IDENTITY"
        )
        connection.execute(
            sa.insert(Account.__table__), [{"owner": "Ann", "version": 1}, {"owner": "Bob", "version": 1}]
        )


def accounts(engine: sa.Engine) -> dict[str, int]:
    """The owners, and the versions of their accounts."""
    with engine.connect() as connection:
        rows = connection.execute(sa.select(Account.__table__.c.owner, Account.__table__.c.version))
        return {row.owner: row.version for row in rows}


class Run:
    """Carries out operations with a backend of one colour, each with an engine of its own."""

    def __init__(self, colour: str, url: str) -> None:
        self.colour = colour
        self.url = url

    def __call__(self, operation: Operation, *, url: str | None = None, keyed: bool = False, **engine: Any) -> Answer:
        if self.colour == "sync":
            made = sa.create_engine(url or self.url, **engine)
            try:
                return SQLAlchemyBackend(sessionmaker(made, class_=Watched), key_table=keyed).execute(operation)
            finally:
                made.dispose()
        return asyncio.run(self._async(operation, url or self.url, keyed, engine))

    async def _async(self, operation: Operation, url: str, keyed: bool, options: dict[str, Any]) -> Answer:
        made = create_async_engine(url, **options)
        try:
            sessions = async_sessionmaker(made, sync_session_class=Watched)
            return await AsyncSQLAlchemyBackend(sessions, key_table=keyed).execute(operation)
        finally:
            await made.dispose()


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest, postgres_url: str) -> Run:
    return Run(request.param, postgres_url)


@contextlib.contextmanager
def acting(target: Any, moment: str, act: Callable[..., None]) -> Iterator[None]:
    """Let `act` happen at that moment of a Session or mapper, once."""
    done: list[None] = []

    def once(*arguments: Any) -> None:
        if not done:
            done.append(None)
            act(*arguments)

    sa.event.listen(target, moment, once)
    try:
        yield
    finally:
        sa.event.remove(target, moment, once)


def wait_until_blocked(engine: sa.Engine) -> None:
    """Until somebody waits for a lock."""
    waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    with engine.connect() as connection:
        while not connection.execute(waiting).scalar():
            pass


# The ordinary course


def test_what_the_server_gives_comes_back(run: Run) -> None:
    """Server defaults after an insert; computed columns and `onupdate` expressions after an update."""
    created = run(operation(Rich, Method.CREATE, note="four"))
    values = created.values
    assert values is not None
    assert isinstance(values["id"], uuid.UUID)
    assert isinstance(values["made"], dt.datetime)
    assert (values["tags"], values["extra"], values["length"], values["changed"]) == (["a", "b"], {"k": [1]}, 4, None)
    updated = run(operation(Rich, Method.UPDATE, values["id"], tags=["c"], note="seven"))
    assert updated.values is not None
    assert updated.values["changed"] > values["made"]
    assert (updated.values["tags"], updated.values["length"]) == (["c"], 5)
    assert "extra" not in updated.values
    read = run(operation(Rich, Method.READ, values["id"]))
    assert read.values == {**values, **updated.values}


def test_versions_fence(run: Run, engine: sa.Engine) -> None:
    """The newest writer wins by its version; the other hears of it, and a deleted row is gone."""
    assert run(operation(Account, Method.UPDATE, 1, version=1, owner="Cyd")).version == 2
    with pytest.raises(Conflict):
        run(operation(Account, Method.UPDATE, 1, version=1, owner="Dan"))
    with pytest.raises(Conflict):
        run(operation(Account, Method.DELETE, 1, version=1))
    assert run(operation(Account, Method.UPDATE, 1, owner="Dan")).version == 3
    run(operation(Account, Method.DELETE, 1, version=3))
    with pytest.raises(Gone):
        run(operation(Account, Method.UPDATE, 1, version=3, owner="Eve"))
    assert accounts(engine) == {"Bob": 1}


def test_a_system_column_can_be_the_version(run: Run) -> None:
    """The server counts; what it counted comes back with every write."""
    created = run(operation(Tuple_, Method.CREATE, note="a"))
    updated = run(operation(Tuple_, Method.UPDATE, 1, version=created.version, note="b"))
    assert updated.version != created.version
    with pytest.raises(Conflict):
        run(operation(Tuple_, Method.UPDATE, 1, version=created.version, note="c"))
    assert run(operation(Tuple_, Method.UPDATE, 1, version=updated.version, note="d")).values is not None


@pytest.mark.parametrize(
    "refused",
    [
        operation(Account, Method.CREATE, owner="Ann"),
        operation(Account, Method.CREATE, owner="a\0b"),
        operation(Account, Method.CREATE, owner=None),
        operation(Account, Method.CREATE, owner=object()),
        operation(Nowhere, Method.CREATE),
        operation(Rich, Method.UPDATE, "no uuid", note="x"),
    ],
    ids=["23505", "NUL", "23502", "no adaptation", "42P01", "identity"],
)
def test_what_the_server_refuses_is_rejected(run: Run, engine: sa.Engine, refused: Operation) -> None:
    """Whether the server says so or the driver; nothing of it is stored."""
    with pytest.raises(Rejected):
        run(refused)
    assert accounts(engine) == {"Ann": 1, "Bob": 1}


# Passing trouble: surely not applied


def test_a_serialization_failure_at_commit_is_unavailable(run: Run, engine: sa.Engine, postgres_url: str) -> None:
    """40001 in place of the answer to COMMIT is an answer too: rolled back. The whole transaction is tried again."""
    everything = sa.text("SELECT sum(version) FROM chained_test_account")
    update = operation(Account, Method.UPDATE, 1, version=1, owner="Cyd")
    other_engine = sa.create_engine(postgres_url, isolation_level="SERIALIZABLE")
    with other_engine.connect() as other:
        other.execute(everything)
        other.execute(sa.text("UPDATE chained_test_account SET owner = 'Dan' WHERE id = 2"))
        with (
            acting(Account, "before_update", lambda mapper, connection, target: connection.execute(everything)),
            acting(Watched, "before_commit", lambda session: other.commit()),
            pytest.raises(Unavailable) as caught,
        ):
            run(update, isolation_level="SERIALIZABLE")
    other_engine.dispose()
    cause = caught.value.__cause__
    assert isinstance(cause, sa.exc.DBAPIError)
    assert getattr(cause.orig, "sqlstate", None) == "40001"
    assert cause.statement is None  # it was no statement of ours that failed, but COMMIT
    assert run(update, isolation_level="SERIALIZABLE").version == 2
    assert accounts(engine) == {"Cyd": 2, "Dan": 1}


def test_a_deadlock_is_unavailable(run: Run, engine: sa.Engine, postgres_url: str) -> None:
    """40P01: the server has chosen us as the victim, and rolled back."""
    other_engine = sa.create_engine(postgres_url)
    touch = sa.text("UPDATE chained_test_account SET version = version WHERE id = :id")
    with ThreadPoolExecutor(1) as pool, other_engine.connect() as other:
        other.exec_driver_sql("SET deadlock_timeout = '10s'")
        other.execute(touch, {"id": 2})

        def meet(mapper: Any, connection: sa.Connection, target: Account) -> None:
            pool.submit(other.execute, touch, {"id": 1})
            wait_until_blocked(engine)
            connection.execute(touch, {"id": 2})

        with acting(Account, "after_update", meet), pytest.raises(Unavailable, match="40P01"):
            run(operation(Account, Method.UPDATE, 1, version=1, owner="Cyd"))
        pool.shutdown()
        other.rollback()
    other_engine.dispose()
    assert accounts(engine) == {"Ann": 1, "Bob": 1}


def test_a_lock_that_is_held_too_long_is_unavailable(run: Run, postgres_url: str) -> None:
    """The attempt's timeout is the statement's: no thread waits for ever for somebody's open transaction."""
    engine = sa.create_engine(postgres_url)
    with engine.connect() as other:
        other.execute(sa.text("SELECT * FROM chained_test_account FOR UPDATE"))
        with pytest.raises(Unavailable, match="57014"):
            run(operation(Account, Method.UPDATE, 1, version=1, timeout=0.05, owner="Cyd"))
    engine.dispose()


def kill(session: Session, *moment: Any) -> None:
    """Let the server end the connection of `session`; `after_begin` has it as the last argument."""
    connection = moment[-1] if moment and isinstance(moment[-1], sa.Connection) else session
    connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))


@pytest.mark.parametrize("moment", ["after_begin", "after_flush", "before_commit"])
def test_a_connection_killed_before_commit_is_unavailable(run: Run, engine: sa.Engine, moment: str) -> None:
    """Whenever it happens: COMMIT was not sent, so nothing is stored."""
    with acting(Watched, moment, kill), pytest.raises(Unavailable, match="57P01"):
        run(operation(Account, Method.CREATE, owner="Cyd"))
    assert accounts(engine) == {"Ann": 1, "Bob": 1}


@pytest.mark.parametrize("timeout", [30 * 86_400.0, float("inf")])
def test_a_long_timeout_is_no_reason_to_refuse_a_save(run: Run, timeout: float) -> None:
    """`save(timeout=math.inf)` is accepted; PostgreSQL counts milliseconds in 31 bits."""
    answer = run(operation(Account, Method.UPDATE, 1, version=1, timeout=timeout, owner="Cyd"))
    assert answer.version == 2


def test_a_server_that_is_not_there_is_unavailable(run: Run) -> None:
    """Connection refused, by a driver that gives no code for it."""
    with socket.socket() as bound:  # bound and not listening: refuses
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable):
            run(
                operation(Account, Method.CREATE, owner="Cyd"),
                url=f"postgresql+psycopg://postgres@127.0.0.1:{bound.getsockname()[1]}/postgres",
            )


# In doubt: COMMIT was sent


def test_a_session_ended_by_the_server_during_commit_is_in_doubt(run: Run, engine: sa.Engine) -> None:
    """57P01 in place of the answer: the server may have committed before it ended the session. Here it had not."""
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION chained_test_kill() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
        )
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER chained_test_kill AFTER INSERT ON chained_test_account "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION chained_test_kill()"
        )
        try:
            with pytest.raises(InDoubt):
                run(operation(Account, Method.CREATE, owner="Cyd"))
        finally:
            connection.exec_driver_sql("DROP FUNCTION chained_test_kill CASCADE")
    assert accounts(engine) == {"Ann": 1, "Bob": 1}


def test_a_constraint_checked_at_commit_is_rejected(run: Run, engine: sa.Engine) -> None:
    """An answer to COMMIT like any other: the server says what is wrong, and has rolled back."""
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE chained_test_account ADD CONSTRAINT chained_test_late "
            "UNIQUE (version, owner) DEFERRABLE INITIALLY DEFERRED, DROP CONSTRAINT chained_test_account_owner_key"
        )
        try:
            with pytest.raises(Rejected, match="23505"):
                run(operation(Account, Method.CREATE, owner="Ann"))
        finally:
            connection.exec_driver_sql(
                "ALTER TABLE chained_test_account DROP CONSTRAINT chained_test_late, ADD UNIQUE (owner)"
            )
    assert accounts(engine) == {"Ann": 1, "Bob": 1}


class CuttingProxy:
    """Stands between driver and server, and cuts the connection when it sees COMMIT.

    Args:
        url: Of the server.
        passing: Whether COMMIT reaches the server first, and is answered there.
    """

    def __init__(self, url: str, passing: bool) -> None:
        self._server = sa.make_url(url)
        self._passing = passing
        self._cut = threading.Event()
        self._answered = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = self._server.set(host="127.0.0.1", port=self._listener.getsockname()[1]).render_as_string(False)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        """One connection, until COMMIT."""
        client, _ = self._listener.accept()
        with client, socket.create_connection((self._server.host or "127.0.0.1", self._server.port or 5432)) as server:
            answers = threading.Thread(target=self._pass_answers, args=(server, client))
            answers.start()
            while data := client.recv(65536):
                if b"COMMIT" in data:
                    self._cut.set()
                    if self._passing:
                        server.sendall(data)
                        self._answered.wait(10)
                    break
                server.sendall(data)
            for end in (client, server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            answers.join()

    def _pass_answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if self._cut.is_set():
                    self._answered.set()
                    return
                client.sendall(data)


@pytest.mark.parametrize("passing", [True, False], ids=["applied", "not applied"])
def test_a_lost_answer_to_commit_is_in_doubt_and_the_key_ends_the_doubt(
    run: Run, engine: sa.Engine, passing: bool
) -> None:
    """Nobody here can know whether it was applied; with a key table it does not matter: the next attempt does it once."""
    create = operation(Account, Method.CREATE, owner="Cyd")
    with CuttingProxy(run.url, passing) as proxy, pytest.raises(InDoubt):
        run(create, url=proxy.url, keyed=True)
    assert accounts(engine) == {"Ann": 1, "Bob": 1, **({"Cyd": 1} if passing else {})}
    answer = run(create, keyed=True)
    assert answer.values is not None
    assert (answer.values["owner"], answer.version) == ("Cyd", 1)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT max(id) FROM chained_test_account")).scalar() == answer.values["id"]
    assert accounts(engine) == {"Ann": 1, "Bob": 1, "Cyd": 1}


def test_a_lost_answer_without_a_key_is_found_out_by_the_next_attempt(run: Run, engine: sa.Engine) -> None:
    """A versioned update that was applied conflicts with itself: no proof of anything, which is why keys exist."""
    update = operation(Account, Method.UPDATE, 1, version=1, owner="Cyd")
    with CuttingProxy(run.url, passing=True) as proxy, pytest.raises(InDoubt):
        run(update, url=proxy.url)
    with pytest.raises(Conflict):
        run(update)
    assert accounts(engine) == {"Cyd": 2, "Bob": 1}


def test_a_second_attempt_waits_for_a_first_one_that_is_still_committing(
    run: Run, engine: sa.Engine, postgres_url: str
) -> None:
    """Its connection broke, and the server is at it yet: who looked for the key now would not see it."""
    create = operation(Account, Method.CREATE, owner="Cyd")
    first = sa.create_engine(postgres_url)
    with ThreadPoolExecutor(1) as pool, first.connect() as committing:
        committing.execute(
            sa.text("INSERT INTO chained_models_keys (key, answer) VALUES (:key, :answer)"),
            {"key": create.idempotency_key, "answer": '{"version": 1, "values": {"id": 77}}'},
        )
        second = pool.submit(run, create, keyed=True)
        wait_until_blocked(engine)
        committing.commit()
        assert second.result(10) == Answer({"id": 77}, version=1)
    first.dispose()
    assert accounts(engine) == {"Ann": 1, "Bob": 1}


# Cancellation


def test_a_cancelled_attempt_leaves_nothing_behind(engine: sa.Engine, postgres_url: str) -> None:
    """The transaction is rolled back and its connection given back, so nobody waits for a lock of it."""

    async def main() -> None:
        made = create_async_engine(postgres_url)
        backend = AsyncSQLAlchemyBackend(made)
        with sa.create_engine(postgres_url, poolclass=sa.NullPool).connect() as other:
            other.execute(sa.text("SELECT * FROM chained_test_account WHERE id = 1 FOR UPDATE"))
            attempt = asyncio.create_task(backend.execute(operation(Account, Method.UPDATE, 1, version=1, owner="Cyd")))
            await asyncio.to_thread(wait_until_blocked, engine)
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt
            other.rollback()
        answer = await backend.execute(operation(Account, Method.UPDATE, 1, version=1, owner="Dan"))
        assert answer.version == 2
        await made.dispose()

    asyncio.run(main())
    assert accounts(engine) == {"Dan": 2, "Bob": 1}
