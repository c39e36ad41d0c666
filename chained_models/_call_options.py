"""The options of a CallChain, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ._pace import CallOptions
from .exceptions import InvalidOption
from .policies import is_failure_rule

__all__ = ["checked", "seconds"]

_KNOWN = tuple(field.name for field in fields(CallOptions))


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as they are kept.

    Raises:
        TypeError: There is no such option.
        InvalidOption: A value makes no sense.
    """
    unknown = [name for name in options if name not in _KNOWN]
    if unknown:
        raise TypeError(f"a CallChain has no option {', '.join(unknown)}; the options are {', '.join(_KNOWN)}")
    given = dict(options)
    for name, value in options.items():
        match name:
            case "delay":
                given[name] = seconds(name, value, zero=True)
            case "timeout":
                given[name] = math.inf if value is None else seconds(name, value)
            case "batch":
                if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                    raise InvalidOption(f"batch={value!r}: a number of items, at least 1")
            case "on_failure":
                if not (value is None or is_failure_rule(value)):
                    raise InvalidOption(f"on_failure={value!r}: an OnFailure, or a mapping from error classes to them")
                given[name] = dict(value) if isinstance(value, Mapping) else value
            case _:
                if not isinstance(value, bool):
                    raise InvalidOption(f"{name}={value!r}: True or False")
    return given


def seconds(name: str, value: Any, *, zero: bool = False) -> float:
    """A time that was given, as a number.

    Raises:
        InvalidOption: It is none, or out of range.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not (0 <= value < math.inf if zero else value > 0):
        raise InvalidOption(f"{name}={value!r}: seconds, {'0 or more' if zero else 'more than 0'}")
    try:
        return float(value)
    except OverflowError:
        raise InvalidOption(f"{name}: so large a number is no time") from None
