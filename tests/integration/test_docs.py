"""The documentation: its code runs, its tables are current, its site can be built and asks nobody for anything."""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.util
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.metadata import metadata
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import Engine
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

import chained_models
from chained_models import (
    Coalesce,
    default_dispatcher,
    events,
    exceptions,
    flush,
    inspector,
    policies,
    set_default_dispatcher,
    testing,
)
from chained_models.__main__ import _parser
from chained_models._states import Input, SaveState

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
TUTORIAL = DOCS / "tutorial.md"
COMMANDS = (
    "python -m pip install uv && python -m uv run chained-models demo",
    "python -m pip install uv && python -m uv run pytest",
)
SYBIL = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()])


@functools.cache
def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != TUTORIAL], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_the_code_of_the_page_runs(page: Path) -> None:
    """Every fence of Python, in order, in one namespace."""
    before = set_default_dispatcher(None)
    document = SYBIL.parse(page)
    try:
        for example in document.examples():
            example.evaluate()
        flush(10)
        default_dispatcher().close(10)
    finally:
        set_default_dispatcher(before)
        for engine in (one for one in document.namespace.values() if isinstance(one, Engine)):
            engine.dispose()  # what a page tells of its tests ends with them; here it would be another test's warning


def fences(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_tutorial_is_a_program(tmp_path: Path) -> None:
    """Its blocks, put one behind the other into a file, run as a reader runs them, and print what the page says that they do."""
    (tmp_path / "tutorial.py").write_text("\n\n".join(fences(TUTORIAL, "python")), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-W", "error", "tutorial.py"],
        cwd=tmp_path,
        input="\n",
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    printed = re.sub(r"127\.0\.0\.1:\d+/#token=\S+", "127.0.0.1:8123/#token=...", ran.stdout)
    assert printed == "".join(fences(TUTORIAL, "text"))


EXTRAS = frozenset(metadata("chained-models").get_all("Provides-Extra") or ())


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_commands_of_the_page_can_be_given(page: Path) -> None:
    """What is to be typed into a shell: commands of ours that there are, with options that there are, and extras that there are."""
    for line in (line for block in fences(page, "sh") for line in block.splitlines()):
        program, *arguments = shlex.split(line)
        if program == "chained-models":
            before_pipe = arguments[: arguments.index(">")] if ">" in arguments else arguments
            _parser().parse_args(before_pipe)
        elif (program, *arguments[:1]) == ("pip", "install"):
            asked = set(re.findall(r"chained-models\[([\w,]+)\]", line))
            assert {extra for extras in asked for extra in extras.split(",")} <= EXTRAS
        else:
            assert program in {"python", "python3", ".", "mkdir"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_code_of_the_page_is_left_out(page: Path) -> None:
    """What is fenced is Python, which runs, a command, which is looked at, or plain text."""
    marks = re.findall(r"^ *```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(marks[::2]) <= {"python", "sh", "text"}
    assert set(marks[1::2]) <= {""}


EXPLAINED = {  # names that a page's text introduces, and not its code
    "failures.md": {"Basket", "Rejected", "backend", "broken", "handle", "renew_the_credentials"},
    "offline.md": {"backend", "chained"},
    "write-behind.md": {"path"},
}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_page_names_what_its_code_uses(page: Path) -> None:
    """Who copies what is to be seen of it has all that it needs; what is hidden from readers defines nothing for them."""
    shown = re.sub("<!--- invisible-code-block.*?--->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    code = "\n\n".join(re.findall(r"^```python\n(.*?)^```$", shown, re.MULTILINE | re.DOTALL))
    used: set[str] = set()
    given = set(dir(builtins))
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.ExceptHandler(name=name):
                given.add(str(name))
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                given.add(name)
            case ast.alias(name=name, asname=other):
                given.add(other or name.split(".")[0])
    assert used - given == EXPLAINED.get(page.name, set())


def test_the_recipes_of_testing_pass(pytester: pytest.Pytester) -> None:
    """The page's code, as the module of tests that it is."""
    page = DOCS / "how-to" / "testing.md"
    source = "\n\n".join(str(example.parsed) for example in SYBIL.parse(page).examples())
    recipes = page.read_text(encoding="utf-8").split("## What must hold")[0].count("\n## ")
    assert recipes == 8
    pytester.makepyfile(test_page=source)
    alone = ("-p", "no:randomly", "-p", "no:asyncio", "-p", "no:cacheprovider")
    ran = pytester.runpytest_subprocess("-W", "error", "--strict-markers", *alone, timeout=50)
    ran.assert_outcomes(passed=source.count("def test_") + 1)  # one of them runs twice


def test_the_readme_has_the_two_commands() -> None:
    """Word for word, each on a line of its own."""
    lines = [line.strip() for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()]
    for command in COMMANDS:
        assert command in lines


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_the_page_links_to_is_there(page: Path) -> None:
    """Pictures and pages; the site's own check does not see those outside of its folder."""
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_reference_names_what_is_public() -> None:
    """All that the package, its testing kit and the inspector export; of exceptions, the whole module stands there."""
    entries = re.findall(r"^::: (\S+)$", (DOCS / "reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(entries) == len(set(entries))
    named = {id(pkgutil.resolve_name(entry)) for entry in entries}
    for module in (chained_models, testing, inspector):
        for name in set(module.__all__) - set(exceptions.__all__):
            assert id(getattr(module, name)) in named, name
    assert id(exceptions) in named


def test_the_diagram_and_the_table_of_states_are_current() -> None:
    """Else: python docs/make_states.py."""
    for path, content in script("make_states").files().items():
        assert path.read_text(encoding="utf-8") == content


def test_every_state_and_input_is_explained() -> None:
    """The script has a sentence for each."""
    states = script("make_states")
    assert set(states.MEANING) == set(SaveState)
    assert set(states.CAUSE) == set(Input)


@pytest.mark.parametrize(("name", "tables"), [("failures.md", 2), ("choosing-a-policy.md", 1)])
def test_the_tables_of_failures_are_current(name: str, tables: int) -> None:
    """Else: python docs/make_failures.py."""
    page = (DOCS / name).read_text(encoding="utf-8")
    assert page.count("written by docs/make_failures.py") == tables
    assert script("make_failures").filled(page) == page


def test_the_table_of_coalescing_is_current() -> None:
    """Else: python docs/make_coalescing.py. What it says it has tried out."""
    page = (DOCS / "choosing-a-policy.md").read_text(encoding="utf-8")
    assert script("make_coalescing").filled(page) == page


def test_without_coalescing_only_a_create_and_its_delete_cancel_each_other() -> None:
    """As the page says below the table: with EVERY no save is superseded, and that one cell is the same."""
    coalescing = script("make_coalescing")
    every, latest = (coalescing.table(policy).splitlines() for policy in (Coalesce.EVERY, Coalesce.LATEST))
    assert "SUPERSEDED" not in "".join(every)
    nothing = [line for line in every if "nothing is sent" in line]
    assert len(nothing) == 1
    assert nothing[0].startswith("| create, waiting |")
    for row, other in zip(every, latest, strict=True):
        for cell, same in zip(row.split(" | "), other.split(" | "), strict=True):
            assert cell == same or "SUPERSEDED" in same


def test_the_table_of_classes_names_them_all() -> None:
    """One row each, in the order in which they are decided."""
    page = (DOCS / "failures.md").read_text(encoding="utf-8").split("By status of the answer")[0]
    assert re.findall(r"^\| `(\w+)`", page, re.MULTILINE) == [kind.__name__ for kind in policies.FAILURE_CLASSES]


def test_the_events_are_named_in_the_design() -> None:
    """In their order."""
    section = (DOCS / "design.md").read_text(encoding="utf-8").split("### Events\n")[1]
    assert section.startswith(f"`{' '.join(events.EVENT_NAMES)}`")


class Loaded(HTMLParser):
    """What a page loads by itself; links that somebody may follow are not among it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset") or (name == "href" and tag == "link"):
                self.found.append(value or "")


def test_the_site_is_built_and_asks_nobody_for_anything(tmp_path: Path) -> None:
    """All pages are there, the reference is filled in, and nothing comes from another host."""
    site = tmp_path / "site"
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    shutil.copytree(DOCS, tmp_path / "docs")
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix("")
        folder = name.parent if name.name == "index" else name
        assert (site / folder / "index.html").exists(), name
    reference = (site / "reference" / "index.html").read_text(encoding="utf-8")
    for name in ("ChainedSaveMixin.save", "SaveHandle", "RetryPolicy", "Operation", "testing.Harness.advance"):
        assert f'id="chained_models.{name}"' in reference
    assert (site / "states.svg").exists()
    assert "Unreleased" in (site / "changelog" / "index.html").read_text(encoding="utf-8")
    index = (site / "llms.txt").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[.+\]\(<(.+)>\)$", index, re.MULTILINE)
    assert len(listed) == len(set(listed)) == len(list(DOCS.rglob("*.md")))
    assert all((site / page).exists() for page in listed)
    for page in site.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert not [address for address in loaded.found if address.startswith(("http:", "https:", "//"))], page
