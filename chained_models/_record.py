"""The Record: what is known of one thing in one backend, whoever saves it. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Any

from .exceptions import MissingIdentity
from .operation import Method

__all__ = ["Life", "Record", "Verb"]


class Verb(Enum):
    """What the user asked for; which :class:`~chained_models.Method` it becomes is decided at the first attempt."""

    SAVE = "save"
    PATCH = "patch"
    DELETE = "delete"
    REFRESH = "refresh"

    __hash__ = object.__hash__


_OF_LIVE = {
    Verb.SAVE: Method.UPDATE,
    Verb.PATCH: Method.PATCH,
    Verb.DELETE: Method.DELETE,
    Verb.REFRESH: Method.READ,
}


class Life(Enum):
    """Where the stored thing is in its life, as far as we know."""

    NEW = "new"
    """Not stored yet."""
    CREATING = "creating"
    """A create was sent; how it ended is open, or was never known."""
    LIVE = "live"
    """Stored."""
    DELETED = "deleted"
    """Removed, by us."""

    __hash__ = object.__hash__


_LIVE = Life.LIVE  # looked up in its class it costs ten times as much (CPython 3.11)


class Record:
    """One thing in one backend. Objects and saves hold it; nothing holds it once they are gone.

    Attributes:
        identity: None until it is known; fixed once confirmed.
        life: See :class:`Life`.
        deletion: The accepted delete that has not ended otherwise, or None.
        unsettled: How many of its saves have not settled.
        patches: How many of those are patches.
        chain_key: The ordering key of the chain that its unsettled saves are in, or that its last one was in; None once that is
            its own and nothing of it is unsettled, or it would keep itself alive.
        among: Where it can be found by its identity; None if it cannot. See `chained_models._known`.
    """

    __slots__ = (
        "__weakref__",
        "_became",
        "among",
        "chain_key",
        "deletion",
        "identity",
        "label",
        "life",
        "patches",
        "unsettled",
    )

    def __init__(self, label: str, identity: Any = None, *, stored: bool = False) -> None:
        self.label = label
        self.identity = identity
        self.life = Life.LIVE if stored else Life.NEW
        self.deletion: Any = None
        self.unsettled = 0
        self.patches = 0
        self.chain_key: Any = None
        self._became: Record | None = None
        self.among: dict[Any, Any] | None = None

    def __repr__(self) -> str:
        return f"<Record {self} {self.life.value}>"

    def __str__(self) -> str:
        # How an identity is written is the user's code, and what it raises must end neither a chain nor a timer.
        try:
            return f"{self.label} (new)" if self.identity is None else f"{self.label} {self.identity!a}"
        except Exception:  # noqa: BLE001
            return f"{self.label} ({type(self.identity).__name__})"

    def current(self) -> Record:
        """Itself, or the record that it turned out to be the same thing as."""
        record = self
        while record._became is not None:
            record = record._became
        return record

    def merge_into(self, other: Record) -> None:
        """It turned out that `other` is the same thing: from now on only `other` counts."""
        self._became = other
        other.unsettled += self.unsettled
        other.patches += self.patches
        if self.life is not Life.NEW:
            other.life = Life.LIVE
        if other.deletion is None:
            other.deletion = self.deletion

    @property
    def line(self) -> Any:
        """The ordering key of the chain that it was in last: its own, if it was in no other."""
        return self if self.chain_key is None else self.chain_key

    @property
    def in_doubt(self) -> bool:
        """Whether a create may have been applied, so that there may be a stored thing whose identity nobody knows."""
        return self.life is Life.CREATING and self.identity is None

    def method(self, verb: Verb, *, force_insert: bool = False) -> Method | None:
        """How `verb` is to be carried out now; None if there is nothing to do.

        Raises:
            MissingIdentity: It is not known which stored thing is meant.
        """
        if force_insert:
            return Method.CREATE
        if self.life is _LIVE and self.identity is not None:
            return _OF_LIVE[verb]
        if self.life is Life.CREATING and self.identity is None:  # in doubt
            raise MissingIdentity(
                f"a create of {self.label} is in doubt and its identity is not known, so nothing was sent; use "
                "chain.retry(), mark_saved() once it has its identity, or save(force_insert=True)"
            )
        if verb is Verb.DELETE and (self.life is Life.DELETED or (self.life is Life.NEW and self.identity is None)):
            return None
        if verb is Verb.REFRESH:
            if self.identity is None:
                raise MissingIdentity(
                    f"{self.label} has no identity yet, so there is nothing to refresh; save it first"
                )
            return Method.READ
        if self.life is Life.NEW and verb is not Verb.DELETE:
            return Method.CREATE
        if self.identity is None:
            raise MissingIdentity(
                f"{self.label} was stored, but the backend did not say under which identity; "
                "set it and call mark_saved(), or use save(force_insert=True)"
            )
        return _OF_LIVE[verb]

    def sent(self, method: Method) -> None:
        """An attempt starts."""
        if method is Method.CREATE and self.life is Life.NEW:
            self.life = Life.CREATING

    def confirmed(self, method: Method) -> None:
        """The write is known to have been applied (or the thing to have been read)."""
        self.life = Life.DELETED if method is Method.DELETE else Life.LIVE

    def missing(self) -> None:
        """The backend does not know it: if its create was in doubt, it was not applied, and the next save creates it."""
        if self.life is Life.CREATING:
            self.life = Life.NEW

    def refused(self, method: Method) -> None:
        """The write is known not to have been applied."""
        if method is Method.CREATE and self.life is Life.CREATING:
            self.life = Life.NEW
