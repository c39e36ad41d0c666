"""Runs each section in a process of its own, so that none finds what another has left in memory."""

from __future__ import annotations

import importlib
import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from findings import Findings, section
from measure import Bench
from servers import NotAvailable

__all__ = ["Failed", "run_apart"]


class Failed(Exception):
    """A section has failed; the message is its traceback."""


def run_apart(name: str, *, quick: bool, told: Callable[[str, int, int], object]) -> Findings:
    """Run a section, and pass on how far it has come.

    Raises:
        Failed: It raised something, or its process has died.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(name, quick, theirs), name=name)
    child.start()
    theirs.close()
    try:
        while True:
            kind, content = ours.recv()
            if kind == "round":
                told(*content)
            elif kind == "found":
                return Findings() if content is None else content
            else:
                raise Failed(content)
    except EOFError:
        child.join()
        raise Failed(f"the process of section {name} has ended with {child.exitcode}") from None
    finally:
        child.join()
        ours.close()


def _work(name: str, quick: bool, pipe: Connection) -> None:
    try:
        module = section(importlib.import_module(f"sections.{name}"))
        bench = Bench(quick=quick, told=lambda *content: pipe.send(("round", content)))
        try:
            found = module.run(bench)
        except NotAvailable as error:
            found = Findings(missing={claim.name: str(error) for claim in module.CLAIMS})
        pipe.send(("found", found))
    except BaseException:  # noqa: BLE001 - whatever it is, the other process is to say it
        pipe.send(("failed", traceback.format_exc()))
