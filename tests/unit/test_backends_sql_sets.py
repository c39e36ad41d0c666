"""The statements that write many rows at once, as text."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.dialects.postgresql import CITEXT, INET, asyncpg, psycopg, psycopg2
from sqlalchemy.engine import default

from chained_models.backends import _sql_sets
from chained_models.backends._sql_sets import Sets, sets

METADATA = sa.MetaData(schema="my schema")
TABLE = sa.Table(
    "100% item",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("select", sa.String(5)),
    sa.Column("price", sa.Numeric(10, 2)),
    sa.Column("at", sa.DateTime(timezone=True)),
    sa.Column("version", sa.Integer),
)
C = TABLE.columns


class Connection:
    """Takes what is sent, and answers with rows."""

    rowcount = -1

    def __init__(self, *rows: Any) -> None:
        self.sent: list[tuple[str, Any]] = []
        self._rows = rows

    def exec_driver_sql(self, text: str, parameters: Any) -> Connection:
        self.sent.append((text, parameters))
        return self

    def all(self) -> list[Any]:
        return list(self._rows)

    def scalars(self) -> list[Any]:
        return [row[0] for row in self._rows]


def made(dialect: Any, *, versioned: bool = True) -> Sets:
    maker = sets(TABLE, [C.id], C.version if versioned else None, dialect)
    assert maker is not None
    return maker


def lite() -> Any:
    dialect = sqlite.dialect()
    dialect.server_version_info = (3, 40)
    return dialect


def test_arrays_for_postgresql() -> None:
    """One text for any number of rows, each column cast without a length, names quoted and percent signs doubled."""
    connection = Connection((0,), (2,))
    arrays: Any = [[1, 2, 3], [1, 1, 1], [2, 2, 2], [1, 2, 3], ["a", None, "b"], [None, 5, 6]]
    maker = made(psycopg.dialect())
    assert maker.update(
        connection, [C.select, C.price], {C.at: "now()"}, arrays, masked=True, telling=True, exact=False
    ) == [0, 2]
    text = (
        'UPDATE "my schema"."100%% item" AS r SET version = v.w, '
        '"select" = CASE WHEN (v.m & 1) <> 0 THEN v.c0 ELSE r."select" END, '
        "price = CASE WHEN (v.m & 2) <> 0 THEN v.c1 ELSE r.price END, at = now() "
        "FROM unnest(%s::INTEGER[], %s::INTEGER[], %s::INTEGER[], %s::INTEGER[], %s::BIGINT[], %s::TEXT[], %s::NUMERIC[]) "
        "AS v (o, k0, x, w, m, c0, c1) WHERE r.id = v.k0 AND r.version = v.x RETURNING v.o"
    )
    assert connection.sent == [(text, ([0, 1, 2], *arrays))]
    maker.update(
        connection,
        [C.select, C.price],
        {C.at: "now()"},
        [array[:1] for array in arrays],
        masked=True,
        telling=True,
        exact=False,
    )
    assert connection.sent[1][0] is connection.sent[0][0]


def test_values_for_postgresql() -> None:
    """Where the values of a column are not of one type, or the driver is another: rows, each value cast."""
    arrays: Any = [[1, 2], [1, 1], [2, 2], ["a", 5]]
    connection = Connection()
    assert (
        made(psycopg.dialect()).update(connection, [C.select], {}, arrays, masked=False, telling=True, exact=False)
        == []
    )
    row = "(%s::INTEGER, %s::INTEGER, %s::INTEGER, %s::INTEGER, %s::TEXT)"
    assert connection.sent == [
        (
            'UPDATE "my schema"."100%% item" AS r SET version = v.w, "select" = v.c0 '
            f"FROM (VALUES {row}, {row}) AS v (o, k0, x, w, c0) WHERE r.id = v.k0 AND r.version = v.x RETURNING v.o",
            (0, 1, 1, 2, "a", 1, 2, 1, 2, 5),
        )
    ]
    arrays[-1] = ["a", "b"]
    for dialect, first in (
        (psycopg2.dialect(), "(VALUES (%s::INTEGER, "),
        (asyncpg.dialect(), "(VALUES ($1::INTEGER, "),
    ):
        made(dialect).update(connection, [C.select], {}, arrays, masked=False, telling=True, exact=False)
        assert first in connection.sent[-1][0]
    assert "$10::TEXT" in connection.sent[-1][0]


def test_a_written_column_keeps_its_expression_where_it_is_not_written() -> None:
    """A column that gets a value by itself does so in each row that does not write it."""
    connection = Connection((1,))
    maker = made(psycopg.dialect(), versioned=False)
    maker.update(
        connection, [C.at, C.price], {C.at: "now()"}, [[1], [1], [None], [5]], masked=True, telling=True, exact=False
    )
    assert "SET at = CASE WHEN (v.m & 1) <> 0 THEN v.c0 ELSE now() END, price" in connection.sent[0][0]
    assert connection.sent[0][0].endswith("WHERE r.id = v.k0 RETURNING v.o")
    maker.update(connection, [C.at], {C.at: "now()"}, [[1], [None]], masked=False, telling=True, exact=False)
    assert "SET at = v.c0 FROM" in connection.sent[1][0]


def test_rows_for_sqlite() -> None:
    """A few sizes, filled up with rows that are nobody's; who was there is known by the key."""
    connection = Connection(*((at,) for at in range(17)))
    arrays: Any = [list(range(17)), [1] * 17, [2] * 17, ["a"] * 17]
    assert made(lite()).update(connection, [C.select], {}, arrays, masked=False, telling=True, exact=False) == range(17)
    text, parameters = connection.sent[0]
    assert text == (
        'UPDATE "my schema"."100% item" AS r SET version = v.w, "select" = v.c0 '
        f"FROM (WITH s (k0, x, w, c0) AS (VALUES {', '.join(['(?, ?, ?, ?)'] * 18)}) SELECT * FROM s) AS v "
        "WHERE r.id = v.k0 AND r.version = v.x RETURNING id"
    )
    assert parameters[:4] + parameters[-8:] == (0, 1, 2, "a", 16, 1, 2, "a", None, None, None, None)


def test_a_count_is_enough_for_sqlite_at_first() -> None:
    """All were there, which is cheap to know; or not, and then it is asked again who."""
    arrays: Any = [[5, 6], ["a", "b"]]
    for count, there in ((2, range(2)), (1, None)):
        connection = Connection()
        connection.rowcount = count
        maker = made(lite(), versioned=False)
        assert maker.update(connection, [C.select], {}, arrays, masked=False, telling=False, exact=False) == there
        assert connection.sent[0][0].endswith("WHERE r.id = v.k0")


@pytest.mark.parametrize(
    "keys, rows, exact, there",
    [
        ([5, 6], [(6,)], False, [1]),
        (["a", "b"], [("b",)], True, [1]),
        (["a", "A"], [("a",)], False, None),
        ([5, 6], [(7,)], False, None),
        ([1.0, 2.0], [(1.0,)], True, None),
    ],
)
def test_who_was_there_in_sqlite(keys: Any, rows: Any, exact: bool, there: Any) -> None:
    """A key that may be equal to another spelling, or is not the one that was sent, tells nothing."""
    maker = made(lite(), versioned=False)
    assert maker.delete(Connection(*rows), [keys], versioned=False, exact=exact) == there


def test_deletes() -> None:
    """By key, or by key and version."""
    connection = Connection((0,))
    made(psycopg.dialect()).delete(connection, [[1], [3]], versioned=True, exact=False)
    made(lite()).delete(connection, [[1], [3]], versioned=True, exact=False)
    made(lite()).delete(connection, [[1]], versioned=False, exact=False)
    assert [text for text, _ in connection.sent] == [
        'DELETE FROM "my schema"."100%% item" AS r USING unnest(%s::INTEGER[], %s::INTEGER[], %s::INTEGER[]) '
        "AS v (o, k0, x) WHERE r.id = v.k0 AND r.version = v.x RETURNING v.o",
        'DELETE FROM "my schema"."100% item" WHERE (id) IN '
        "(SELECT r.id FROM (WITH s (k0, x) AS (VALUES (?, ?)) SELECT * FROM s) AS v "
        'JOIN "my schema"."100% item" AS r ON r.id = v.k0 AND r.version = v.x) RETURNING id',
        'DELETE FROM "my schema"."100% item" WHERE (id) IN '
        "(SELECT r.id FROM (WITH s (k0) AS (VALUES (?)) SELECT * FROM s) AS v "
        'JOIN "my schema"."100% item" AS r ON r.id = v.k0) RETURNING id',
    ]


class Decorated(sa.TypeDecorator[str]):
    impl = sa.String(5)
    cache_ok = True


class Twice(sa.TypeDecorator[str]):
    impl = Decorated
    cache_ok = True


class EnumAlias(sa.TypeDecorator[str]):
    impl = sa.Enum("a", "b", name="a(2)", schema="Of us")
    cache_ok = True


@pytest.mark.parametrize(
    "type_, cast",
    [
        (sa.String(5), "TEXT"),
        (Decorated(), "TEXT"),
        (Twice(), "TEXT"),
        (sa.Enum("a", "b", name="ab"), "ab"),
        (sa.Enum("a", "b", name="ab", native_enum=False), "TEXT"),
        (sa.BigInteger(), "BIGINT"),
        (sa.Float(), "DOUBLE PRECISION"),
        (sa.Numeric(10, 2), "NUMERIC"),
        (sa.DateTime(), "TIMESTAMP WITHOUT TIME ZONE"),
        (postgresql.TIMESTAMP(timezone=True, precision=0), "TIMESTAMP WITH TIME ZONE"),
        (sa.Time(), "TIME WITHOUT TIME ZONE"),
        (sa.Interval(), "INTERVAL"),
        (sa.Uuid(), "UUID"),
        (sa.Uuid(native_uuid=False), "TEXT"),
        (sa.JSON(), "JSON"),
        (postgresql.JSONB(), "JSONB"),
        (sa.LargeBinary(), "BYTEA"),
        (sa.Float().with_variant(sa.Numeric(30, 20), "postgresql"), "NUMERIC"),
        (sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), "JSONB"),
        (sa.Integer().with_variant(sa.BigInteger(), "sqlite"), "INTEGER"),
        (sa.Integer().with_variant(Twice(), "postgresql"), "TEXT"),
        (Twice().with_variant(sa.Integer(), "postgresql"), "INTEGER"),
        (sa.String().with_variant(sa.Enum("a", "b", name="ab"), "postgresql"), "ab"),
        (sa.String().with_variant(CITEXT(), "postgresql"), None),
        (sa.String().with_variant(sa.Text(), "postgresql").with_variant(sa.Integer(), "mysql"), "TEXT"),
        (EnumAlias(), '"Of us"."a(2)"'),
        (sa.String(5, collation="C"), "TEXT"),
        (sa.Float(24), "DOUBLE PRECISION"),
        (sa.types.NullType(), None),
        (CITEXT(), None),
        (INET(), None),
        (postgresql.ARRAY(sa.Text), None),
        (postgresql.BIT(3), None),
    ],
    ids=repr,
)
def test_casts(type_: Any, cast: str | None) -> None:
    """None cuts or rounds what an assignment would not; a type that is not known well is not taken.

    It is the type that the column has in this database, whatever it is elsewhere.
    """
    assert _sql_sets._cast(type_, psycopg.dialect()) == cast
    maker = made(psycopg.dialect())
    assert maker.takes(sa.Column("x", type_)) is (cast is not None)


UTC = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "values, even",
    [
        ([], True),
        ([None, None], True),
        ([1, None, 2], True),
        ([1, True], False),
        ([1, 2.0], False),
        ([["a"], None], False),
        ([("a", "b")], False),
        ([UTC, None, UTC], True),
        ([UTC, dt.datetime(2026, 1, 2)], False),
        ([dt.time(1), dt.time(1, tzinfo=dt.UTC)], False),
    ],
)
def test_what_the_driver_takes_as_an_array(values: list[Any], even: bool) -> None:
    """One type; it would take times with and without a zone together, and forget the zone, and lists in a list apart."""
    assert _sql_sets._even(values) is even


def test_sizes() -> None:
    """Exact while they are few, then at most an eighth too many, and not many different ones."""
    sizes = [_sql_sets._rounded(count) for count in range(1, 1001)]
    assert sizes[:16] == list(range(1, 17))
    assert all(count <= size <= count * 1.125 for count, size in enumerate(sizes, 1))
    assert len(set(sizes)) < 70


def test_texts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed columns come in any mixture."""
    monkeypatch.setattr(_sql_sets, "_MOST_TEXTS", 2)
    maker = made(psycopg.dialect(), versioned=False)
    for columns in ([C.select], [C.price], [C.at], [C.select]):
        maker.update(Connection(), columns, {}, [[1], [None]], masked=False, telling=True, exact=False)
    assert len(maker._texts) == 2


def test_every_database_has_a_maker_or_none() -> None:
    """A database that does not even count the rows has none."""
    old, silent = sqlite.dialect(), default.DefaultDialect()
    old.server_version_info = (3, 34)
    silent.supports_sane_multi_rowcount = False
    assert sets(TABLE, [C.id], None, silent) is None
    assert [type(made(dialect)).__name__ for dialect in (lite(), old, mysql.dialect(), psycopg.dialect())] == [
        "_SQLite",
        "_Anywhere",
        "_Anywhere",
        "_Postgres",
    ]
    assert made(lite()).most_rows == 1000
