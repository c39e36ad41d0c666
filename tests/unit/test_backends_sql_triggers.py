"""What the database is asked about a table, and for how long, and where, the answer holds."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.dialects.postgresql import asyncpg, psycopg

from chained_models.backends import _sql_triggers
from chained_models.backends._sql_triggers import Seen, oid, seen

TABLE = sa.Table('100%% of "it"', sa.MetaData(schema="My %"), sa.Column("id", sa.Integer, primary_key=True))
NOTE = sa.Table("note", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    """Each connection has a database of its own, in memory; there is a trigger in the first one, and none in the others."""
    serial = itertools.count()

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:")
        connection.execute("CREATE TABLE note (id INTEGER PRIMARY KEY)")
        if next(serial) == 0:
            connection.execute("CREATE TRIGGER heard AFTER UPDATE ON note BEGIN SELECT 1; END")
        return connection

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.QueuePool)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("dialect", [psycopg.dialect(), asyncpg.dialect()], ids=lambda dialect: dialect.driver)
def test_a_name_is_asked_for_as_it_is(dialect: Any) -> None:
    """As a value, in which nothing is doubled but quotes."""
    asked = oid(TABLE, dialect)
    assert asked is not None
    assert list(sa.select(asked).compile(dialect=dialect).params.values()) == ['"My %"."100%% of ""it"""']


@pytest.mark.parametrize("dialect", [sqlite.dialect(), mysql.dialect()], ids=lambda dialect: dialect.name)
def test_elsewhere_a_name_means_one_table(dialect: Any) -> None:
    """There is nothing to ask in each transaction."""
    assert oid(NOTE, dialect) is None


def test_what_is_known_is_known_of_one_connection(engine: sa.Engine) -> None:
    """Another one of the same engine may lead to another database."""
    with engine.connect() as one, engine.connect() as other:
        for _ in range(2):
            assert seen(one, NOTE) == Seen(plain=True, masks=False, exact=True)
            assert seen(other, NOTE) == Seen(plain=True, masks=True, exact=True)


def test_what_is_known_is_known_of_one_table(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the same name there may be another one in the next transaction; of which is looked at once."""
    looked: list[Any] = []

    def look(connection: sa.Connection, table: sa.Table, oid: Any) -> Seen:
        looked.append(oid)
        return Seen(plain=True, masks=oid == 1, exact=False)

    monkeypatch.setattr(_sql_triggers, "_look", look)
    with engine.connect() as connection:
        assert [seen(connection, NOTE, number).masks for number in (1, 2, 1, 2)] == [True, False, True, False]
    assert looked == [1, 2]


def test_not_all_tables_are_remembered(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be one for each of many tenants."""
    monkeypatch.setattr(_sql_triggers, "_MOST_KEPT", 2)
    monkeypatch.setattr(_sql_triggers, "_look", lambda *given: Seen(plain=True, masks=True, exact=False))
    with engine.connect() as connection:
        for number in range(1, 6):
            seen(connection, NOTE, number)
        assert len(connection.info[_sql_triggers._KEPT]) <= 2


def test_a_trigger_is_noticed_in_time(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a table looks like is asked again after a while."""
    now = [0.0]
    monkeypatch.setattr(_sql_triggers.time, "monotonic", lambda: now[0])
    with engine.connect(), engine.connect() as connection:
        assert seen(connection, NOTE).masks
        connection.exec_driver_sql("CREATE TEMP TRIGGER heard AFTER UPDATE ON note BEGIN SELECT 1; END")
        assert seen(connection, NOTE).masks
        now[0] += 100
        assert not seen(connection, NOTE).masks
