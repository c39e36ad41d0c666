"""Claims: what is said once, of two subjects.

A claim about a defect holds for ours, and fails on a faithful port of the original, in the very way that is said: so
every test proves that it can fail. A claim about a feature holds for both: so the ports are shown to be faithful, and ours
to lack nothing. What the originals have no words for is claimed of ours only.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable
from typing import Any

import pytest

Subject = Callable[..., Any]
Claim = Callable[[Subject], None]


def ours_alone(ours: Subject, original: Subject) -> Callable[..., Callable[[Claim], Claim]]:
    """Claims that hold for ours, and not for the original."""

    def breaks(
        saying: str, *, raised: type[Exception] = AssertionError, on: Subject = original
    ) -> Callable[[Claim], Claim]:
        def of(claim: Claim) -> Claim:
            @pytest.mark.parametrize("subject", [ours, on], ids=["ours", "the original"])
            def test(subject: Subject) -> None:
                if subject is ours:
                    _hold(claim, subject)
                else:
                    with pytest.raises(raised, match=re.escape(saying)):
                        _hold(claim, on)

            return _named_as(claim, test)

        return of

    return breaks


def both(ours: Subject, original: Subject) -> Callable[[Claim], Claim]:
    """Claims that hold for ours as they do for the original."""

    def of(claim: Claim) -> Claim:
        @pytest.mark.parametrize("subject", [ours, original], ids=["ours", "the original"])
        def test(subject: Subject) -> None:
            _hold(claim, subject)

        return _named_as(claim, test)

    return of


def only(ours: Subject) -> Callable[[Claim], Callable[[], None]]:
    """Claims of ours that there is nothing in the original to compare with."""

    def of(claim: Claim) -> Callable[[], None]:
        def test() -> None:
            _hold(claim, ours)

        return _named_as(claim, test)

    return of


def _hold(claim: Claim, subject: Subject) -> None:
    """Make the claim of this subject, and close the worlds that are made for it."""
    with contextlib.ExitStack() as closing:

        def world(**options: Any) -> Any:
            made = subject(**options)
            closing.callback(made.close)
            return made

        claim(world)


def _named_as(claim: Claim, test: Any) -> Any:
    for name in functools.WRAPPER_ASSIGNMENTS:  # not functools.wraps: pytest would ask for the claim's own arguments
        if name != "__annotations__":
            setattr(test, name, getattr(claim, name, None))
    return test
