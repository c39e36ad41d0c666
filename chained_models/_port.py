"""The Port: one dispatcher's view of one backend."""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Generator
from typing import Any

from ._credentials import Credentials
from ._known import Known
from ._lane import LaneState
from ._machine import Chain
from ._merge import Facts
from ._record import Record, Verb
from ._weakmap import WeakIdMap
from .operation import Method
from .protocols import Call

__all__ = ["Port"]

_MAY_BECOME = {
    Verb.SAVE: (Method.CREATE, Method.UPDATE),
    Verb.PATCH: (Method.CREATE, Method.PATCH),
    Verb.DELETE: (Method.DELETE,),
    Verb.REFRESH: (Method.READ,),
}
"""What a verb becomes is known when its turn has come; who goes alone must be known before."""

logger = logging.getLogger("chained_models")

_homes: WeakIdMap[Any, weakref.ref[Any]] = WeakIdMap()
"""Of objects of which their own library keeps an account: the backend that the account is about, for all dispatchers."""


class Port:
    """Lane, driver, records and objects of one backend. Lives as long as the backend, and does not hold it.

    Records are held weakly: by what is unsettled and by the objects that stand for them, so that an idle record costs
    nothing once its objects are gone.
    """

    __slots__ = (
        "__weakref__",
        "_backend",
        "alone",
        "asks",
        "checks",
        "credentials",
        "driver",
        "gathers",
        "lane",
        "objects",
        "records",
    )

    def __init__(self, lane: LaneState[Chain], driver: Any, backend: Any) -> None:
        self._backend = weakref.ref(backend)
        self.lane = lane
        self.driver = driver
        self.gathers = callable(getattr(backend, "execute_many", None)) and _knows_execute(backend)
        """Whether the backend can carry out several operations in one call."""
        self.asks = self.gathers and callable(getattr(backend, "batches", None))
        """Whether it wants to say which of them gain by that."""
        self.checks = callable(getattr(backend, "check_identity", None))
        """Whether the backend wants to see identities before it is too late."""
        self.alone: dict[type, frozenset[Verb]] = {}
        """What is sent alone all the same, by class; of those that were asked about."""
        self.credentials = Credentials()
        self.records = Known()
        self.objects: WeakIdMap[Any, Facts] = WeakIdMap(self.records.gone)

    def learn(self, model_type: type) -> None:
        """Ask the backend what of that class is sent alone; once, and not under the lock, where nothing of the user's runs.

        Raises:
            Exception: What the backend raises.
        """
        backend: Any = self._backend()
        gain = {method for method in Method if backend.batches(model_type, method)}
        self.alone[model_type] = frozenset(
            verb for verb, methods in _MAY_BECOME.items() if not gain.issuperset(methods)
        )

    @property
    def can_renew(self) -> bool:
        """Whether the backend has a way to renew its credentials."""
        try:
            return callable(getattr(self._backend(), "reauthenticate", None))
        except Exception as error:  # noqa: BLE001 - a backend's bug; its lane is paused as if it had none
            logger.warning("a backend cannot say how to sign in again (%s)", type(error).__name__)
            return False

    def renew(self, seconds: float) -> Generator[Call, Any, BaseException | None]:
        """Let the backend renew its credentials, as steps; returns what it raised."""
        backend: Any = self._backend()
        try:
            returned = yield backend.reauthenticate, seconds
            if inspect.iscoroutine(returned):  # a driver of coroutines would have awaited it
                returned.close()
                raise TypeError("where execute() is a plain function, reauthenticate() must be one, too")
        except GeneratorExit:
            raise  # its loop is gone; whoever noticed has ended the renewal
        except BaseException as error:  # noqa: BLE001 - whatever it is, the lane must not be held for ever
            return error
        return None

    def is_home(self, model: Any) -> bool:
        """Whether the account that the model's own library keeps (what is stored, which version) is about this backend.

        It can be about one only. That is the one the object is first saved to; towards all others nothing is known.
        """
        home = _homes.setdefault(model, self._backend)
        if home() is None:
            _homes.pop(model)  # that one is gone, and this one most likely takes its place
            home = _homes.setdefault(model, self._backend)
        return home() is self._backend()

    def record(self, facts: Facts, model_type: type, identity: Any, *, stored: bool) -> Record:
        """The record of that identity, for which the object of these Facts stands from now on; a new one if there is none."""
        known = self.records.get(model_type, identity)
        new = known is None
        if known is None:
            known = Record(facts.record.label, identity, stored=stored)
        if facts.record.among is not None:
            self.records.leave(facts)
        facts.record = known
        if new:
            self.records.put(model_type, known, facts)
        return known

    def identify(self, facts: Facts, record: Record, model_type: type, identity: Any) -> Record | None:
        """The private `record`, for which the object of these Facts stands, has got its identity.

        Returns:
            The record that already had this identity, and that `record` has become; None if there was none.
        """
        known = self.records.get(model_type, identity)
        record.identity = identity
        if known is None:
            self.records.put(model_type, record, facts)
        if known is None or known is record:
            return None
        record.merge_into(known)
        return known

    def forget(self, record: Record, model_type: type) -> None:
        """The stored thing is gone: an object of that identity is a new thing."""
        self.records.forget(model_type, record)


def _knows_execute(backend: Any) -> bool:
    """Whether what `execute_many` does is what `execute` does, as far as can be known: whoever wrote it knew the other.

    A subclass that overrides `execute` alone, to audit or to count, has inherited an `execute_many` that knows nothing of
    that; and an object that is told so, or passes on what it has not itself, has somebody else's.
    """
    if not {"execute", "execute_many"}.isdisjoint(getattr(backend, "__dict__", ())):
        return False
    for kind in type(backend).__mro__:
        if "execute_many" in kind.__dict__:
            return True
        if "execute" in kind.__dict__:
            return False
    return False
