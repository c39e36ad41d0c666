"""What an error that is kept must not keep: requests, answers, connections."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

__all__ = ["causes", "linked", "scrub"]


def scrub(error: BaseException) -> None:
    """Let go of what `error` leads to: the request, with its body and credentials, the answer, and the connection.

    Errors are kept, with the handles of failed saves, and reported, with the local variables of each frame. The frames stay, but
    they are emptied. Only those that are still at work cannot be, and have to let go themselves.
    """
    for one in linked(error):
        traceback.clear_frames(one.__traceback__)
        # They hold the whole text: a password that has no form in latin-1, a body, an answer that a hook could not read.
        if isinstance(one, UnicodeEncodeError):
            one.args, one.object = (), ""
        elif isinstance(one, UnicodeDecodeError):
            one.args, one.object = (), b""
        for secret in ("request", "response", "doc"):
            with suppress(Exception):  # it may be an exception of the user's, whose attributes do as they like
                if getattr(one, secret, None) is not None:
                    setattr(one, secret, None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, and all that it was made from: requests and urllib3 hand exceptions on as arguments."""
    return _walked(error, contexts=False)


def linked(error: BaseException) -> Iterator[BaseException]:
    """The same, and all that was going on while they were raised, which says nothing of why."""
    return _walked(error, contexts=True)


def _walked(error: BaseException, *, contexts: bool) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__ if contexts else None]
            yield one
