"""What an error that is kept must not keep: requests, answers, connections."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

__all__ = ["causes", "scrub"]


def scrub(error: BaseException) -> None:
    """Let go of what `error` leads to: the request, with its body and credentials, the answer, and the connection.

    Errors are kept, with the handles of failed saves, and reported, with the local variables of each frame. The frames stay, but
    they are emptied.
    """
    for one in causes(error):
        traceback.clear_frames(one.__traceback__)
        for secret in ("request", "response"):
            with suppress(Exception):  # it may be an exception of the user's, whose attributes do as they like
                if getattr(one, secret, None) is not None:
                    setattr(one, secret, None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, and all that it was made from: requests and urllib3 hand exceptions on as arguments."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__]
