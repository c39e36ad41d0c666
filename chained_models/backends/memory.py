"""A backend in memory: real identities, real versions, latency and faults on request. For trying things out, and for tests.

Unless told otherwise, it remembers the latest idempotency keys, and refuses stale versions.
"""

from __future__ import annotations

import copy
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._lane import Lane
from ..exceptions import Conflict, Gone, Rejected
from ..operation import Answer, Guarantee, Method, Operation
from ..registry import model as registered_model

__all__ = ["MemoryBackend"]


KEYS_REMEMBERED = 10_000
"""So many of the latest idempotency keys are known again, unless it is told otherwise."""


@dataclass(slots=True)
class _Row:
    values: dict[str, Any]
    version: int = 1


@dataclass(slots=True)
class _Collection:
    rows: dict[Any, _Row] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: itertools.count(1))


class MemoryBackend:
    """Stores models in memory.

    Args:
        lane: How many saves may be in flight at once.
        guarantee: What it offers; without IDEMPOTENT (or TRANSACTIONAL) it knows no key again, without FENCED it has no
            versions.
        keys_remembered: So many of the latest idempotency keys are known again, if any are.
        latency: Called with each operation before it is carried out, so that it may sleep, or wait for an event.
        fault: Called with each operation; an exception that it returns is raised instead of carrying it out.
        lose_answer: Called with each operation; an exception that it returns is raised *after* it was carried out.
    """

    def __init__(
        self,
        *,
        lane: Lane | None = None,
        guarantee: Guarantee = Guarantee.IDEMPOTENT | Guarantee.FENCED,
        keys_remembered: int = KEYS_REMEMBERED,
        latency: Callable[[Operation], object] | None = None,
        fault: Callable[[Operation], BaseException | None] | None = None,
        lose_answer: Callable[[Operation], BaseException | None] | None = None,
    ) -> None:
        self.lane = Lane() if lane is None else lane
        self.guarantee = guarantee
        self._knows_keys = bool(guarantee & (Guarantee.IDEMPOTENT | Guarantee.TRANSACTIONAL))
        self._has_versions = bool(guarantee & Guarantee.FENCED)
        self._most_keys = keys_remembered if self._knows_keys else 0
        self.latency = latency
        self.fault = fault
        self.lose_answer = lose_answer
        self._lock = threading.Lock()
        self._collections: dict[str, _Collection] = {}
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def execute(self, operation: Operation) -> Answer:
        """Carry it out.

        Raises:
            Conflict: The version is not the present one, or a new thing has an identity that is taken.
            Gone: There is nothing of that identity.
        """
        if self.latency is not None:
            self.latency(operation)
        error = None if self.fault is None else self.fault(operation)
        if error is not None:
            raise error
        with self._lock:
            answer = self._answers.get(operation.idempotency_key)
            if answer is None or operation.method is Method.READ:
                answer = self._apply(operation)
                self._answers[operation.idempotency_key] = answer
                if len(self._answers) > self._most_keys:
                    self._answers.popitem(last=False)
        error = None if self.lose_answer is None else self.lose_answer(operation)
        if error is not None:
            raise error
        return answer

    def stored(self, resource: str) -> Mapping[Any, Mapping[str, Any]]:
        """What is stored in a collection now: identity to values. A copy."""
        with self._lock:
            rows = self._collections.get(resource, _Collection()).rows
            return {identity: copy.deepcopy(row.values) for identity, row in rows.items()}

    def version(self, resource: str, identity: Any) -> int:
        """The present version of one stored thing.

        Raises:
            KeyError: There is nothing of that identity.
        """
        with self._lock:
            return self._collections[resource].rows[identity].version

    def _apply(self, operation: Operation) -> Answer:
        collection = self._collections.setdefault(operation.resource, _Collection())
        kind = registered_model(operation.model)
        version_name = kind.adapter.version_name(kind.type)
        if operation.method is Method.CREATE:
            return self._create(collection, operation, kind.identity, version_name)
        row = collection.rows.get(operation.identity)
        if row is None:
            if operation.method is Method.DELETE:
                return Answer()
            raise Gone(f"there is no {operation.key} here")
        if operation.method is Method.READ:
            return Answer(copy.deepcopy(row.values), operation.identity, self._shown(row))
        if self._has_versions and operation.version is not None and operation.version != row.version:
            raise Conflict(f"{operation.key} has version {row.version}, not {operation.version}")
        if operation.method is Method.DELETE:
            del collection.rows[operation.identity]
            return Answer()
        written = copy.deepcopy(dict(operation.values))
        if operation.method is Method.PATCH:
            written = {name: value for name, value in written.items() if name in operation.changed}
            written = {**row.values, **written}
        collection.rows[operation.identity] = row = _Row(written, row.version + 1)
        return Answer(self._counted(row, version_name) or None, version=self._shown(row))

    @staticmethod
    def _counted(row: _Row, version_name: str | None) -> dict[str, Any]:
        """What the model itself is to hold of the version, if it has an attribute for it; stored too."""
        counted = {} if version_name is None else {version_name: row.version}
        row.values.update(counted)
        return counted

    def _shown(self, row: _Row) -> int | None:
        return row.version if self._has_versions else None

    def _create(
        self, collection: _Collection, operation: Operation, names: tuple[str, ...], version_name: str | None
    ) -> Answer:
        values = copy.deepcopy(dict(operation.values))
        given = [values.get(name) for name in names]
        if None not in given:
            identity = given[0] if len(given) == 1 else tuple(given)
            if identity in collection.rows:
                raise Conflict(f"{operation.key} is here already")
        elif len(names) != 1:
            raise Rejected(f"{operation.key} needs a value for each of {', '.join(names)}")
        else:
            identity = next(number for number in collection.numbers if number not in collection.rows)
            values[names[0]] = identity
        collection.rows[identity] = row = _Row(values)
        given_here = {name: values[name] for name in names} | self._counted(row, version_name)
        return Answer(given_here, version=self._shown(row))
