"""attrs classes. Their validators are asked when a snapshot is taken, of nested ones too."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from .._snapshot import MISSING
from ._copying import copied
from .dataclass import DataclassAdapter

__all__ = ["ADAPTER", "AttrsAdapter"]


class AttrsAdapter(DataclassAdapter):
    """Knows classes made by `attrs.define`, `attr.s` and their like. In JSON as dataclasses are."""

    def accepts(self, model_type: type) -> bool:
        return hasattr(model_type, "__attrs_attrs__")

    def fields(self, model_type: type) -> tuple[str, ...]:
        return tuple(attribute.name for attribute in _attributes(model_type))

    def server_given(self, model_type: type, names: tuple[str, ...]) -> bool:
        declared = {attribute.name: attribute for attribute in _attributes(model_type)}
        if len(names) != 1 or names[0] not in declared:
            return False
        default = declared[names[0]].default
        if hasattr(default, "factory"):
            return not default.takes_self and default.factory() is None
        return default is None

    def named(self, model_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
        known = ((each.name, each.name if each.name in values else each.alias) for each in _attributes(model_type))
        return {name: values[key] for name, key in known if key in values}

    def snapshot(self, model: Any, *, check: bool = True) -> dict[str, Any]:
        if not check:
            return super().snapshot(model)
        _validate(model)
        snapshot, met = copied(type(model), self.values(model))
        for groups in met.values():
            for group in groups:
                if self.accepts(group.kind):
                    for each in group.values:
                        _validate(each)
        return snapshot


def _attributes(model_type: Any) -> tuple[Any, ...]:
    attributes: tuple[Any, ...] = model_type.__attrs_attrs__
    return attributes


def _validate(model: Any) -> None:
    """As `attrs.validate`, which fails on an attribute that is not set; here that is no mistake."""
    if sys.modules["attr"].validators.get_disabled():
        return
    for attribute in _attributes(type(model)):
        if attribute.validator is not None:
            value = getattr(model, attribute.name, MISSING)
            if value is not MISSING:
                attribute.validator(model, attribute, value)


ADAPTER: Final = AttrsAdapter()
