"""One module per kind of model. The adapter for a class is found here; its library is imported only then."""

from __future__ import annotations

import importlib
from typing import Any, cast

from ..exceptions import UnsupportedModel
from ..protocols import Adapter

__all__ = ["adapter_for", "register"]

# In this order, because a class can be several kinds at once: an SQLModel is a pydantic model as well, and a
# MappedAsDataclass a dataclass; what is mapped is known best by its mapper.
_BUILT_IN = ("sqlalchemy", "pydantic", "attrs", "dataclass")
_registered: list[Adapter] = []


def register(adapter: Adapter) -> None:
    """Add an adapter for another kind of model. The latest is asked first, and before the built-in ones."""
    _registered.insert(0, adapter)


def adapter_for(model_type: type) -> Adapter:
    """The adapter that knows classes like this one.

    Raises:
        UnsupportedModel: None does.
    """
    for adapter in _registered:
        if adapter.accepts(model_type):
            return adapter
    for name in _BUILT_IN:
        module: Any = importlib.import_module(f"{__name__}.{name}")
        adapter = cast(Adapter, module.ADAPTER)
        if adapter.accepts(model_type):
            return adapter
    raise UnsupportedModel(
        f"{model_type.__qualname__} is not a pydantic model, a mapped SQLAlchemy class, a dataclass or an attrs class; "
        "register an adapter for it with chained_models.adapters.register(adapter)"
    )
