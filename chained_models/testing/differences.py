"""In what two sequences of saves differ: what is missing, what is too many, and what came before what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .._states import SaveState
from ..handle import Handle
from ..operation import Method, Operation
from ..policies import Outcome
from .backend import Flight

__all__ = ["differences"]

MOST = 10
"""So many differences are told; the rest is counted."""
NAMED = 4
"""So many are named in the line that says it all."""


def differences(left: Sequence[Any], right: Sequence[Any]) -> list[str] | None:
    """For an assertion that two sequences are equal, and which failed.

    Args:
        left: Operations, flights, handles, methods, outcomes or states of saves.
        right: The same.

    Returns:
        Lines of text, the first one being the comparison; None if there is anything else in the sequences, or no difference.
    """
    everything = [*left, *right]
    if not everything or not all(isinstance(one, _KNOWN) for one in everything) or list(left) == list(right):
        return None
    first = f"{_listed(left)} == {_listed(right)}"
    missing, too_many = _without(right, left), _without(left, right)
    if not missing and not too_many:
        return [first, "the same, in another order:", *_shortened(_order(left, right))]
    told = [
        *(f"only on the left: {_name(one)}" for one in too_many),
        *(f"only on the right: {_name(one)}" for one in missing),
        *_places(left, right),
    ]
    return [first, f"{len(left)} on the left, {len(right)} on the right:", *_shortened(told)]


_KNOWN = (Operation, Flight, Handle, Method, Outcome, SaveState)


def _name(one: Any) -> str:
    if isinstance(one, Flight):
        return f"attempt {one.operation.attempt} of {_name(one.operation)}"
    if isinstance(one, Operation):
        return f"{one.method.value} {one.seq} of {one.key}"
    return str(one) if isinstance(one, Handle) else str(one.name)


def _listed(these: Sequence[Any]) -> str:
    names = [_name(one) for one in these[:NAMED]]
    return f"[{', '.join(names)}{', ...' if len(these) > NAMED else ''}]"


def _without(these: Sequence[Any], those: Sequence[Any]) -> list[Any]:
    """Those of the first that have no equal in the second."""
    rest = list(those)
    left: list[Any] = []
    for one in these:
        if one in rest:
            rest.remove(one)
        else:
            left.append(one)
    return left


def _order(left: Sequence[Any], right: Sequence[Any]) -> Iterator[str]:
    """What stands too early on the left: in front of what it follows on the right."""
    rest = list(right)
    for one in left:
        ahead = rest[: rest.index(one)]
        rest.remove(one)
        if ahead:
            yield f"{_name(one)} came before {_name(ahead[0])}" + (
                f" and {len(ahead) - 1} more" if len(ahead) > 1 else ""
            )


def _places(left: Sequence[Any], right: Sequence[Any]) -> Iterator[str]:
    for place, (one, other) in enumerate(zip(left, right, strict=False), 1):
        if one != other:
            yield f"at {place}: {_name(one)} on the left, {_name(other)} on the right"


def _shortened(lines: Iterator[str] | list[str]) -> list[str]:
    told = [f"  {line}" for line in lines]
    return told if len(told) <= MOST else [*told[:MOST], f"  and {len(told) - MOST} more"]
