"""Servers in processes of their own: HTTP by granian, PostgreSQL from its wheel; and SQLite files."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event

__all__ = ["NotAvailable", "http_server", "postgres", "sqlite"]

PATIENCE = 30.0
HERE = Path(__file__).parent


class NotAvailable(Exception):
    """What is to be measured is not there; the message says what is missing."""


@contextmanager
def http_server() -> Iterator[str]:
    """The base URL of a server that outruns every client here, one worker on one event loop."""
    port = _free_port()
    command = [
        sys.executable,
        "-m",
        "granian",
        "--interface",
        "rsgi",
        "--loop",
        "asyncio",
        "--no-ws",
        "--log-level",
        "error",
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backpressure", "4096", "app:app"]
    server = subprocess.Popen(command, cwd=HERE)
    try:
        _wait_for(server, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(PATIENCE)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise NotAvailable("granian has not started")


@contextmanager
def postgres() -> Iterator[Engine]:
    """A server of our own that writes to its disk before it says so, or that of CHAINED_MODELS_TEST_PG_URL."""
    import os

    import pytest

    from tests.integration.postgres import URL, own_server

    given = os.environ.get(URL)
    if given:
        with _engine(given) as engine:
            yield engine
        return
    try:
        with own_server(durable=True) as server, _engine(server.url) as engine:
            yield engine
    except pytest.skip.Exception as skipped:
        raise NotAvailable(str(skipped)) from None


@contextmanager
def sqlite() -> Iterator[Engine]:
    """A file with a write-ahead log, that is on its disk before a COMMIT returns."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _engine(f"sqlite:///{folder}/things.sqlite", connect_args={"timeout": PATIENCE}) as engine,
    ):

        @event.listens_for(engine, "connect")
        def durable(connection: Any, record: object) -> None:
            connection.execute("PRAGMA journal_mode=WAL").close()
            connection.execute("PRAGMA synchronous=FULL").close()

        yield engine


@contextmanager
def _engine(url: str, **options: Any) -> Iterator[Engine]:
    engine = create_engine(url, **options)
    try:
        yield engine
    finally:
        engine.dispose()
