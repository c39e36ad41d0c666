"""Model classes by registered name, so that an Operation can name its class in plain text.

A name is the class's module and qualified name. Two living classes of one name (made in a function, or reloaded) get a
number behind it, for an operation must never be carried out for the wrong one.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .protocols import Adapter

__all__ = ["RegisteredModel", "model", "register"]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class RegisteredModel:
    """What a backend may know of a model class."""

    name: str
    """The registered name, as in ``Operation.model``."""
    type: type
    adapter: Adapter
    identity: tuple[str, ...]
    """Names of the identity's fields, in the order of a composite identity."""

    def dump(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` as they are written in JSON: aliases for names, JSON types only."""
        return self.adapter.dump(self.type, values)


_lock = threading.Lock()
# Weak: the class holds its RegisteredModel (in its binding), so a name lives as long as its class.
_models: weakref.WeakValueDictionary[str, RegisteredModel] = weakref.WeakValueDictionary()


def register(model_type: type, adapter: Adapter, identity: tuple[str, ...]) -> RegisteredModel:
    """Enter a class; entering it again (bound a second time) keeps its name."""
    plain_name = f"{model_type.__module__}.{model_type.__qualname__}"
    with _lock:
        name, number = plain_name, 1
        while (known := _models.get(name)) is not None and known.type is not model_type:
            number += 1
            name = f"{plain_name}#{number}"
        entry = RegisteredModel(name, model_type, adapter, identity)
        _models[name] = entry
        return entry


def model(name: str) -> RegisteredModel:
    """The class of that registered name.

    Raises:
        LookupError: No living class has this name; import the module that defines it, and bind it.
    """
    try:
        return _models[name]
    except KeyError:
        raise LookupError(f"no model class is registered as {name!r}; import the module that binds it") from None
