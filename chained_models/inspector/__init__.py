"""The inspector: a page on which one sees saves wait, run, fail, repeat and finish, with buttons for their chains.

    from chained_models import default_dispatcher, inspector

    inspector.serve(default_dispatcher())  # prints the address of the page

It is for the machine that it runs on: it listens on loopback only, and who wants to look needs the token in the address. Values are
not shown unless asked for; those of attributes that a model names in ``__chained_secret__ = ("password",)`` never are.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ..dispatcher import Dispatcher

if TYPE_CHECKING:
    from ._guard import Guard
    from ._serving import Serving

__all__ = ["app", "serve"]


def app(
    dispatcher: Dispatcher,
    *,
    token: str | None = None,
    hosts: Collection[str] = ("localhost", "127.0.0.1", "::1"),
    values: bool = False,
    readonly: bool = False,
) -> Guard:
    """An ASGI application, to be mounted in one of yours: ``main.mount("/saves", inspector.app(dispatcher, token=...))``.

    The page is then at ``/saves/#token=...``. Whoever has the token can look, and press the buttons; guard it as you guard the rest.

    It keeps the latest saves, and so their models, until its `close()` is called.

    Args:
        dispatcher: Whose saves are shown, from now on.
        token: What a request must carry; None for a random one, which is printed.
        hosts: The names by which it may be reached, without ports; every other one is refused.
        values: Whether values of attributes are shown, or their names only.
        readonly: Whether the buttons are off.

    Raises:
        MissingExtra: Starlette is not installed.
        InvalidOption: The token would keep nobody out, or that is no dispatcher.
    """
    from ._application import application
    from ._guard import token_of
    from ._history import History

    chosen = token_of(token)
    history = History(dispatcher)
    try:
        guard = application(history, token=chosen, hosts=hosts, values=values, readonly=readonly)
    except BaseException:
        history.close()
        raise
    if token is None:
        print(f"chained_models inspector: the token is {chosen}; open the page with #token={chosen}")  # noqa: T201 - its reader is at the terminal
    return guard


def serve(
    dispatcher: Dispatcher,
    *,
    port: int = 0,
    token: str | None = None,
    values: bool = False,
    readonly: bool = False,
    quiet: bool = False,
) -> Serving:
    """Show the saves of a dispatcher on a page of its own, served by a thread, on this machine only.

    Args:
        dispatcher: Whose saves are shown, from now on.
        port: Where it listens; 0 for a free one.
        token: What a request must carry; None for a random one.
        values: Whether values of attributes are shown, or their names only.
        readonly: Whether the buttons are off.
        quiet: Do not print the address.

    Returns:
        The server, with its `url`. It ends with the program, by its `close()`, or as a context manager.

    Raises:
        MissingExtra: Starlette or uvicorn is not installed.
        InvalidOption: The port is taken, the token would keep nobody out, or that is no dispatcher.
    """
    from ._serving import Serving

    serving = Serving(dispatcher, port=port, token=token, values=values, readonly=readonly)
    if not quiet:
        print(f"chained_models inspector: {serving.url}")  # noqa: T201 - its reader is at the terminal
    return serving
