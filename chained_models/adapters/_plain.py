"""What the adapters of models that live in memory only have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._snapshot import MISSING, Missing
from ..exceptions import SnapshotError
from ..protocols import Origin
from ._copying import copied, plain
from ._fields import LEAVES, values_of

__all__ = ["PlainAdapter"]


class PlainAdapter:
    """The :class:`~chained_models.protocols.Adapter` as far as it is the same for all: nobody but us knows what is stored."""

    def values(self, model: Any) -> dict[str, Any]:
        """The live values of the fields that are set."""
        values = values_of(model)
        assert values is not None, "asked only of models that the adapter accepts"
        return values

    def identity_fields(self, model_type: type) -> tuple[str, ...] | None:
        return None

    def fields(self, model_type: type) -> tuple[str, ...]:
        raise NotImplementedError

    def snapshot(self, model: Any, *, check: bool = True) -> dict[str, Any]:
        return copied(type(model), self.values(model))[0]

    def peek(self, model: Any, name: str) -> Any | Missing:
        value = getattr(model, name, MISSING)
        return value if type(value) in LEAVES else self.looked_at(type(model), name, value)

    def looked_at(self, model_type: type, name: str, value: Any) -> Any | Missing:
        """The plain value of a field, to compare."""
        try:
            return plain(model_type, name, value)
        except SnapshotError:
            # What can no longer be copied has changed since the snapshot, and compares as different as it is.
            return value

    def plain(self, model_type: type, name: str, value: Any) -> Any:
        return plain(model_type, name, value)

    def assign(self, model: Any, name: str, value: Any) -> None:
        setattr(model, name, value)

    def edit(self, model: Any, name: str, value: Any) -> None:
        if name not in self.fields(type(model)) and not hasattr(type(model), name):
            raise AttributeError(f"{type(model).__qualname__} has no attribute {name!r} to save")
        setattr(model, name, value)

    def origin(self, model: Any) -> Origin | None:
        return None

    def version_name(self, model_type: type) -> str | None:
        return None

    def plainly_named(self, model_type: type) -> bool:
        return True

    def attached(self, model: Any) -> bool:
        return False

    def stored(self, model: Any, names: Iterable[str]) -> None:
        pass
