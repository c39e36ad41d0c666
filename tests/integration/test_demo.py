"""The command that everybody runs first."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading

import pytest
import requests

from chained_models.__main__ import main
from chained_models.demo import chained, run, unchained
from chained_models.demo.baskets import Script
from chained_models.demo.report import Result, holds
from chained_models.demo.server import ShopServer
from chained_models.demo.tally import Tally, count

SMALL = ["demo", "--plain", "--baskets", "6", "--saves", "5"]
ROW = re.compile(r"^ *(\w+), (no chain|chained) +(\d+) +(\d+) +(\d+) +(\d+) +[\d.]+ *$", re.MULTILINE)


def rows_of(output: str) -> dict[tuple[str, str], list[int]]:
    """The table's numbers."""
    return {(store, way): [int(fault) for fault in faults] for store, way, *faults in ROW.findall(output)}


def test_the_demo_shows_what_it_is_to_show() -> None:
    """The command as a user runs it: status 0, all zero with a chain, something else without, no warning."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "chained_models", "demo", "--plain", "--seed", "3"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={"PYTHONIOENCODING": "utf-8", "COLUMNS": "100"},
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert "\x1b" not in ran.stdout
    rows = rows_of(ran.stdout)
    assert rows.keys() == {(store, way) for store in ("REST", "SQLAlchemy") for way in ("no chain", "chained")}
    for (_, way), faults in rows.items():
        assert (sum(faults) == 0) == (way == "chained")


def test_the_demo_leaves_no_thread(capsys: pytest.CaptureFixture[str]) -> None:
    """Server, pools and dispatchers are all closed when it ends."""
    before = set(threading.enumerate())
    assert main(SMALL) == 0
    left = {thread.name for thread in set(threading.enumerate()) - before}
    # One thread for all deadlines of the process; it ends by itself when there has been none for a while.
    assert left <= {"chained-models-deadlines"}
    assert len(rows_of(capsys.readouterr().out)) == 4


def test_a_chain_that_does_not_keep_order_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the naive version in the place of the chained one, the status is 1."""
    monkeypatch.setattr(chained, "save_over_rest", unchained.save_over_rest)
    assert main(SMALL) == 1
    assert sum(rows_of(capsys.readouterr().out)["REST", "chained"]) > 0


def test_a_naive_version_without_faults_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A demo that shows nothing fails as well."""
    monkeypatch.setattr(unchained, "save_with_sqlalchemy", chained.save_with_sqlalchemy)
    assert main(SMALL) == 1
    assert sum(rows_of(capsys.readouterr().out)["SQLAlchemy", "no chain"]) == 0


def test_every_run_must_hold() -> None:
    """One fault with a chain, or one run without any and without a chain, and it does not hold."""
    good, bad = Tally(0, 0, 0, 0), Tally(0, 1, 0, 0)
    naive, ours = Result("REST", False, bad, 1.0), Result("REST", True, good, 1.0)
    assert holds([naive, ours])
    assert not holds([naive, ours, Result("SQLAlchemy", True, bad, 1.0)])
    assert not holds([naive, ours, Result("SQLAlchemy", False, good, 1.0)])
    assert not holds([])


def test_the_server_is_as_flaky_as_its_seed_says() -> None:
    """Refused and repeated writes do happen to the chained run, so that its zeros mean something."""
    script = Script(6, 5)
    with ShopServer(seed=3) as shop:
        chained.save_over_rest(script, shop.url, lambda: None)
        log, rows = shop.log(), shop.rows()
    assert any(write.row is None for write in log)
    assert len(log) > script.writes
    assert count(log, rows, script.expected).flawless


def test_without_rich_it_names_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing extra is said in one line, with status 2."""
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    assert main(SMALL) == 2
    assert capsys.readouterr().err == (
        "chained-models: rich is not installed; get it with: pip install 'chained-models[cli]'\n"
    )


@pytest.mark.parametrize("arguments", [[], ["demo", "--saves", "0"], ["demo", "--seed", "x"]])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As every command line does it."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_the_page_of_the_demo_ends_with_ctrl_c() -> None:
    """`chained-models demo --web` prints the address of its page, serves it, and ends at Ctrl-C with the status for that."""
    command = [sys.executable, "-m", "chained_models", "demo", "--web"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        address, _, token = line.removeprefix("chained_models demo: ").strip().partition("/#token=")
        assert requests.get(f"{address}/", timeout=10).ok
        headers = {"X-Chained-Token": token}
        assert requests.post(f"{address}/add", json={"item": 1}, headers=headers, timeout=10).status_code == 204
        for asked in ({"item": 0}, {"item": "1"}, {"basket": 9}, [], None):
            assert requests.post(f"{address}/add", json=asked, headers=headers, timeout=10).status_code == 400
        assert requests.post(f"{address}/add", json={"item": 1}, timeout=10).status_code == 403
        process.send_signal(signal.SIGINT)
        assert (process.wait(30), process.stderr.read()) == (130, "")
