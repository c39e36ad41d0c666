"""Retry-After, read strictly."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chained_models.backends._retry_after import LONGEST_WAIT, seconds_to_wait

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT

SECONDS = [
    ("0", 0.0),
    ("1", 1.0),
    ("00", 0.0),
    ("007", 7.0),
    (" 5", 5.0),
    ("5\t", 5.0),
    ("120", 120.0),
    ("86400", LONGEST_WAIT),
    ("86401", LONGEST_WAIT),
    ("21600", 21600.0),
    ("99999999999999999999", LONGEST_WAIT),
    ("9" * 5000, LONGEST_WAIT),
    ("0" * 5000 + "3", 3.0),
]
DATES = [
    ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
    ("Tue, 14 Nov 2023 22:13:20 GMT", 0.0),
    ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
    ("Tue, 14 Nov 2023 23:13:20 GMT", 3600.0),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT),
]
REFUSED = [
    "",
    " ",
    "-1",
    "+1",
    "1.5",
    "1e3",
    "1_0",
    "0x10",
    "1 2",
    "1, 2",
    "1;2",
    "\uff11\uff12",
    "\u0663",
    "\u00b2",
    "ten",
    "inf",
    "nan",
    "NaN",
    "Infinity",
    "\n5",
    "5\n",
    "5\x00",
    "\u00a05",
    "None",
    "true",
    '"5"',
    "Tuesday, 14-Nov-23 22:13:30 GMT",
    "Tue Nov 14 22:13:30 2023",
    "tue, 14 nov 2023 22:13:30 gmt",
    "Wed, 14 Nov 2023 22:13:30 GMT",
    "Tue, 14 Nov 2023 22:13:30",
    "Tue, 14 Nov 2023 22:13:30 UTC",
    "Tue, 14 Nov 2023 22:13:30 +0000",
    "Tue, 14 Nov 2023 22:13:60 GMT",
    "Tue, 14 Nov 2023 24:13:30 GMT",
    "Tue, 31 Nov 2023 22:13:30 GMT",
    "Tue, 14 Foo 2023 22:13:30 GMT",
    "Tue, 14 Nov 0000 22:13:30 GMT",
    "Tue, 14 Nov 12023 22:13:30 GMT",
    "Tue, \uff11\uff14 Nov 2023 22:13:30 GMT",
    "Tue, 4 Nov 2023 22:13:30 GMT",
    "2023-11-14T22:13:30Z",
]


@pytest.mark.parametrize(("value", "seconds"), SECONDS + DATES)
def test_both_standard_forms_are_understood_and_clamped(value: str, seconds: float) -> None:
    """ASCII digits and IMF-fixdates give seconds between 0 and the longest wait."""
    assert seconds_to_wait(value, date=None, now=NOW) == seconds


@pytest.mark.parametrize("value", [None, *REFUSED])
def test_any_other_form_counts_as_not_said(value: str | None) -> None:
    """Forms that `int()` or a lenient date parser would take are no wait at all."""
    assert seconds_to_wait(value, date=None, now=NOW) is None


def test_a_date_is_measured_by_the_clock_of_the_server() -> None:
    """Our clock does not matter if the answer has a Date; a broken Date is as good as none."""
    until = "Tue, 14 Nov 2023 22:13:30 GMT"
    assert seconds_to_wait(until, date="Tue, 14 Nov 2023 22:13:25 GMT", now=NOW + 1e6) == 5.0
    assert seconds_to_wait(until, date="yesterday", now=NOW) == 10.0


@given(st.text(max_size=40) | st.from_regex(r"[0-9 ,:;+-]{1,30}"))
def test_whatever_is_written_there_the_wait_is_finite(value: str) -> None:
    """No header makes it raise, or wait for ever, or go back in time."""
    wait = seconds_to_wait(value, date=value, now=NOW)
    assert wait is None or (math.isfinite(wait) and 0.0 <= wait <= LONGEST_WAIT)
