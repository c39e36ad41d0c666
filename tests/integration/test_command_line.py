"""The command line, as shells and programs use it."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chained_models.__main__ import EXITS, SHELLS, main

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "command-line.md"
COMMAND = [sys.executable, "-m", "chained_models"]
SMALL = ["demo", "--json", "--baskets", "3", "--saves", "4"]


def test_the_demo_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object: what went wrong in each of the four runs, and whether that is what it is to show."""
    assert main([*SMALL, "--seed", "3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["holds"] is True
    assert [(one["store"], one["chained"]) for one in told["runs"]] == [
        ("REST", False),
        ("REST", True),
        ("SQLAlchemy", False),
        ("SQLAlchemy", True),
    ]
    for one in told["runs"]:
        faults = one["out_of_order"] + one["duplicates"] + one["edits_lost"] + one["wrong_ends"]
        assert (faults == 0) == one["chained"]


def test_a_bar_does_not_get_into_the_json() -> None:
    """In a terminal the bar is on standard error, and standard output holds JSON and nothing else."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen([*COMMAND, *SMALL], stdout=subprocess.PIPE, stderr=theirs) as process:
            assert process.stdout is not None
            os.close(theirs)
            shown = b""
            while True:
                try:
                    more = os.read(ours, 65_536)
                except OSError:  # what Linux says at the end of a terminal
                    break
                if not more:
                    break
                shown += more
            assert json.loads(process.stdout.read())["runs"]
    finally:
        os.close(ours)
    assert "━".encode() in shown and b"12/12" in shown


def test_the_exit_statuses_are_on_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its meaning, as in `--help`."""
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {int(status): meaning for status, meaning in rows} == EXITS
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    assert all(f"  {status:<4} {meaning}" in told for status, meaning in EXITS.items())


@pytest.mark.parametrize("arguments", [["doctor"], ["doctor", "--json"], ["completion", "bash"]])
def test_a_reader_who_has_enough(arguments: list[str]) -> None:
    """`| head` ends it without a complaint, with the status of a broken pipe."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        ran = subprocess.run([*COMMAND, *arguments], stdout=theirs, stderr=subprocess.PIPE, timeout=60)
    finally:
        os.close(theirs)
    assert (ran.returncode, ran.stderr) == (141, b"")


def completed(words: str, script: str) -> list[str]:
    """What bash would offer behind these words."""
    run = f"""
{script}
COMP_LINE={words!r}; COMP_WORDS=({words}''); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_POINT=${{#COMP_LINE}}
_shtab_chained_models
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    ran = subprocess.run(["bash", "-c", run], capture_output=True, text=True, timeout=60)
    assert ran.stderr == ""
    return ran.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes(capsys: pytest.CaptureFixture[str]) -> None:
    """The commands, their options and their choices, in a real bash."""
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert completed("chained-models ", script) == ["demo", "doctor", "inspect", "completion"]
    assert {"--web", "--json", "--seed"} <= set(completed("chained-models demo --", script))
    assert completed("chained-models completion ", script) == list(SHELLS)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It names all commands."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in ("demo", "doctor", "inspect", "completion"))


def test_completion_needs_its_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And says so in one line."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert capsys.readouterr().err == (
        "chained-models: shtab is not installed; get it with: pip install 'chained-models[cli]'\n"
    )


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """That of the package."""
    from importlib.metadata import version

    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"{version('chained-models')}\n"
