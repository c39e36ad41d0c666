"""Two writers and lost answers, with a real REST server and real databases: what is stored in the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import create_async_engine

from chained_models import (
    Abandoned,
    Answer,
    BaseUnknown,
    ChainedSaveMixin,
    Conflict,
    Dispatcher,
    InDoubt,
    OnConflict,
    Operation,
    Outcome,
    RetryPolicy,
)
from chained_models.backends.rest import RestBackend
from chained_models.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend
from chained_models.operation import Method

from .rest_server import Cut, Fault, RestServer
from .test_sqlalchemy_postgres import CuttingProxy

SOON = RetryPolicy(wait_initial=0.01, wait_max=0.01)

# REST, with ETags


@dataclasses.dataclass
class Basket(ChainedSaveMixin):
    id: int | None = None
    note: str = ""
    owner: str = ""


@pytest.fixture
def basket(rest_server: RestServer) -> Iterator[Basket]:
    """A basket that was just loaded; another program may write the same one with `rest_server.put`."""
    rest_server.put("/baskets/7", {"id": 7, "note": "a", "owner": "Ann"})
    backend = RestBackend(rest_server.url, conditional=True)
    with Dispatcher() as dispatcher:
        Basket.bind(backend, resource="baskets", dispatcher=dispatcher, retry=SOON, on_conflict=OnConflict.FAIL)
        basket = Basket(id=7)
        basket.refresh().result(10)
        yield basket
    backend.close()


def verbs(server: RestServer) -> list[str]:
    """What was asked after the first refresh."""
    return [request.verb for request in server.requests[1:]]


@pytest.mark.parametrize("cut", [Cut.AFTER_APPLY, Cut.MID_REPLY])
@pytest.mark.parametrize(("how", "verb"), [({}, "PUT"), ({"patch": True}, "PATCH")])
def test_an_own_write_is_recognised(
    rest_server: RestServer, basket: Basket, cut: Cut, how: dict[str, bool], verb: str
) -> None:
    """The reply to a conditional write is lost; the 412 to the next attempt is our own write: SAVED, and applied once."""
    rest_server.plan(Fault(reset=cut))
    handle = basket.save({"note": "b"}, **how)
    assert handle.result(10) is basket
    assert (handle.outcome, handle.attempts) == (Outcome.SAVED, 2)
    assert verbs(rest_server) == [verb, verb, "GET"]
    assert [write.verb for write in rest_server.applied if write.verb != "GET"] == [verb]
    basket.save({"note": "c"}, **how).result(10)
    assert rest_server.store["/baskets/7"] == {"id": 7, "note": "c", "owner": "Ann"}


def test_somebody_elses_write_after_a_lost_reply(rest_server: RestServer, basket: Basket) -> None:
    """Lost, and overwritten by somebody else before the next attempt: a conflict, but nobody can say FAILED."""
    rest_server.plan(Fault(reset=Cut.BEFORE_READ))
    basket.chain.on("retry", lambda event: rest_server.put("/baskets/7", {"id": 7, "note": "theirs", "owner": "Ann"}))
    handle = basket.save({"note": "b"})
    assert isinstance(handle.exception(10), Abandoned)
    assert isinstance(handle.exception().__cause__, Conflict)  # type: ignore[union-attr]
    assert rest_server.store["/baskets/7"]["note"] == "theirs"


def test_rebase(rest_server: RestServer, basket: Basket) -> None:
    """Both changes are stored, each request conditional."""
    Basket.bind(None, on_conflict=OnConflict.REBASE)
    rest_server.put("/baskets/7", {"id": 7, "note": "a", "owner": "Bob"})
    handle = basket.save({"note": "b"})
    assert handle.result(10) is basket
    assert (handle.outcome, handle.superseded_by.outcome) == (Outcome.SUPERSEDED, Outcome.SAVED)
    assert verbs(rest_server) == ["PUT", "GET", "PUT"]
    assert [request.headers.get("If-Match") for request in rest_server.requests[1:]] == ['"1"', None, '"2"']
    assert len({request.headers["Idempotency-Key"] for request in rest_server.requests if request.verb == "PUT"}) == 2
    assert rest_server.store["/baskets/7"] == {"id": 7, "note": "b", "owner": "Bob"}
    assert (basket.note, basket.owner) == ("b", "Bob")


def test_rebase_of_the_same_attribute(rest_server: RestServer, basket: Basket) -> None:
    """Both have changed the note: FAILED, and theirs is stored."""
    Basket.bind(None, on_conflict=OnConflict.REBASE)
    rest_server.put("/baskets/7", {"id": 7, "note": "theirs", "owner": "Ann"})
    handle = basket.save({"note": "ours"})
    assert isinstance(handle.exception(10), Conflict)
    assert rest_server.store["/baskets/7"]["note"] == "theirs"
    basket.refresh().result(10)
    basket.chain.revert()
    assert basket.note == "theirs"


def test_overwrite(rest_server: RestServer, basket: Basket) -> None:
    """Ours wins, sent without If-Match; the next one is conditional again."""
    Basket.bind(None, on_conflict=OnConflict.OVERWRITE)
    rest_server.put("/baskets/7", {"id": 7, "note": "theirs", "owner": "Bob"})
    basket.save({"note": "ours"}).result(10)
    basket.save({"note": "ours still"}).result(10)
    assert [request.headers.get("If-Match") for request in rest_server.requests[1:]] == ['"1"', None, '"3"']
    assert rest_server.store["/baskets/7"] == {"id": 7, "note": "ours still", "owner": "Ann"}


@pytest.mark.parametrize("rule", [OnConflict.REBASE, OnConflict.OVERWRITE])
def test_delete(rest_server: RestServer, basket: Basket, rule: OnConflict) -> None:
    """A delete of what has changed is done all the same, if that is the rule."""
    Basket.bind(None, on_conflict=rule)
    rest_server.put("/baskets/7", {"id": 7, "note": "theirs", "owner": "Bob"})
    assert basket.delete().result(10) is basket
    assert rest_server.store == {}


def test_a_backend_of_ones_own_that_verifies(rest_server: RestServer) -> None:
    """A subclass of RestBackend says how a create in doubt is found again: by a number that the program gives."""

    class Finding(RestBackend):
        def verify(self, operation: Operation) -> Any:
            found = [values for values in rest_server.store.values() if values["note"] == operation.values["note"]]
            return found[0] if found else False

    backend = Finding(rest_server.url)
    with Dispatcher() as dispatcher:
        Basket.bind(backend, resource="baskets", dispatcher=dispatcher, retry=SOON, on_conflict=OnConflict.FAIL)
        for cut, verbs_sent in ((Cut.AFTER_APPLY, ["POST"]), (Cut.AFTER_HEADERS, ["POST", "POST"])):
            rest_server.requests.clear()
            rest_server.plan(Fault(reset=cut))
            basket = Basket(note=cut.name)
            assert basket.save().result(10) is basket
            assert [request.verb for request in rest_server.requests] == verbs_sent
            assert rest_server.store[f"/baskets/{basket.id}"]["note"] == cut.name
        assert len(rest_server.store) == 2
    backend.close()


# SQLAlchemy, with a version column


class Base(orm.DeclarativeBase):
    pass


class Account(ChainedSaveMixin, Base):
    __tablename__ = "chained_conflict_account"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    owner: orm.Mapped[str] = orm.mapped_column(default="")
    balance: orm.Mapped[int] = orm.mapped_column(default=0)
    version: orm.Mapped[int] = orm.mapped_column()
    __mapper_args__ = {"version_id_col": version}


@dataclasses.dataclass
class Database:
    """One database, and how to reach it in both colours."""

    engine: sa.Engine
    async_url: str

    def row(self) -> tuple[Any, ...]:
        table = Account.__table__.c
        with self.engine.connect() as connection:
            return tuple(connection.execute(sa.select(table.owner, table.balance, table.version)).one())

    def write(self, **values: Any) -> None:
        """Somebody else does."""
        with orm.Session(self.engine) as session:
            account = session.get_one(Account, 1)
            for name, value in values.items():
                setattr(account, name, value)
            session.commit()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """With one account, of Ann, at version 1."""
    if request.param == "sqlite":
        url, async_url = f"sqlite:///{tmp_path / 'a.db'}", f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    else:
        url = async_url = request.getfixturevalue("postgres_url")
    engine = sa.create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add(Account(owner="Ann", balance=10))
        session.commit()
    yield Database(engine, async_url)
    Base.metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture(params=["sync", "async"])
def account(request: pytest.FixtureRequest, database: Database) -> Iterator[Account]:
    """The account, loaded in a Session that was closed."""
    backend: Any = SQLAlchemyBackend(database.engine)
    if request.param == "async":
        backend = AsyncSQLAlchemyBackend(create_async_engine(database.async_url, poolclass=sa.NullPool))
    with Dispatcher() as dispatcher:
        Account.bind(backend, dispatcher=dispatcher, retry=SOON, on_conflict=OnConflict.FAIL)
        with orm.Session(database.engine, expire_on_commit=False) as session:
            account = session.get_one(Account, 1)
        yield account


def test_two_writers_rebase(database: Database, account: Account) -> None:
    """Different columns: both are stored, and the version counts all three writes; what follows goes on from there."""
    Account.bind(None, on_conflict=OnConflict.REBASE)
    database.write(owner="Bob")
    account.chain.pause()
    first, second = account.save({"balance": 20}), account.save({"balance": 30})
    account.chain.resume()
    assert (first.result(10), second.result(10)) == (account, account)
    assert (first.outcome, second.outcome) == (Outcome.SUPERSEDED, Outcome.SAVED)
    assert database.row() == ("Bob", 30, 4)
    assert (account.owner, account.balance, account.version) == ("Bob", 30, 4)
    account.save({"balance": 40}).result(10)
    assert database.row() == ("Bob", 40, 5)


def test_two_writers_of_the_same_column(database: Database, account: Account) -> None:
    """The same column: FAILED with the conflict; a refresh and `revert()` take theirs."""
    Account.bind(None, on_conflict=OnConflict.REBASE)
    database.write(balance=11)
    handle = account.save({"balance": 20})
    assert isinstance(handle.exception(10), Conflict)
    assert database.row() == ("Ann", 11, 2)
    account.refresh().result(10)
    assert account.balance == 20
    account.chain.revert()
    assert (account.balance, account.version) == (11, 2)
    account.save({"balance": 12}).result(10)
    assert database.row() == ("Ann", 12, 3)


def test_two_writers_overwrite(database: Database, account: Account) -> None:
    """Ours wins, and the version is counted on all the same."""
    Account.bind(None, on_conflict=OnConflict.OVERWRITE)
    database.write(balance=11)
    account.save({"balance": 20}).result(10)
    assert database.row() == ("Ann", 20, 3)
    account.save({"balance": 30}).result(10)
    assert database.row() == ("Ann", 30, 4)


def test_two_writers_and_a_function(database: Database, account: Account) -> None:
    """Deposits add up."""
    Account.bind(
        None,
        on_conflict=lambda clash: {"balance": clash.theirs["balance"] + clash.ours["balance"] - clash.base["balance"]},
    )
    database.write(balance=15)
    account.save({"balance": 20}).result(10)
    assert database.row() == ("Ann", 25, 3)
    assert account.balance == 25


def test_overwrite_needs_no_version(database: Database) -> None:
    """An object made by hand has no version: BaseUnknown, unless what is there is to be overwritten."""
    with Dispatcher() as dispatcher:
        Account.bind(SQLAlchemyBackend(database.engine), dispatcher=dispatcher, on_conflict=OnConflict.FAIL)
        account = Account(id=1, owner="Ann", balance=0)
        account.chain.mark_saved()
        with pytest.raises(BaseUnknown, match="OVERWRITE"):
            account.save({"balance": 1})
        Account.bind(None, on_conflict=OnConflict.OVERWRITE)
        account.save().result(10)
    assert database.row() == ("Ann", 1, 2)


class LosesAnswers(SQLAlchemyBackend):
    """The answer to the first COMMIT is lost."""

    lost = False

    def execute(self, operation: Operation) -> Answer:
        answer = super().execute(operation)
        if self.lost:
            return answer
        self.lost = True
        raise InDoubt("the answer to COMMIT is lost")


@pytest.mark.parametrize("how", [{}, {"patch": True}])
def test_an_own_commit_in_doubt(database: Database, how: dict[str, bool]) -> None:
    """The next attempt meets the version that our own write has made: SAVED, written once."""
    with Dispatcher() as dispatcher:
        Account.bind(LosesAnswers(database.engine), dispatcher=dispatcher, retry=SOON, on_conflict=OnConflict.FAIL)
        with orm.Session(database.engine, expire_on_commit=False) as session:
            account = session.get_one(Account, 1)
        handle = account.save({"balance": 20}, **how)
        assert handle.result(10) is account
        assert (handle.outcome, handle.attempts) == (Outcome.SAVED, 2)
        assert database.row() == ("Ann", 20, 2)
        account.save({"balance": 30}, **how).result(10)
        assert database.row() == ("Ann", 30, 3)


class ThroughProxy(SQLAlchemyBackend):
    """The first attempt goes through a proxy that cuts the connection at COMMIT, the others do not."""

    def __init__(self, engine: sa.Engine, proxy: CuttingProxy) -> None:
        super().__init__(engine)
        self._first: SQLAlchemyBackend | None = SQLAlchemyBackend(sa.create_engine(proxy.url, poolclass=sa.NullPool))
        self.methods: list[Method] = []

    def execute(self, operation: Operation) -> Answer:
        self.methods.append(operation.method)
        first, self._first = self._first, None
        return super().execute(operation) if first is None else first.execute(operation)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("passing", [True, False], ids=["applied", "not applied"])
def test_a_connection_that_is_cut_at_commit(postgres_url: str, database: Database, passing: bool) -> None:
    """Whether the COMMIT came through or not: the save is SAVED, and the row was written once."""
    with Dispatcher() as dispatcher, CuttingProxy(postgres_url, passing) as proxy:
        backend = ThroughProxy(database.engine, proxy)
        Account.bind(backend, dispatcher=dispatcher, retry=SOON, on_conflict=OnConflict.FAIL)
        with orm.Session(database.engine, expire_on_commit=False) as session:
            account = session.get_one(Account, 1)
        assert account.save({"balance": 20}).result(10) is account
        assert database.row() == ("Ann", 20, 2)
        assert backend.methods == [Method.UPDATE, Method.UPDATE, *([Method.READ] if passing else [])]


def test_an_edit_back_to_what_was_loaded_is_a_change(database: Database, account: Account) -> None:
    """After a refresh that kept an edit, the mapper still holds what it loaded; that is not what is stored."""
    account.balance = 20
    database.write(balance=11)
    account.refresh().result(10)
    assert account.chain.unsaved_changes() == {"balance": 20}
    account.save({"balance": 10}).result(10)
    assert database.row() == ("Ann", 10, 3)
    assert not account.chain.unsaved_changes()
