"""Random programs of all verbs, through the whole library, against a server that answers when and how the program says."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chained_models import Coalesce, Guarantee, OnFailure

from .programs import Program, run

STEPS = st.lists(
    st.tuples(st.sampled_from(Program.VERBS), st.integers(0, 3), st.integers(0, 119)), min_size=1, max_size=60
)


@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=STEPS,
    guarantee=st.sampled_from([Guarantee.PLAIN, Guarantee.IDEMPOTENT]),
    room=st.sampled_from([1, 2, 8]),
    coalesce=st.sampled_from(Coalesce),
    on_failure=st.sampled_from([None, OnFailure.HALT, OnFailure.CONTINUE]),
    most=st.sampled_from([None, None, 3]),
)
def test_no_program_breaks_an_invariant(
    steps: list[tuple[str, int, int]],
    guarantee: Guarantee,
    room: int,
    coalesce: Coalesce,
    on_failure: OnFailure | None,
    most: int | None,
) -> None:
    """Whatever is done in whatever order, and whatever the server does: the promises hold, and everything ends."""
    run(steps, guarantee=guarantee, room=room, coalesce=coalesce, on_failure=on_failure, most=most)
