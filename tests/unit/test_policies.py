"""Policies: the failure table, cell by cell, and how long to wait."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chained_models.exceptions import (
    BackendError,
    Conflict,
    Gone,
    InDoubt,
    InvalidOption,
    MissingIdentity,
    NotApplied,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from chained_models.operation import Guarantee, Method
from chained_models.policies import (
    FailureRule,
    OnFailure,
    Outcome,
    RetryPolicy,
    Ruling,
    Unverified,
    Verdict,
    failure_class,
    judge,
)

GUARANTEES = (Guarantee.PLAIN, *Guarantee)
PLAIN, IDEMPOTENT, FENCED, TRANSACTIONAL = GUARANTEES
CREATE, UPDATE, PATCH, DELETE, READ = Method
NEWS = (ValueError, KeyboardInterrupt)
"""What is in no table."""


def ruled(error: BaseException, **given: Any) -> Verdict:
    known: dict[str, Any] = {
        "method": UPDATE,
        "guarantee": PLAIN,
        "attempts": 1,
        "spent": 0.0,
        "was_in_doubt": False,
        "policy": RetryPolicy(),
        "on_failure": None,
        "random": 0.5,
    }
    return judge(error, **{**known, **given})


# error, method, guarantee, was in doubt -> what happens, in the words of the documentation.
TABLE: list[tuple[tuple[type[BaseException], ...], Any, Any, tuple[bool, ...], str]] = [
    ((Rejected, MissingIdentity, Conflict, Gone), Method, GUARANTEES, (False,), "FAILED"),
    ((Rejected, MissingIdentity, Conflict, Gone), (UPDATE, PATCH, DELETE), GUARANTEES, (True,), "ABANDONED"),
    ((Rejected, MissingIdentity, Conflict, Gone), (CREATE,), GUARANTEES, (True,), "ABANDONED, halt"),
    ((Unauthenticated,), Method, GUARANTEES, (False,), "hold"),
    ((Unauthenticated,), (CREATE, UPDATE, PATCH, DELETE), GUARANTEES, (True,), "hold, in doubt"),
    ((Unavailable,), Method, GUARANTEES, (False,), "retry"),
    ((Unavailable,), (CREATE, UPDATE, PATCH, DELETE), GUARANTEES, (True,), "retry, in doubt"),
    ((InDoubt,), (UPDATE, PATCH, DELETE), GUARANTEES, (False, True), "retry, in doubt"),
    ((InDoubt,), (CREATE,), (IDEMPOTENT, TRANSACTIONAL, IDEMPOTENT | FENCED), (False, True), "retry, in doubt"),
    ((InDoubt,), (CREATE,), (PLAIN, FENCED), (False, True), "ABANDONED, halt"),
    ((InDoubt,), (READ,), GUARANTEES, (False,), "retry"),
    ((NotApplied,), (CREATE, UPDATE, PATCH, DELETE), GUARANTEES, (False, True), "retry, proved"),
    ((Unverified,), (CREATE,), (PLAIN, FENCED), (False, True), "retry, in doubt"),
    (NEWS, (UPDATE, PATCH, DELETE), GUARANTEES, (False, True), "ABANDONED"),
    (NEWS, (CREATE,), GUARANTEES, (False, True), "ABANDONED, halt"),
    (NEWS, (READ,), GUARANTEES, (False,), "FAILED"),
    # Nothing was sent yet.
    ((Rejected, *NEWS), (None,), GUARANTEES, (False,), "FAILED"),
    ((Unavailable, InDoubt), (None,), GUARANTEES, (False,), "retry"),
]
CELLS = [(*cell, says) for *parts, says in TABLE for cell in product(*parts)]


def described(verdict: Verdict) -> str:
    if verdict.ruling is not Ruling.SETTLE:
        return (
            verdict.ruling.value + (", in doubt" if verdict.in_doubt else "") + (", proved" if verdict.proved else "")
        )
    assert verdict.outcome is not None
    assert verdict.in_doubt is (verdict.outcome is Outcome.ABANDONED)
    return verdict.outcome.name + (", halt" if verdict.halt else "") + (", proved" if verdict.proved else "")


@pytest.mark.parametrize(("kind", "method", "guarantee", "was_in_doubt", "says"), CELLS)
def test_the_failure_table(
    kind: type[BaseException], method: Method | None, guarantee: Guarantee, was_in_doubt: bool, says: str
) -> None:
    """Each failure class, on each method, with each guarantee, means what the table says."""
    verdict = ruled(kind(), method=method, guarantee=guarantee, was_in_doubt=was_in_doubt)
    assert described(verdict) == says


@pytest.mark.parametrize("was_in_doubt", [False, True])
@pytest.mark.parametrize(
    "over", [{"attempts": 4}, {"attempts": 9}, {"spent": 60.0}, {"spent": 59.999, "random": 0.9}, {"spent": math.inf}]
)
def test_exhausted(over: dict[str, Any], was_in_doubt: bool) -> None:
    """When attempts or time are used up, it is FAILED only if no attempt may have been applied."""
    surely_not = ruled(Unavailable(), was_in_doubt=was_in_doubt, **over)
    assert described(surely_not) == ("ABANDONED" if was_in_doubt else "FAILED")
    assert described(ruled(InDoubt(), was_in_doubt=was_in_doubt, **over)) == "ABANDONED"
    create = ruled(InDoubt(), method=CREATE, guarantee=IDEMPOTENT, was_in_doubt=was_in_doubt, **over)
    assert described(create) == "ABANDONED, halt"


@pytest.mark.parametrize("was_in_doubt", [False, True])
@pytest.mark.parametrize("method", [CREATE, UPDATE, PATCH, DELETE])
def test_proof(method: Method, was_in_doubt: bool) -> None:
    """Proof that nothing was applied ends any doubt: used up, it is FAILED, and nothing halts."""
    assert described(ruled(NotApplied(), method=method, was_in_doubt=was_in_doubt, attempts=4)) == "FAILED, proved"


def test_a_create_that_could_not_be_verified() -> None:
    """When the attempts are used up, it is ABANDONED as any create in doubt."""
    assert described(ruled(Unverified(), method=CREATE, was_in_doubt=True, attempts=4)) == "ABANDONED, halt"


def test_the_delay_is_what_the_backend_asked_for() -> None:
    """A verdict to retry carries the delay; one that would not end in time is none."""
    assert ruled(Unavailable(retry_after=7.0)).delay == 7.0
    assert ruled(Unavailable(retry_after=7.0), spent=53.0).ruling is Ruling.SETTLE


class Teapot(Rejected):
    """An application's own class."""


@pytest.mark.parametrize(
    ("rule", "error", "halt"),
    [
        (OnFailure.HALT, Rejected(), True),
        (OnFailure.CONTINUE, Rejected(), False),
        ({Rejected: OnFailure.HALT}, Rejected(), True),
        ({Rejected: OnFailure.HALT}, Teapot(), True),
        ({Rejected: OnFailure.HALT, Teapot: OnFailure.CONTINUE}, Teapot(), False),
        ({BackendError: OnFailure.HALT}, Gone(), True),
        ({Exception: OnFailure.HALT}, ValueError(), True),
        ({Rejected: OnFailure.HALT}, Conflict(), False),
        ({}, Rejected(), False),
    ],
)
def test_the_users_rule(rule: FailureRule, error: BaseException, halt: bool) -> None:
    """The rule for the nearest class holds; a class that is not named keeps the built-in rule."""
    assert ruled(error, on_failure=rule).halt is halt


@pytest.mark.parametrize(
    ("rule", "halt"), [(None, True), (OnFailure.CONTINUE, False), ({Rejected: OnFailure.CONTINUE}, True)]
)
def test_a_create_in_doubt(rule: FailureRule | None, halt: bool) -> None:
    """It halts its chain, unless the user has said otherwise."""
    assert ruled(InDoubt(), method=CREATE, on_failure=rule).halt is halt


@pytest.mark.parametrize(
    ("error", "row"),
    [
        (Teapot(), Rejected),
        (MissingIdentity(), Rejected),
        (InDoubt(), InDoubt),
        (ValueError(), None),
        (BackendError(), None),
    ],
)
def test_the_row_of_an_error(error: BaseException, row: type[BackendError] | None) -> None:
    """A subclass stands in the row of its base; everything else is news."""
    assert failure_class(error) is row


@given(
    error=st.sampled_from([*BackendError.__subclasses__(), *NEWS]),
    method=st.sampled_from([None, *Method]),
    guarantee=st.sampled_from(GUARANTEES),
    attempts=st.integers(1, 9),
    spent=st.floats(0, 99),
    was_in_doubt=st.booleans(),
    on_failure=st.sampled_from([None, *OnFailure]),
    random=st.floats(0, 1, exclude_max=True),
)
def test_doubt_never_ends_in_failed(error: type[BaseException], was_in_doubt: bool, **given: Any) -> None:
    """Whatever happens: doubt once is doubt for ever, FAILED is said without any, and nothing is retried without end."""
    verdict = ruled(error(), was_in_doubt=was_in_doubt, **given)
    assert verdict.in_doubt >= was_in_doubt
    assert (verdict.outcome is Outcome.FAILED) <= (not verdict.in_doubt)
    assert (verdict.ruling is Ruling.SETTLE) is (verdict.outcome is not None)
    if verdict.ruling is Ruling.RETRY:
        assert given["attempts"] < 4 and given["spent"] + verdict.delay < 60


@pytest.mark.parametrize(
    ("options", "attempt", "random", "retry_after", "seconds"),
    [
        ({}, 1, 0.0, None, 0.0),
        ({}, 1, 0.5, None, 0.25),
        ({"wait_jitter": 0}, 1, 0.9, None, 0.5),
        ({"wait_jitter": 0}, 3, 0.9, None, 2.0),
        ({"wait_jitter": 0.5}, 2, 0.0, None, 0.5),
        ({"wait_jitter": 0}, 7, 0.0, None, 30.0),
        ({"wait_jitter": 0}, 10**6, 0.0, None, 30.0),
        ({"wait_jitter": 0, "wait_initial": 0}, 10**6, 0.0, None, 0.0),
        ({"wait_jitter": 0, "wait_exp_base": 1}, 10**6, 0.0, None, 0.5),
        ({}, 1, 0.0, 7.0, 7.0),
        ({}, 1, 0.0, 86400.0, 30.0),
        ({}, 1, 0.0, math.inf, 30.0),
        ({"wait_jitter": 0}, 1, 0.0, 0.1, 0.5),
        ({"wait_jitter": 0}, 1, 0.0, -5.0, 0.5),
        ({"wait_jitter": 0}, 1, 0.0, math.nan, 0.5),
    ],
)
def test_delay(options: dict[str, Any], attempt: int, random: float, retry_after: float | None, seconds: float) -> None:
    """Exponential and jittered; what the backend asks for is honoured, clamped, and ignored if it makes no sense."""
    assert RetryPolicy(**options).delay(attempt, random, retry_after) == seconds


@given(
    attempt=st.integers(1, 10**9),
    random=st.floats(0, 1, exclude_max=True),
    retry_after=st.none() | st.floats(),
    longest=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
    base=st.floats(1, 1e300),
)
def test_no_delay_is_longer_than_the_longest(
    attempt: int, random: float, retry_after: float | None, longest: float, jitter: float, base: float
) -> None:
    """Whatever is asked for, the delay lies between nothing and `wait_max`."""
    policy = RetryPolicy(wait_max=longest, wait_jitter=jitter, wait_exp_base=base)
    assert 0 <= policy.delay(attempt, random, retry_after) <= longest


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"attempts": -1},
        {"wait_jitter": -0.1},
        {"wait_jitter": 1.1},
        {"wait_jitter": math.nan},
        {"wait_initial": -1},
        {"wait_initial": math.nan},
        {"wait_max": -1},
        {"wait_max": math.nan},
        {"timeout": -1},
        {"timeout": math.nan},
        {"wait_exp_base": 0.5},
        {"wait_exp_base": math.nan},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    """They are refused at once, by name."""
    with pytest.raises(InvalidOption, match=next(iter(options))):
        RetryPolicy(**options)
