"""A mapped SQLAlchemy class, saved into an SQLite file.

    python examples/sqlalchemy_sqlite.py

Needs ``pip install 'chained-models[sqlalchemy]'``.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from chained_models import ChainedSaveMixin, Conflict
from chained_models.backends.sqlalchemy import SQLAlchemyBackend


class Base(DeclarativeBase):
    pass


class Note(ChainedSaveMixin, Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    text: Mapped[str] = mapped_column(default="")
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy wants it


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "notes.sqlite"
        engine = create_engine(f"sqlite:///{path}")
        Base.metadata.create_all(engine)
        Note.bind(SQLAlchemyBackend(engine))
        try:
            write_while_typing()
            notice_the_other_one(engine)
        finally:
            engine.dispose()
        with closing(sqlite3.connect(path)) as connection:
            stored = connection.execute("SELECT title, text FROM notes").fetchall()
        print(stored)
        assert stored == [("Groceries", "milk, eggs, and no more")]


def write_while_typing() -> None:
    """One INSERT, then one UPDATE for each further save, in order."""
    note = Note(title="Groceries")
    handles = []
    for word in ("milk", "milk, eg", "milk, eggs"):
        note.text = word
        handles.append(note.save())
    assert [handle.result().title for handle in handles] == ["Groceries"] * 3
    assert [handle.method.value for handle in handles if handle.method] == ["create", "update", "update"]
    assert note.id == 1
    assert note.version == 3, "the version column has counted along"
    assert not note.chain.unsaved_changes()


def notice_the_other_one(engine: Engine) -> None:
    """Two objects of one row share its chain, not what they know: the second writer is told."""
    with Session(engine) as session:
        mine = session.scalars(select(Note)).one()
    with Session(engine) as session:
        theirs = session.scalars(select(Note)).one()

    theirs.text = "milk, eggs, and no more"
    theirs.save().result()
    mine.text = "milk only"
    error = mine.save().exception()
    assert isinstance(error, Conflict)

    mine.refresh(discard=True).result()
    assert mine.text == "milk, eggs, and no more"


if __name__ == "__main__":
    main()
