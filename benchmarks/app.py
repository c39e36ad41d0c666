"""The HTTP server of the benchmarks, for granian: answers a write with what was written, at once or after 20 ms.

``PUT /0/things/7`` is answered at once, ``PUT /20/things/7`` after 20 ms; ``GET`` gives what was put last.
"""

from __future__ import annotations

import asyncio
from typing import Any

_JSON = [("content-type", "application/json")]
_stored: dict[str, bytes] = {}


async def app(scope: Any, protocol: Any) -> None:
    """One request, by RSGI."""
    path: str = scope.path
    delay = int(path.split("/", 2)[1])
    if delay:
        await asyncio.sleep(delay / 1000)
    if scope.method == "GET":
        protocol.response_bytes(200, _JSON, _stored.get(path, b"{}"))
        return
    body = await protocol()
    _stored[path] = body
    protocol.response_bytes(200, _JSON, body)
