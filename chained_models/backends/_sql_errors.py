"""What SQLAlchemy and the drivers raise, as the classes that say how a write failed.

By type and by the code that the database gave, never by text. No text of theirs is passed on either: it holds the
values of the statement, and ours ends up in logs. The foreign error is the cause of ours.
"""

from __future__ import annotations

from typing import Final, NoReturn

from sqlalchemy import exc

from ..exceptions import BackendError, InDoubt, Rejected, Unavailable

__all__ = ["backend_error", "raise_mapped", "would_befall_each"]

# SQLSTATE, PostgreSQL's appendix A. Classes: 08 connection, 40 transaction rolled back (40001 serialization failure,
# 40P01 deadlock), 53 insufficient resources, 57 operator intervention (57014 statement timeout, 57P01 shutdown, 57P03
# starting up), 58 system error. 55P03: lock not available.
_PASSING_CLASSES: Final = frozenset({"08", "40", "53", "57", "58"})
_PASSING_STATES: Final = frozenset({"55P03"})

# Primary result codes of SQLite: BUSY, LOCKED; NOMEM, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL.
_SQLITE_PASSING: Final = frozenset({5, 6, 7, 9, 10, 13, 14, 15})
_SQLITE_IOERR: Final = 10

# What a transaction meets because of one of its rows: a deadlock or serialization failure, a row that somebody holds.
_OF_ONE_ROW: Final = frozenset({"40001", "40P01", "55P03", "57014"})


def raise_mapped(error: Exception, *, committing: bool) -> NoReturn:
    """Raise what :func:`backend_error` makes of `error`, with it as the cause; an unknown one as it is."""
    mapped = backend_error(error, committing=committing)
    if mapped is None or mapped is error:
        raise error
    raise mapped from error


def backend_error(error: Exception, *, committing: bool) -> BackendError | None:
    """How the write failed; None for an error that is not known here, which is to be raised as it is.

    Args:
        error: What was raised.
        committing: COMMIT was sent, and this is what came instead of an answer. Before that a failed transaction is a
            rolled back one, whatever the reason; after that only an error that the database itself reports is.
    """
    if isinstance(error, BackendError):
        return error
    if committing and _unanswered(error):
        return InDoubt(f"{_name(error)} in place of the answer to COMMIT")
    if _passing(error):
        return Unavailable(f"{_name(error)}; the transaction was rolled back")
    # The driver's own checks raise built-in errors: text with NUL or half a surrogate, an integer too large.
    if isinstance(error, (exc.SQLAlchemyError, ValueError, TypeError, ArithmeticError)):
        return Rejected(f"{_name(error)}; the transaction was rolled back")
    return None


def would_befall_each(error: BaseException) -> bool:
    """Whether the operations of a batch that failed like this would, for now, fail like this one by one too.

    There is no connection, or no lock on the whole database: each would wait as long, for nothing.
    """
    if isinstance(error, BackendError):
        return isinstance(error.__cause__, Exception) and would_befall_each(error.__cause__)
    if not isinstance(error, Exception) or not _passing(error):
        return False
    return not (isinstance(error, exc.DBAPIError) and _sqlstate(error) in _OF_ONE_ROW)


def _unanswered(error: Exception) -> bool:
    """Whether COMMIT was sent and the database has not said how it went."""
    if not isinstance(error, exc.DBAPIError):
        return True
    if state := _sqlstate(error):
        # 57P01..5: the session was ended from outside, perhaps between the commit and its answer. 40003: it says so.
        return state[:2] == "08" or state[:3] == "57P" or state == "40003"
    if (code := _sqlite_code(error)) is not None:
        return code == _SQLITE_IOERR
    return True


def _passing(error: Exception) -> bool:
    """Whether the reason may be gone by the next attempt."""
    if isinstance(error, (exc.TimeoutError, OSError)):  # no connection left in the pool; none to be had
        return True
    if not isinstance(error, exc.DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    if state := _sqlstate(error):
        return state[:2] in _PASSING_CLASSES or state in _PASSING_STATES
    if (code := _sqlite_code(error)) is not None:
        return code in _SQLITE_PASSING
    # No code at all: the driver speaks, not the database. OperationalError is its word for trouble with the connection.
    return isinstance(error, exc.OperationalError)


def _sqlstate(error: exc.DBAPIError) -> str | None:
    """psycopg and asyncpg say `sqlstate`, psycopg2 `pgcode`."""
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    return state if isinstance(state, str) else None


def _sqlite_code(error: exc.DBAPIError) -> int | None:
    """The primary result code; the extended one has more bits above it."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _name(error: Exception) -> str:
    """The error's class, the driver's where there is one, and the database's code."""
    if not isinstance(error, exc.DBAPIError):
        return type(error).__name__
    code = _sqlstate(error) or getattr(error.orig, "sqlite_errorname", None)
    return type(error.orig).__name__ + (f" ({code})" if code else "")
