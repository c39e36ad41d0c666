"""The inspector in a terminal: attached to a running one by its address."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..exceptions import InvalidOption, MissingExtra
from ._text import text

__all__ = ["Attached", "lines", "shown"]

QUIET = 30.0
"""Seconds without a word after which the connection counts as lost; the server says something every 5."""

SEEN = 40
"""So many saves of a chain are shown."""

BEFORE = 6
"""And so many of those in front of the first that waits."""

_SIGNS = {
    "queued": "·",
    "preparing": "·",
    "in flight": ">",
    "backing off": "~",
    "in doubt": "?",
    "abandoned": "?",
    "saved": "+",
    "failed": "x",
    "superseded": "-",
    "cancelled": "-",
}
LEGEND = "· queued  > in flight  ~ backing off  ? in doubt or abandoned  + saved  x failed  - superseded or cancelled"


class Attached:
    """What a running inspector tells.

    Args:
        url: The address that it printed, with its token.

    Raises:
        InvalidOption: That is no such address.
        MissingExtra: requests is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            import requests
        except ImportError as error:
            raise MissingExtra("requests", "cli") from error
        parts = urlsplit(url)
        token = parse_qs(parts.fragment).get("token", [""])[0]
        if parts.scheme not in ("http", "https") or not token:
            raise InvalidOption(
                "give the address that the inspector printed, with its #token=...; in quotes, for the shell"
            )
        self._address = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._headers = {"X-Chained-Token": token}
        self._requests = requests
        self._session = requests.Session()
        self._session.trust_env = False  # to this machine, past all proxies

    def states(self, *, once: bool = False) -> Iterator[dict[str, Any]]:
        """What there is, and then, unless `once`, what has changed, as it does; ends when the inspector does.

        Raises:
            ConnectionError: Nobody answers there, or the connection was lost.
            InvalidOption: The token is not the right one.
        """
        try:
            if once:
                with self._asked("state") as answer:
                    yield answer.json()
            else:
                yield from _whole(self._lines())
        except InvalidOption:
            raise
        except (self._requests.RequestException, ValueError, TypeError, LookupError) as error:
            raise ConnectionError(f"no inspector answers at {self._address} ({type(error).__name__})") from error

    def _lines(self) -> Iterator[bytes]:
        """What is told, over all streams: each ends after a while, and says to come again."""
        last, again = b"", True
        while again:
            again = False
            with self._asked("events", {"Last-Event-ID": last}) as answer:
                for line in answer.iter_lines(chunk_size=None):
                    if line.startswith(b"id: "):
                        last = line[4:]
                    again = again or line == b"event: again"
                    yield line

    @contextmanager
    def _asked(self, path: str, headers: Mapping[str, str | bytes] | None = None) -> Iterator[Any]:
        with self._session.get(
            f"{self._address}/{path}",
            headers={**self._headers, **(headers or {})},
            stream=True,
            timeout=(5, QUIET),
            allow_redirects=False,  # the token is for this address
        ) as answer:
            if answer.status_code != 200:
                raise InvalidOption(f"the inspector refuses: {text(answer.text[:200], plain=True)}")
            yield answer


def _whole(told: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The states in these lines. One that is all there is also says what is not in it."""
    boot, known = "", set[int]()
    for line in told:
        if line.startswith(b"data: ") and (state := json.loads(line[6:])):
            if state["boot"] != boot:
                boot = state["boot"]
                state["gone"] = [*known]
            known |= {chain["id"] for chain in state["chains"]}
            yield state


def shown(chains: dict[int, dict[str, Any]], state: dict[str, Any]) -> None:
    """Bring the chains that are shown up to date."""
    for number in state["gone"]:
        chains.pop(number, None)
    for chain in state["chains"]:
        chains[chain["id"]] = chain


def lines(
    chains: dict[int, dict[str, Any]], lanes: list[dict[str, Any]], most: int = 40
) -> Iterator[tuple[str, str, str]]:
    """A line for each lane and chain, those that are busy first: what, its saves, and what is to be said of it."""
    for number, lane in enumerate(lanes, 1):
        words = [name for name in ("congested", "paused") if lane[name]]
        yield f"lane {number}", f"{lane['in_flight']} of {lane['max_in_flight']} in flight", ", ".join(words)
    ordered = sorted(chains.values(), key=lambda chain: (chain["idle"], chain["id"]))
    for chain in ordered[:most]:
        words = ["paused"] if chain["paused"] else []
        words += [f"halted by {chain['halted']}"] if chain["halted"] is not None else []
        words += ["done"] if chain["idle"] and not words else []
        yield chain["title"], _signs(chain), ", ".join(words)
    if len(ordered) > most:
        yield f"and {len(ordered) - most} more", "", ""


def _signs(chain: Mapping[str, Any]) -> str:
    """What its saves are at: the latest, or, of too many, a few in front of the first that waits and those behind it."""
    boxes = chain["boxes"]
    waits = next((index for index, box in enumerate(boxes) if box["settled"] is None), len(boxes))
    first = max(0, min(waits - BEFORE, len(boxes) - SEEN))
    later = max(0, len(boxes) - first - SEEN) + chain["more"]
    signs = "".join(_SIGNS.get(box["state"], "·") for box in boxes[first : first + SEEN])
    return f"{signs} and {later} later" if later else signs
