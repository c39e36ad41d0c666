"""Mapped SQLAlchemy classes: declarative, MappedAsDataclass, SQLModel tables, imperative mappings.

What counts is what the mapper says, so one adapter does for all of them: the attributes that stand for a column of a
table. Relationships, hybrids, synonyms and SQL expressions are not saved.

The functions that need SQLAlchemy import it themselves: this module is imported to ask whether a class is mapped, in
programs that have no SQLAlchemy too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from .._snapshot import MISSING, Missing
from ..exceptions import AttachedInstance, SnapshotError
from ..protocols import Origin
from ._column_values import constant, fitted, json_value, plain_copy, plain_view
from ._fields import LEAVES

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstanceState, Mapper, Session

__all__ = ["ADAPTER", "MappedAdapter"]


class MappedAdapter:
    """The :class:`~chained_models.protocols.Adapter` of mapped classes."""

    def accepts(self, model_type: type) -> bool:
        # Who has mapped a class has imported SQLAlchemy. Asked like this it does not configure the mappers, which may
        # name classes that are not defined yet.
        inspect = getattr(sys.modules.get("sqlalchemy"), "inspect", None)
        return inspect is not None and getattr(inspect(model_type, raiseerr=False), "is_mapper", False)

    def fields(self, model_type: type) -> tuple[str, ...]:
        return _shape_of(_mapper(model_type)).names

    def identity_fields(self, model_type: type) -> tuple[str, ...]:
        return _shape_of(_mapper(model_type)).identity

    def server_given(self, model_type: type, names: tuple[str, ...]) -> bool:
        """A single column that gets its value when the row is inserted, be it from the database or a Python default."""
        attributes = _mapper(model_type).column_attrs
        if len(names) != 1 or names[0] not in attributes:
            return False
        # A subclass with a table of its own has two: its foreign key, and the base's, which is the one that is given.
        return any(map(_given_at_insert, attributes[names[0]].columns))

    def snapshot(self, model: Any, *, check: bool = True) -> dict[str, Any]:
        """Columns only. What was never set on a new object is left out, so that defaults apply; so is what is deferred.

        Raises:
            AttachedInstance: The object is pending, deleted, or flushed in the open transaction of its Session.
            SnapshotError: A value cannot be copied, or is expired and there is no Session that could load it at once.
        """
        state = _state(model)
        names = _shape_of(state.mapper).names
        if state.session_id is not None:
            _refuse_unfinished(model, state)
        if state.expired_attributes:
            _load_expired(state, names)
        values = state.dict
        taken = {name: values[name] for name in names if name in values}
        if LEAVES.issuperset(map(type, taken.values())):
            return taken
        for name, value in taken.items():
            if hasattr(value, "__clause_element__") or hasattr(value, "_annotations"):
                raise SnapshotError(f"{type(model).__qualname__}.{name} is an SQL expression; set a plain value")
            try:
                taken[name] = plain_copy(value)
            except Exception as error:
                raise SnapshotError(
                    f"{type(model).__qualname__}.{name} cannot be copied ({type(error).__name__})"
                ) from error
        return taken

    def peek(self, model: Any, name: str) -> Any | Missing:
        state = _state(model)
        value = state.dict.get(name, MISSING)
        if value is MISSING and state.identity is not None:  # expired: the identity is known all the same
            identity = zip(_shape_of(state.mapper).identity, state.identity, strict=True)
            value = dict(identity).get(name, MISSING)
        return value if type(value) in LEAVES else plain_view(value)

    def load(self, model_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
        columns, given = _shape_of(_mapper(model_type)).columns, _names_by_alias(model_type)
        loaded = {}
        for key, value in values.items():
            name = given.get(key, key)
            if (column := columns.get(name)) is None:
                continue
            try:
                loaded[name] = fitted(column.type, value)
            except (ArithmeticError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{model_type.__qualname__}.{name} is a {column.type!r}; the answer is not") from error
        return loaded

    def plain(self, model_type: type, name: str, value: Any) -> Any:
        return plain_copy(value)

    def assign(self, model: Any, name: str, value: Any) -> None:
        """Set an attribute to a value that is as it shall be: no validator and no "set" event sees it.

        A validator that hashes a password would hash the hash. The attribute counts as changed until :meth:`stored`.
        """
        from sqlalchemy.orm import attributes

        attributes.set_committed_value(model, name, value)
        state = _state(model)
        if state.mapper.composites or not constant(value):
            # What a Session does after it has read a value: MutableDict and its kin wrap it on this event, and a
            # composite is made anew from its columns.
            state.manager.dispatch.refresh(state, None, [name])
        attributes.flag_modified(model, name)

    def dump(self, model_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
        """JSON types under the attribute's name; an SQLModel's under its alias, where it has one."""
        pydantic_fields = getattr(model_type, "model_fields", {})
        dumped = {}
        for name, value in values.items():
            info = pydantic_fields.get(name)
            alias = None if info is None else info.serialization_alias or info.alias
            try:
                dumped[alias or name] = json_value(value)
            except TypeError as error:
                raise TypeError(f"{model_type.__qualname__}.{name}: {error}") from error
        return dumped

    def origin(self, model: Any) -> Origin:
        """The mapper's committed state. Take the snapshot first: it loads what is expired, and this loads nothing.

        A value that could have been changed in place since it was loaded is left out, and so counts as changed.
        """
        state = _state(model)
        if not state.has_identity:
            return Origin(base=None, stored=False)
        shape, values, changed = _shape_of(state.mapper), state.dict, state.committed_state
        known = {name: values[name] for name in shape.names if name in values}
        if changed:
            known |= {name: _committed(state, name) for name in changed if name in shape.columns}
        version = known.get(shape.version or "", MISSING)
        if not LEAVES.issuperset(map(type, known.values())):
            known = {name: value for name, value in known.items() if value is not MISSING and constant(value)}
        return Origin(base=known, stored=True, version=None if version is MISSING else version)

    def edit(self, model: Any, name: str, value: Any) -> None:
        if not hasattr(type(model), name):
            raise AttributeError(f"{type(model).__qualname__} has no attribute {name!r} to save")
        setattr(model, name, value)

    def version_name(self, model_type: type) -> str | None:
        return _shape_of(_mapper(model_type)).version

    def plainly_named(self, model_type: type) -> bool:
        return not hasattr(model_type, "__pydantic_fields__")  # SQLModel's may have aliases

    def attached(self, model: Any) -> bool:
        state = _state(model)
        return state.session_id is not None and state.session is not None

    def stored(self, model: Any, names: Iterable[str]) -> None:
        """What is stored is no longer a change that a Session would write; a new object becomes a detached one.

        Give it the values of the answer first (:meth:`assign`), the identity among them; without one, a new object
        stays new. The version counts as stored in any case: only the backend moves it.
        """
        from sqlalchemy.orm import attributes, make_transient_to_detached

        state = _state(model)
        if state.pending or state.deleted:
            return  # added to a Session, or deleted in one, while the save was on its way: now that is in charge
        shape, values = _shape_of(state.mapper), state.dict
        columns = shape.columns
        settled = {name for name in (*names, shape.version) if name in columns and name in values}
        if state.has_identity:
            for name in settled:
                attributes.set_committed_value(model, name, values[name])
        elif all(values.get(name) is not None for name in shape.identity):
            edited = values.keys() & columns.keys() - settled - set(shape.identity)
            make_transient_to_detached(model)
            for name in edited:
                attributes.flag_modified(model, name)
            # It also marks what was never set as expired, and so unreadable without a Session. It was None before.
            state.expired_attributes.difference_update(columns)


ADAPTER: Final = MappedAdapter()

_SHAPE: Final = "chained_models"
# Where SQLAlchemy finds these itself, unless its instrumentation was replaced. Its `inspect` says the same in ten times
# the time, and is asked where nothing is found here.
_STATE: Final = "_sa_instance_state"
_MANAGER: Final = "_sa_class_manager"


class _Shape:
    """What is worked out once for a mapper, as long as it maps what it does now.

    Attributes:
        attributes: The mapper's own list of what stands for columns; it makes a new one when it is given another column.
        columns: Those that stand for a column of a table, with that column, in order of the mapping.
        names: Their names.
        identity: The names of the primary key.
        version: The name of the version column, or None.
    """

    __slots__ = ("attributes", "columns", "identity", "names", "version")

    def __init__(self, mapper: Mapper[Any]) -> None:
        from sqlalchemy import Column

        self.attributes = mapper.column_attrs
        self.columns = {
            attribute.key: column
            for attribute in self.attributes
            if isinstance(column := attribute.columns[0], Column)  # not a column_property over an SQL expression
        }
        self.names = tuple(self.columns)
        self.identity = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
        version = mapper.version_id_col
        self.version = None if version is None else mapper.get_property_by_column(version).key


def _shape_of(mapper: Mapper[Any]) -> _Shape:
    # In the dictionary for other people's notes, which goes when the mapping goes.
    notes = mapper.class_manager.info
    shape: _Shape | None = notes.get(_SHAPE)
    if shape is None or shape.attributes is not mapper.column_attrs:
        shape = notes[_SHAPE] = _Shape(mapper)
    return shape


def _mapper(model_type: type) -> Mapper[Any]:
    manager = model_type.__dict__.get(_MANAGER)
    if manager is not None:
        mapper: Mapper[Any] = manager.mapper
        return mapper
    from sqlalchemy import inspect

    return inspect(model_type)


def _state(model: Any) -> InstanceState[Any]:
    state: InstanceState[Any] | None = getattr(model, _STATE, None)
    if state is not None:
        return state
    from sqlalchemy import inspect

    return cast("InstanceState[Any]", inspect(model))


def _given_at_insert(column: ColumnElement[Any]) -> bool:
    from sqlalchemy import Column

    return isinstance(column, Column) and (
        (column.default is not None and not column.default.is_scalar)  # a constant would identify one row only
        or column.server_default is not None
        or column is getattr(column.table, "autoincrement_column", None)
    )


def _names_by_alias(model_type: type) -> dict[str, str]:
    """The aliases of an SQLModel's fields; other mapped classes have none."""
    return {
        alias: name
        for name, info in getattr(model_type, "model_fields", {}).items()
        for alias in (info.alias, info.validation_alias, info.serialization_alias)
        if isinstance(alias, str)
    }


def _committed(state: InstanceState[Any], name: str) -> Any | Missing:
    """The value as last loaded or flushed, without I/O."""
    from sqlalchemy.orm import AttributeState

    history = AttributeState(state, name).history
    known = (*(history.unchanged or ()), *(history.deleted or ()))
    return known[0] if known else MISSING


def _refuse_unfinished(model: Any, state: InstanceState[Any]) -> None:
    """Two sessions must not write one row at a time: ours would wait for the caller's, or insert the row twice."""
    session, what = state.session, type(model).__qualname__
    if session is None:
        return
    if state.pending:
        raise AttachedInstance(f"this {what} is pending in a Session, which will insert it; commit or expunge it first")
    if state.deleted or model in session.deleted:
        raise AttachedInstance(f"this {what} is deleted in its Session; commit, or roll back, first")
    if _flushed(session, state):
        raise AttachedInstance(f"this {what} was flushed in the open transaction of its Session; commit it first")


def _flushed(session: Session, state: InstanceState[Any]) -> bool:
    """Whether the open transaction of `session` holds a write of this object, savepoints included.

    Nothing public tells. SessionTransaction keeps these sets to know what a rollback must expire; they are private, of
    one form since SQLAlchemy 1.4, and the tests watch them on each version. Rejected: listening to `after_flush` on
    every Session of the program.
    """
    transaction = session.get_nested_transaction() or session.get_transaction()
    while transaction is not None:
        if state in transaction._new or state in transaction._dirty or state in transaction._deleted:
            return True
        transaction = transaction.parent
    return False


def _load_expired(state: InstanceState[Any], columns: Iterable[str]) -> None:
    """Load what a commit has expired: here and now, in the thread that may use the object's Session."""
    attributes = state.mapper.column_attrs
    expired = [name for name in columns if name in state.expired_attributes and not attributes[name].deferred]
    if not expired:
        return
    what = state.class_.__qualname__
    if state.session is None:
        raise SnapshotError(
            f"this {what} is detached, and its attributes are expired: nothing can be read from it. "
            "Use sessionmaker(expire_on_commit=False), or refresh it before it leaves its Session"
        )
    if state.async_session is not None:
        raise SnapshotError(
            f"this {what} is expired, and loading it would need an await. Use "
            "async_sessionmaker(expire_on_commit=False), or `await session.refresh(...)` before the save"
        )
    with state.session.no_autoflush:  # loading must not write the user's other changes, nor this object's
        for name in expired:
            getattr(state.obj(), name)  # the first one loads all of them
