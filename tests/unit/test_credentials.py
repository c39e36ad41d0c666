"""Credentials: when a refusal is answered by a renewal, by a pause, or only by another attempt."""

from __future__ import annotations

import pytest

from chained_models._credentials import Credentials, Refusal

AGAIN, RENEW, PAUSE = Refusal.AGAIN, Refusal.RENEW, Refusal.PAUSE


def refused(credentials: Credentials, token: int, *, paused: bool = False, can_renew: bool = True) -> Refusal:
    return credentials.refused(token, paused=paused, can_renew=can_renew)


def test_the_first_refusal_renews() -> None:
    """If there is a way to; else somebody has to, and the lane waits for it."""
    assert refused(Credentials(), 1) is RENEW
    assert refused(Credentials(), 1, can_renew=False) is PAUSE


def test_one_renewal_at_a_time() -> None:
    """Who is refused meanwhile waits for the one that runs."""
    credentials = Credentials()
    credentials.renewal = 3
    assert refused(credentials, 2) is AGAIN
    assert refused(credentials, 2, can_renew=False) is AGAIN


@pytest.mark.parametrize("renewed", [True, False])
def test_what_was_sent_with_older_credentials_is_only_sent_again(renewed: bool) -> None:
    """Its refusal says nothing about those that we have now; nor does its success."""
    credentials = Credentials()
    credentials.end(5, renewed=renewed)
    assert refused(credentials, 5) is AGAIN
    assert refused(credentials, 5, can_renew=False) is AGAIN
    credentials.accepted(5)
    assert credentials.unproven is renewed


def test_a_second_refusal_pauses() -> None:
    """New credentials that are refused at once will not be better the next time."""
    credentials = Credentials()
    credentials.end(5, renewed=True)
    assert refused(credentials, 6) is PAUSE


def test_a_success_in_between_makes_a_later_refusal_the_first_again() -> None:
    """They were good, and have run out."""
    credentials = Credentials()
    credentials.end(5, renewed=True)
    credentials.accepted(6)
    assert refused(credentials, 7) is RENEW


def test_a_paused_lane_is_left_to_whoever_resumes_it() -> None:
    """After that, a fresh refusal may renew again."""
    credentials = Credentials()
    assert refused(credentials, 1, paused=True) is AGAIN
    credentials.end(5, renewed=False)
    assert refused(credentials, 6) is RENEW
