"""Batches on a real PostgreSQL, on tables that are not what their class or their name says elsewhere."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from chained_models import registry
from chained_models.adapters.sqlalchemy import ADAPTER
from chained_models.backends import _sql_batch
from chained_models.backends.sqlalchemy import SQLAlchemyBackend
from chained_models.operation import Method, Operation

SCHEMAS = ("chained_tables", "chained_tables_one", "chained_tables_two")


class Base(DeclarativeBase):
    pass


class Varied(Base):
    """Columns of another type here than elsewhere."""

    __tablename__ = "varied"
    __table_args__ = {"schema": SCHEMAS[0]}
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[Any] = mapped_column(sa.Float().with_variant(sa.Numeric(30, 20), "postgresql"), nullable=True)
    day: Mapped[Any] = mapped_column(sa.Date().with_variant(sa.DateTime(), "postgresql"), nullable=True)
    more: Mapped[Any] = mapped_column(sa.JSON().with_variant(JSONB(), "postgresql"), nullable=True)
    moment: Mapped[Any] = mapped_column(
        sa.DateTime().with_variant(TIMESTAMP(timezone=True), "postgresql"), nullable=True
    )


class Percent(Base):
    __tablename__ = "100%"
    __table_args__ = {"schema": SCHEMAS[0]}
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]


class Split(Base):
    __tablename__ = "split"
    __table_args__ = {"schema": SCHEMAS[0]}
    id: Mapped[int] = mapped_column(primary_key=True)
    one: Mapped[str | None]
    other: Mapped[str | None]
    touched: Mapped[int | None]


class Tenant(Base):
    __tablename__ = "tenant"
    id: Mapped[int] = mapped_column(primary_key=True)
    one: Mapped[str | None]
    other: Mapped[str | None]
    touched: Mapped[int | None]


MODELS = (Varied, Percent, Split, Tenant)
REGISTERED = {model: registry.register(model, ADAPTER, ADAPTER.identity_fields(model)) for model in MODELS}
_serial = itertools.count(1)


def patch(model: type, identity: Any, **values: Any) -> Operation:
    return Operation(
        id=f"s{next(_serial)}",
        key="test",
        seq=1,
        model=REGISTERED[model].name,
        method=Method.PATCH,
        resource="",
        identity=identity,
        values=values,
        changed=frozenset(values),
        version=None,
        idempotency_key=str(uuid.uuid4()),
        attempt=1,
        timeout=10.0,
    )


@pytest.fixture
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    """With clocks that are set back once a year."""
    engine = sa.create_engine(postgres_url, connect_args={"options": "-c timezone=Europe/Berlin"})
    with engine.begin() as connection:
        for schema in SCHEMAS:
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        Base.metadata.create_all(connection, [Varied.__table__, Percent.__table__])
        connection.exec_driver_sql(
            f"CREATE FUNCTION {SCHEMAS[0]}.touch() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.touched := coalesce(NEW.touched, 0) + 1; RETURN NEW; END $$"
        )
    yield engine
    with engine.begin() as connection:
        for schema in SCHEMAS:
            connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    engine.dispose()


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("price", Decimal("0.12345678901234567891"), Decimal("0.12345678901234567891")),
        ("day", dt.datetime(2026, 10, 25, 12, 30), dt.datetime(2026, 10, 25, 12, 30)),
        ("more", {"a": [1]}, {"a": [1]}),
        ("moment", dt.datetime(2026, 10, 25, 0, 30, tzinfo=dt.UTC), Decimal(1792888200)),
    ],
)
def test_a_value_of_a_variant_is_stored_as_it_is(engine: sa.Engine, name: str, value: Any, wanted: Any) -> None:
    """The column has the type that the mapping names for this database; a cast to another one rounds, cuts and moves."""
    with engine.begin() as connection:
        connection.execute(sa.insert(Varied.__table__), [{"id": 1}, {"id": 2}])
    SQLAlchemyBackend(engine).execute_many([patch(Varied, at, **{name: value}) for at in (1, 2)])
    column = f"extract(epoch FROM {name})" if name == "moment" else name
    with engine.connect() as connection:
        stored = connection.exec_driver_sql(f"SELECT {column} FROM {SCHEMAS[0]}.varied").scalars().all()
    assert stored == [wanted, wanted]


def test_a_trigger_of_a_partition_of_a_partition_hears_of_its_column_only(engine: sa.Engine) -> None:
    """`UPDATE OF`, wherever in the tree it stands: a row that does not write the column does not fire it."""
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL search_path TO {SCHEMAS[0]}")
        for statement in (
            "CREATE TABLE split (id int PRIMARY KEY, one text, other text, touched int) PARTITION BY RANGE (id)",
            "CREATE TABLE half PARTITION OF split FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id)",
            "CREATE TABLE quarter PARTITION OF half FOR VALUES FROM (0) TO (9)",
            "CREATE TRIGGER touch BEFORE UPDATE OF other ON quarter FOR EACH ROW EXECUTE FUNCTION touch()",
            "INSERT INTO split VALUES (1), (2)",
        ):
            connection.exec_driver_sql(statement)
    SQLAlchemyBackend(engine).execute_many([patch(Split, 1, one="n"), patch(Split, 2, other="n")])
    with engine.connect() as connection:
        stored = connection.execute(sa.select(Split.id, Split.touched).order_by(Split.id)).all()
    assert [tuple(row) for row in stored] == [(1, None), (2, 1)]


def test_the_table_of_another_tenant_is_another_table(engine: sa.Engine) -> None:
    """Who sets the search_path for each transaction has many tables of one name; what is known of one says nothing of the next."""
    with engine.begin() as connection:
        for schema in SCHEMAS[1:]:
            connection.exec_driver_sql(
                f"CREATE TABLE {schema}.tenant (id int PRIMARY KEY, one text, other text, touched int)"
            )
            connection.exec_driver_sql(f"INSERT INTO {schema}.tenant VALUES (1), (2)")
        connection.exec_driver_sql(
            f"CREATE TRIGGER touch BEFORE UPDATE OF other ON {SCHEMAS[2]}.tenant FOR EACH ROW EXECUTE FUNCTION {SCHEMAS[0]}.touch()"
        )
    sessions = sessionmaker(engine)
    schema = ""

    @sa.event.listens_for(sessions, "after_begin")
    def enter(session: Session, transaction: Any, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL search_path TO {schema}")

    backend = SQLAlchemyBackend(sessions)
    for schema in SCHEMAS[1:]:
        backend.execute_many([patch(Tenant, 1, one="n"), patch(Tenant, 2, other="n")])
    with engine.connect() as connection:
        stored = connection.exec_driver_sql(f"SELECT id, touched FROM {SCHEMAS[2]}.tenant ORDER BY id").all()
    assert [tuple(row) for row in stored] == [(1, None), (2, 1)]


def test_rows_of_a_table_with_a_percent_sign_are_written_together(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one statement, as those of any other table."""
    alone: list[Operation] = []
    inner = _sql_batch.carry_out
    monkeypatch.setattr(
        _sql_batch,
        "carry_out",
        lambda session, operation, keys: alone.append(operation) or inner(session, operation, keys),
    )
    with engine.begin() as connection:
        connection.execute(sa.insert(Percent.__table__), [{"id": 1}, {"id": 2}])
    SQLAlchemyBackend(engine).execute_many([patch(Percent, at, text="n") for at in (1, 2)])
    assert alone == []
