"""How often a save is tried again, and what its chain does after a failure.

Pure: the time that has passed and the random number of the jitter are given, never read here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .exceptions import (
    BackendError,
    Conflict,
    Gone,
    InDoubt,
    InvalidOption,
    NotApplied,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from .operation import Guarantee, Method

__all__ = [
    "Clash",
    "Coalesce",
    "ConflictRule",
    "FailureRule",
    "OnConflict",
    "OnFailure",
    "Outcome",
    "Overflow",
    "RetryPolicy",
    "Ruling",
    "Unverified",
    "Verdict",
    "failure_class",
    "judge",
    "rule_for",
]


class Outcome(Enum):
    """How a save ended. Every accepted save gets exactly one."""

    SAVED = "saved"
    """The backend has it."""
    FAILED = "failed"
    """It was surely not applied, and will not be tried again."""
    ABANDONED = "abandoned"
    """Nobody knows whether it was applied, and it is no longer waited for."""
    SUPERSEDED = "superseded"
    """Another save took its place; its handle ends as that one does."""
    CANCELLED = "cancelled"
    """Taken out of the chain before its first attempt."""

    __hash__ = object.__hash__


class OnFailure(Enum):
    """What the chain does after a save that ended FAILED or ABANDONED."""

    CONTINUE = "continue"
    """Go on with the next save."""
    HALT = "halt"
    """Keep the failed save in sight, and send nothing until retry(), skip() or clear()."""


class OnConflict(Enum):
    """What becomes of a save whose backend says that somebody else has changed the stored thing."""

    FAIL = "fail"
    """The save fails with the conflict."""
    OVERWRITE = "overwrite"
    """Ours is written all the same."""
    REBASE = "rebase"
    """Read what is stored, and make the same change on top of it. If both have changed an attribute, and differ, it fails.
    A delete changes no attribute: it deletes what is there now."""


class Coalesce(Enum):
    """What becomes of a save that waits, and was never attempted, when the same object is saved again."""

    EVERY = "every"
    """Every save is sent."""
    LATEST = "latest"
    """The newer one takes the place of the waiting one, and carries what that one would have carried."""


class Overflow(Enum):
    """What a verb does when the chain holds as many unsettled saves as it may."""

    RAISE = "raise"
    """It raises :class:`~chained_models.exceptions.ChainFull`, and nothing is queued."""
    BLOCK = "block"
    """It waits for room."""


@dataclass(frozen=True, slots=True)
class Clash:
    """A conflict, for a function that decides it.

    Attributes:
        model: The object that was saved.
        method: What was to be done: UPDATE, PATCH or DELETE.
        error: What the backend said.
        base: The values that the object last knew to be stored, by name; None if it knew none.
        ours: The values that were to be written; none for a delete.
        theirs: The values that are stored now.
    """

    model: Any
    method: Method
    error: BaseException
    base: Mapping[str, Any] | None
    ours: Mapping[str, Any]
    theirs: Mapping[str, Any]


ConflictRule = OnConflict | Callable[[Clash], Mapping[str, Any] | OnConflict | None]
"""One of the policies, or a function that gives the values to be written, or a policy, or None, which is FAIL.

The function is called where the work runs, and should neither block nor edit the model. What the mapping that it returns
does not name is left as it is stored.
"""


FailureRule = OnFailure | Mapping[type[BaseException], OnFailure]
"""One rule for all failures, or one per failure class; a class that is not named keeps the built-in rule."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a save is tried; all times in seconds.

    The longest delay after attempt n is ``wait_initial * wait_exp_base ** (n - 1)``, and never more than `wait_max`.
    The share `wait_jitter` of it is random; with the default of 1 the delay lies anywhere between 0 and the longest
    ("full jitter", after the AWS Architecture Blog, "Exponential Backoff And Jitter"). The words are those of stamina.

    Attributes:
        attempts: Attempts in all, the first included.
        wait_initial: Longest delay before the second attempt.
        wait_exp_base: How fast the longest delay grows.
        wait_max: No delay is longer, not even one the backend asks for.
        wait_jitter: Share of the delay that is random: 1 is full jitter, 0 none.
        timeout: Time for all attempts and the waits between them; time on a paused chain does not count.
    """

    attempts: int = 4
    wait_initial: float = 0.5
    wait_exp_base: float = 2.0
    wait_max: float = 30.0
    wait_jitter: float = 1.0
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InvalidOption(f"RetryPolicy(attempts={self.attempts}): at least one attempt is needed")
        if not 0 <= self.wait_jitter <= 1:
            raise InvalidOption(f"RetryPolicy(wait_jitter={self.wait_jitter}): the random share is between 0 and 1")
        for name in ("wait_initial", "wait_max", "timeout"):
            value = getattr(self, name)
            if not value >= 0:
                raise InvalidOption(f"RetryPolicy({name}={value}): a time in seconds, not below 0")
        if not self.wait_exp_base >= 1:
            raise InvalidOption(f"RetryPolicy(wait_exp_base={self.wait_exp_base}): at least 1")

    def delay(self, attempt: int, random: float, retry_after: float | None = None) -> float:
        """Seconds to wait after the given attempt (1 for the first).

        Args:
            attempt: The attempt that has just failed.
            random: A number from [0, 1).
            retry_after: What the backend asked for; honoured up to `wait_max`.
        """
        try:
            longest = min(self.wait_max, self.wait_initial * self.wait_exp_base ** (attempt - 1))
        except OverflowError:
            longest = self.wait_max if self.wait_initial else 0.0
        waited = longest * (1 - self.wait_jitter + self.wait_jitter * random)
        if retry_after is not None and retry_after > waited:
            # NaN compares false and so is ignored here.
            waited = min(retry_after, self.wait_max)
        return waited


class Ruling(Enum):
    """What is to happen with a save whose attempt failed."""

    SETTLE = "settle"
    RETRY = "retry"
    HOLD = "hold"
    """Wait, without using up an attempt, until the lane is resumed."""

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about one failed attempt; the only place where failure classes are looked at."""

    ruling: Ruling
    outcome: Outcome | None = None
    halt: bool = False
    delay: float = 0.0
    in_doubt: bool = False
    """Whether the save must from now on be taken as possibly applied."""
    proved: bool = False
    """Whether it is known that no attempt so far was applied."""


class Unverified(InDoubt):
    """A create is in doubt, and the backend could not say yet whether it was applied: worth asking again."""


FAILURE_CLASSES: tuple[type[BackendError], ...] = (Rejected, Conflict, Unauthenticated, Gone, Unavailable, InDoubt)


def failure_class(error: BaseException) -> type[BackendError] | None:
    """The row of the failure table that `error` belongs to; None for anything else: a bug, or news."""
    return next((known for known in FAILURE_CLASSES if isinstance(error, known)), None)


def judge(
    error: BaseException,
    *,
    method: Method | None,
    guarantee: Guarantee,
    attempts: int,
    spent: float,
    was_in_doubt: bool,
    policy: RetryPolicy,
    on_failure: FailureRule | None,
    random: float,
) -> Verdict:
    """Decide what a failed attempt means. This function *is* the failure table of the docs.

    Args:
        error: What the backend raised.
        method: What was attempted; None if it failed before that was known (nothing was sent).
        guarantee: What the backend promises.
        attempts: Attempts used up, this one included.
        spent: Seconds used up by attempts and waits.
        was_in_doubt: Whether an earlier attempt may have been applied.
        policy: How often and how long to try.
        on_failure: The user's rule, or None for the rule built into the table.
        random: A number from [0, 1) for the jitter.
    """
    kind = failure_class(error)
    creating = method is Method.CREATE
    repeatable = not creating or bool(guarantee & (Guarantee.IDEMPOTENT | Guarantee.TRANSACTIONAL))
    # What is not in the table may have happened at any moment, so it proves nothing about the write; unless nothing was
    # sent at all, or nothing would have been changed.
    unclear = kind is InDoubt or kind is None
    proved = isinstance(error, NotApplied)
    in_doubt = not proved and (was_in_doubt or (unclear and method not in (None, Method.READ)))

    if kind is Unauthenticated:
        return Verdict(Ruling.HOLD, in_doubt=was_in_doubt)

    if kind is Unavailable or (kind is InDoubt and (repeatable or isinstance(error, Unverified))):
        assert isinstance(error, BackendError)
        delay = policy.delay(attempts, random, error.retry_after)
        if attempts < policy.attempts and spent + delay < policy.timeout:
            return Verdict(Ruling.RETRY, delay=delay, in_doubt=in_doubt, proved=proved)

    outcome = Outcome.ABANDONED if in_doubt else Outcome.FAILED
    built_in = OnFailure.HALT if creating and outcome is Outcome.ABANDONED else OnFailure.CONTINUE
    rule = rule_for(error, on_failure) or built_in
    return Verdict(Ruling.SETTLE, outcome=outcome, halt=rule is OnFailure.HALT, in_doubt=in_doubt, proved=proved)


def is_failure_rule(value: object) -> bool:
    """Whether it says what a chain does after a failure: one rule for all, or one for each of some classes of errors."""
    if not isinstance(value, Mapping):
        return isinstance(value, OnFailure)
    return all(
        isinstance(failure, type) and issubclass(failure, BaseException) and isinstance(action, OnFailure)
        for failure, action in value.items()
    )


def rule_for(error: BaseException, on_failure: FailureRule | None) -> OnFailure | None:
    """What the user's rule says of this error; None if it says nothing."""
    if on_failure is None or isinstance(on_failure, OnFailure):
        return on_failure
    for known in type(error).__mro__:
        if known in on_failure:
            return on_failure[known]
    return None
