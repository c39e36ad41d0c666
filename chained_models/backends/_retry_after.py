"""How long a server asks to wait: the Retry-After header, read strictly."""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = ["LONGEST_WAIT", "seconds_to_wait"]

LONGEST_WAIT = 86_400.0
"""Seconds. Nothing longer is believed; the retry policy clamps it further."""

# `int()` takes "-1", " 1", "1_0" and full-width digits, and email.utils parses nearly anything: neither is used here.
_SECONDS = re.compile(r"[0-9]+")
_DATE = re.compile(r"([A-Z][a-z]{2}), ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def seconds_to_wait(value: str | None, *, date: str | None, now: float) -> float | None:
    """The seconds that a Retry-After header asks for, between 0 and :data:`LONGEST_WAIT`.

    Args:
        value: The header; ASCII digits or an IMF-fixdate, anything else counts as not said.
        date: The answer's Date header: a date is measured by the clock of the server that wrote it.
        now: Our wall clock in seconds since 1970, for an answer without a usable Date.

    Returns:
        None if the server did not say, or not in a form the standard allows.
    """
    if value is None:
        return None
    value = value.strip(" \t")
    if _SECONDS.fullmatch(value):
        # Ten digits are 300 years; more of them are not even converted.
        return LONGEST_WAIT if len(value.lstrip("0")) > 10 else min(float(value), LONGEST_WAIT)
    until = _timestamp(value)
    if until is None:
        return None
    sent = _timestamp(date.strip(" \t")) if date is not None else None
    return min(max(until - (now if sent is None else sent), 0.0), LONGEST_WAIT)


def _timestamp(text: str) -> float | None:
    parts = _DATE.fullmatch(text)
    if parts is None:
        return None
    day_name, day, month, year, hour, minute, second = parts.groups()
    try:
        when = datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
    return when.timestamp() if _DAYS[when.weekday()] == day_name else None
