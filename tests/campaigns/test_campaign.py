"""The campaigns' own tool: whatever goes wrong, the seed is told."""

from __future__ import annotations

import threading

import pytest

from .campaign import LEVELS, Campaign


class Unsendable(Exception):
    """Cannot be handed from one process to another, and could not be made there."""

    def __init__(self, one: object, other: object) -> None:
        super().__init__("on purpose")
        self.kept = one, other


def falls_at_7(seed: int) -> None:
    if seed == 7:
        raise Unsendable(threading.Lock(), seed)


@pytest.mark.parametrize("level", LEVELS)
def test_the_seed_is_told(level: str) -> None:
    """At each level, also of an error that does not survive the way from another process, with where it was raised."""
    with pytest.raises((Unsendable, AssertionError)) as raised:
        Campaign(level, 0, "nothing", print).each(falls_at_7, 20, chunk=5)
    told = "\n".join([str(raised.value), *getattr(raised.value, "__notes__", ())])
    assert "on purpose" in told
    assert "with the seed 7;" in told
