"""The Pace: rests, and who is carried out together. How the machine uses it is in tests/property."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from chained_models._pace import CallOptions, Pace
from chained_models._states import SaveState


def call(*, alone: bool = False, state: SaveState = SaveState.QUEUED, timeout: float | None = None) -> Any:
    return SimpleNamespace(
        alone=alone,
        state=state,
        given_timeout=timeout,
        timeout=math.inf,
        attempts=0,
        riders=(),
        listed=False,
        manual=False,
    )


def test_nothing_rests_before_the_first_attempt() -> None:
    """Whatever the clock says."""
    assert Pace(CallOptions(delay=5.0)).look(-1e9, waited_for=True) is None


def test_a_rest_keeps_its_length() -> None:
    """It ends when it would have, although the options have changed; nobody need come if nothing waits."""
    pace = Pace(CallOptions(delay=5.0))
    pace.rest(10.0)
    pace.options = CallOptions(delay=0.0)
    assert pace.look(12.0, waited_for=True) == 3.0
    assert pace.resting
    assert pace.look(12.0, waited_for=False) is None
    assert pace.resting
    assert pace.look(15.0, waited_for=True) is None
    assert not pace.resting


@pytest.mark.parametrize(
    ("line", "riders"),
    [
        ([call(), call(), call(), call()], 2),
        ([call(), call()], 1),
        ([call()], 0),
        ([call(), call(alone=True), call()], 0),
        ([call(), call(state=SaveState.PREPARING), call()], 0),
        ([call(alone=True), call()], 0),
    ],
    ids=["as many as fit", "the remainder", "one", "up to a callable", "up to an unfilled place", "a callable"],
)
def test_who_is_carried_out_together(line: list[Any], riders: int) -> None:
    """Those right behind the first, up to the size of a batch."""
    Pace(CallOptions(batch=3)).gather(line, line[0])
    assert list(line[0].riders) == line[1 : 1 + riders]
    assert line[0].listed is not line[0].alone


def test_another_attempt_is_made_by_the_same() -> None:
    """As a list or not, as it was; the time is that of now."""
    pace = Pace(CallOptions(batch=2, timeout=9.0))
    line = [call(), call(timeout=4.0), call()]
    pace.gather(line, line[0])
    assert line[0].timeout == 4.0
    line[0].attempts = 1
    pace.options = CallOptions(batch=1, manual=True, timeout=3.0)
    pace.gather(line, line[0])
    assert (line[0].riders, line[0].listed, line[0].manual, line[0].timeout) == ([line[1]], True, True, 3.0)
