"""The doctor: what is installed, and what saving a model class would do. Sends nothing.

chained-models doctor
chained-models doctor shop.models:Basket --json
"""

from __future__ import annotations

import importlib
import math
import platform
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from importlib import metadata
from typing import Any

from ._call import name_of
from .exceptions import ChainedModelsError, InvalidOption
from .mixin import ChainedSaveMixin, bound_of, dispatcher_of
from .operation import Method
from .protocols import guarantee_of

__all__ = ["diagnosis", "examine", "explain", "found", "lines"]

_PACKAGE = "chained-models"


def examine() -> dict[str, Any]:
    """Versions: ours, Python's, and those of the libraries of each extra (None where one is missing)."""
    extras: dict[str, dict[str, str | None]] = {}
    for requirement in _requirements():
        library, _, marker = requirement.partition(";")
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", marker)
        name = re.match(r"[A-Za-z0-9._-]+", library)
        if extra is not None and name is not None and extra[1] not in ("dev", "all") and name[0] != _PACKAGE:
            extras.setdefault(extra[1], {})[name[0]] = _version(name[0])
    return {
        "chained_models": _version(_PACKAGE),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "extras": extras,
    }


def _requirements() -> list[str]:
    try:
        return metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:  # it runs from somewhere into which it was copied
        return []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def found(path: str) -> type[ChainedSaveMixin]:
    """The model class that ``package.module:Class`` names; its module is imported.

    Raises:
        InvalidOption: There is none.
    """
    module_name, colon, name = path.partition(":")
    if not (colon and module_name and name):
        raise InvalidOption(f"{path!r}: give a class as package.module:Class")
    try:
        one: Any = importlib.import_module(module_name)
        for part in name.split("."):
            one = getattr(one, part)
    except (ImportError, AttributeError) as error:
        raise InvalidOption(f"{path!r} was not found: {error}") from error
    except (Exception, SystemExit) as error:  # the module is the user's, and may be a program
        raise InvalidOption(f"{path!r}: importing {module_name} raised {type(error).__name__}: {error}") from error
    if not (isinstance(one, type) and issubclass(one, ChainedSaveMixin)):
        raise InvalidOption(f"{path!r} is no model: it does not inherit from ChainedSaveMixin")
    return one


def explain(model_type: type[ChainedSaveMixin]) -> dict[str, Any]:
    """What the class is bound to, and what its verbs would do.

    Raises:
        UsageError: It could not be saved as it is.
    """
    bound = bound_of(model_type)
    binding, backend, model = bound.binding, bound.binding.backend, bound.model
    dispatcher = dispatcher_of(bound)
    dispatcher.check(backend)
    lane = dispatcher.port(backend).lane.lane
    guarantee = guarantee_of(backend, model_type)
    return {
        "class": f"{model_type.__module__}:{model_type.__qualname__}",
        "kind": type(bound.adapter).__name__.removesuffix("Adapter"),
        "fields": list(bound.adapter.fields(model_type)),
        "identity": list(model.identity),
        "identity_by": "server" if bound.server_given else "client",
        "version": bound.adapter.version_name(model_type),
        "resource": bound.resource,
        "backend": _backend(backend),
        "guarantee": [one.name for one in type(guarantee) if one in guarantee] or ["PLAIN"],
        "driver": type(dispatcher.port(backend).driver).__name__,
        "lane": {
            "max_in_flight": _number(lane.max_in_flight),
            "max_batch": _number(lane.max_batch),
            "paused": lane.paused,
        },
        "sends": {method.value: _sends(backend, method, model, bound.resource) for method in Method},
        "policies": {
            "retry": {name: _number(getattr(binding.retry, name)) for name in binding.retry.__dataclass_fields__},
            "timeout": _number(binding.timeout),
            "on_failure": _named(binding.on_failure),
            "on_conflict": _named(binding.on_conflict),
            "coalesce": _named(binding.coalesce),
            "max_pending": binding.max_pending,
            "overflow": _named(binding.overflow),
            "ordering_key": _named(binding.ordering_key),
        },
    }


def _sends(backend: Any, method: Method, model: Any, resource: str) -> str:
    describe = getattr(backend, "describe", None)
    return f"{type(backend).__name__}.execute({method.name})" if describe is None else describe(method, model, resource)


def _backend(backend: Any) -> str:
    """One of ours as it calls itself, without secrets; of another one its class, for what its `repr` tells nobody knows."""
    kind = type(backend)
    says = next(base for base in kind.__mro__ if "__repr__" in vars(base))
    return repr(backend) if says.__module__.startswith(f"{__package__}.") else f"{kind.__module__}:{kind.__qualname__}"


def _named(policy: Any) -> Any:
    """A member by its name, a function by its own: never what it was given, which may be secret."""
    if isinstance(policy, Mapping):
        return {kind.__name__: rule.name for kind, rule in policy.items()}
    return policy if policy is None else policy.name if isinstance(policy, Enum) else name_of(policy)


def _number(value: Any) -> Any:
    return "inf" if isinstance(value, float) and math.isinf(value) else value  # JSON has no infinity


def lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Facts for people: one to a line."""
    width = max((len(str(name)) for name in facts), default=0)
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from lines(value, f"{indent}  ")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
            yield f"{indent}{name:<{width}}  {text}"


def diagnosis(paths: list[str]) -> tuple[dict[str, Any], bool]:
    """What is installed, and of each of these classes what it would do, or why it could not be saved; and whether all could."""
    facts: dict[str, Any] = examine()
    well = True
    classes: dict[str, Any] = {}
    for path in paths:
        try:
            classes[path] = explain(found(path))
        except ChainedModelsError as error:
            classes[path], well = {"problem": str(error)}, False
        except Exception as error:  # noqa: BLE001 - the backend and its words are the user's; not its text, which may hold a secret
            classes[path], well = {"problem": f"asking its backend raised {type(error).__name__}"}, False
    return {**facts, "classes": classes} if paths else facts, well
