"""The pytest plugin, in runs of pytest of their own: what passes, what fails and what is said then, beside other plugins."""

from __future__ import annotations

import subprocess
import sys

import pytest

from chained_models.pytest_plugin import SEED

SHOP = """
from dataclasses import dataclass, field

from chained_models import ChainedSaveMixin, RetryPolicy
from chained_models.backends.memory import MemoryBackend

production = MemoryBackend()


@dataclass
class Basket(ChainedSaveMixin, backend=production, resource="baskets", retry=RetryPolicy(wait_initial=2)):
    id: int | None = None
    items: list[str] = field(default_factory=list)
"""

ALONE = ("-p", "no:randomly", "-p", "no:asyncio", "-p", "no:xdist", "-p", "no:frontrun")
SUMMARY = "chained_models: what happened to the saves"


def run(pytester: pytest.Pytester, *options: str, **files: str) -> pytest.RunResult:
    """pytest, over these files; every warning is an error, and so is a marker that nobody knows."""
    pytester.makepyfile(shop=SHOP, **files)
    strict = ("-p", "no:cacheprovider", "--strict-markers", "-W", "error")
    return pytester.runpytest_subprocess("-q", *strict, *options, timeout=50)


def summary(ran: pytest.RunResult) -> list[str]:
    """The lines of our summary, without runs of blanks."""
    lines = [" ".join(line.split()) for line in ran.outlines]
    (begin,) = [place for place, line in enumerate(lines) if SUMMARY in line]
    end = next(place for place in range(begin + 1, len(lines)) if lines[place].startswith("====="))
    return lines[begin + 1 : end]


def test_each_test_has_a_world_of_its_own(pytester: pytest.Pytester) -> None:
    """Whoever asks for it and however: by name, for a class, for all, in a TestCase, with threads, beside monkeypatch."""
    ran = run(
        pytester,
        *ALONE,
        test_worlds="""
import gc
import threading
import unittest
import weakref

import pytest
import shop
from shop import Basket

from chained_models import Lane, Outcome, default_dispatcher
from chained_models.backends.memory import MemoryBackend
from chained_models.testing import OWN, Harness, ScriptedBackend, VirtualClock

kept = Basket(items=["of all tests"])


@pytest.mark.parametrize("turn", range(3))
def test_nothing_is_seen_of_the_test_before(chained, turn):
    assert isinstance(chained, Harness) and isinstance(chained.clock, VirtualClock)
    assert not chained.backend.ledger and not chained.accepted and chained.clock.now() == 0
    basket = Basket(items=[str(turn)])
    basket.save()
    assert chained.backend.stored("baskets") == {1: {"id": 1, "items": [str(turn)]}}
    assert default_dispatcher() is chained.dispatcher
    chained.advance(5)
    kept.save()
    assert kept.chain.unsaved_changes() == {}
    kept.id = None
    chained.backend.hold()


def test_production_is_not_touched(chained):
    Basket().save()
    assert not shop.production.stored("baskets")


def test_without_the_fixture_it_is_as_ever():
    before = len(shop.production.stored("baskets"))
    Basket().save().result(10)
    assert len(shop.production.stored("baskets")) == before + 1
    shop.production._collections.clear()


@pytest.mark.usefixtures("chained")
class TestClass:
    def test_one(self):
        assert Basket().save().outcome is Outcome.SAVED

    def test_other(self, chained):
        assert not chained.accepted


@pytest.mark.usefixtures("chained")
class TestUnit(unittest.TestCase):
    def test_saved(self):
        self.assertIs(Basket().save().outcome, Outcome.SAVED)


class TestAutouse:
    @pytest.fixture(autouse=True)
    def held(self, chained):
        chained.backend.hold()
        yield
        chained.backend.release()  # after the test, and before its end is looked at

    def test_held(self):
        assert Basket().save().outcome is None


worlds = []


def test_a_world(chained):
    Basket().save()
    worlds.append(weakref.ref(chained.backend))


def test_a_world_is_gone_after_its_test():
    gc.collect()
    assert worlds[0]() is None


def test_threads(chained):
    go = threading.Barrier(4)
    basket = Basket()

    def save():
        go.wait(10)
        for _ in range(25):
            basket.save()

    threads = [threading.Thread(target=save) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [operation.seq for operation in chained.backend.applied] == list(range(1, 101))


def test_monkeypatch(chained, monkeypatch):
    monkeypatch.setattr(chained.backend, "lane", Lane(max_in_flight=1))
    monkeypatch.setattr(Basket, "chain", property(lambda self: "patched"))
    basket = Basket()
    assert basket.save().outcome is Outcome.SAVED
    assert basket.chain == "patched"


def test_live(chained_live):
    assert chained_live.clock is None
    chained_live.backend.hold()
    basket = Basket()
    basket.save()
    basket.save()
    assert len(basket.chain) == 2  # the end releases what is held, and waits for it


made = []


class Own(ScriptedBackend):
    def __init__(self):
        super().__init__()
        made.append(self)


shared = ScriptedBackend()


@pytest.mark.chained(backend=Own)
class TestMarker:
    @pytest.mark.parametrize("turn", range(2))
    def test_class(self, chained, turn):
        assert chained.backend is made[-1]
        Basket().save()
        assert len(chained.backend.ledger) == 1

    @pytest.mark.chained(backend=shared, seed=3)
    def test_the_nearest_wins(self, chained, chained_models_made):
        assert chained.backend is shared
        assert chained_models_made == Harness(seed=3).dispatcher._engine.random()

    @pytest.mark.chained(backend=lambda: MemoryBackend())
    def test_factory(self, chained):
        assert type(chained.backend) is MemoryBackend
        Basket().save()
        assert len(chained.backend.stored("baskets")) == 1

    @pytest.mark.chained(backend="own")
    def test_own(self, chained):
        Basket().save()
        assert len(shop.production.stored("baskets")) == 1
        shop.production._collections.clear()

    @pytest.mark.chained(backend=OWN)
    def test_own_live(self, chained_live):
        Basket().save().result(10)
        assert len(shop.production.stored("baskets")) == 1
        shop.production._collections.clear()


@pytest.fixture
def chained_models_made(chained):
    return chained.dispatcher._engine.random()


def test_seed_of_the_command_line(chained_models_made):
    assert chained_models_made == Harness(seed=41).dispatcher._engine.random()
""",
    )
    assert "test_seed_of_the_command_line" in "".join(ran.outlines)  # it was not given
    ran.assert_outcomes(passed=20, failed=1)
    assert SUMMARY in "".join(ran.outlines)
    ran = pytester.runpytest_subprocess("-q", *ALONE, f"{SEED}=41")
    ran.assert_outcomes(passed=21)
    assert SUMMARY not in "".join(ran.outlines)


def test_a_failure_is_told_with_what_happened(pytester: pytest.Pytester) -> None:
    """Leftovers fail; of a test that has failed already they are in the summary only. Seed and timeline are told of both."""
    ran = run(
        pytester,
        *ALONE,
        test_failures="""
import pytest
from shop import Basket

from chained_models import Method, Outcome, Rejected, Unavailable


def test_left(chained):
    chained.backend.hold()
    basket = Basket()
    basket.save()
    basket.delete()


@pytest.mark.chained(seed=7)
def test_failed(chained):
    chained.backend.fail(Unavailable("no net"))
    basket = Basket()
    basket.save()
    chained.run_until_idle()
    basket.chain.pause()
    basket.save()
    assert basket.items == ["fig"]


def test_order(chained):
    basket = Basket()
    first, second = basket.save(), basket.save()
    assert chained.saves == [second, first]


def test_methods(chained):
    basket = Basket()
    basket.save()
    basket.delete()
    assert [operation.method for operation in chained.backend.applied] == [Method.CREATE, Method.PATCH]


def test_outcomes(chained):
    chained.backend.fail(Rejected)
    assert [Basket().save().outcome] == [Outcome.SAVED]


def test_left_live(chained_live):
    basket = Basket()
    basket.save()
    basket.chain.pause()
    basket.save()


@pytest.fixture
def broken(chained):
    Basket().save()
    raise OSError("no disk")


def test_setup(broken):
    pass


@pytest.mark.xfail
def test_expected(chained):
    chained.backend.hold()
    Basket().save()
    raise OSError


def test_skipped(chained):
    chained.backend.hold()
    Basket().save()
    pytest.skip("not today")


def test_passes(chained):
    Basket().save()


def test_other_lists():
    assert [1, 2] == [2, 1]
""",
    )
    ran.assert_outcomes(failed=5, passed=3, errors=3, xfailed=1, skipped=1)
    text = ran.stdout.str()
    for one in ("test_left", "test_left_live"):  # an error of its teardown, without a traceback of ours
        assert f"ERROR at teardown of {one} " in text
    assert "pytest_plugin.py" not in text
    ran.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_left _*",
            "2 saves have not ended:",
            "  save 1 of Basket (new): in flight: attempt 1, for 0.0 s",
            "  delete 2 of Basket (new): queued behind save 1 of Basket (new), which is in flight: attempt 1, for 0.0 s",
        ]
    )
    ran.stdout.fnmatch_lines(
        [
            "E       assert [[]save 1 of Basket 1, save 2 of Basket 1[]] == [[]save 2 of Basket 1, save 1 of Basket 1[]]",
            "E         the same, in another order:",
            "E           save 1 of Basket 1 came before save 2 of Basket 1",
        ]
    )
    ran.stdout.fnmatch_lines(
        ["E       assert [[]CREATE, DELETE[]] == [[]CREATE, PATCH[]]", "*at 2: DELETE on the left, PATCH on the right"]
    )
    ran.stdout.fnmatch_lines(["E       assert [[]FAILED[]] == [[]SAVED[]]"])
    ran.stdout.fnmatch_lines(["E       assert [[]1, 2[]] == [[]2, 1[]]", "*At index 0 diff*"])
    told = summary(ran)
    named = [line.partition("::")[2] for line in told if "::" in line]
    assert sorted(named) == sorted(
        ["test_left", "test_failed", "test_order", "test_methods", "test_outcomes", "test_left_live", "test_setup"]
    )
    failed = told[told.index("test_failures.py::test_failed") :]
    assert failed[1:6] == [
        "seed 7",
        "Basket 1: 2 saves, 1 not ended",
        "1 0.000 s save 1 accepted",
        "3 0.000 s save 1 sent as create",
        "4 0.000 s save 1 got Unavailable: no net",
    ]
    assert "not ended save 2 held: its chain is paused until resume()" in failed
    at = failed.index("in the end, 1 save has not ended:")
    assert failed[at + 1] == "save 2 of Basket 1: held: its chain is paused until resume()"
    assert text.count("in the end, 1 save has not ended:") == 1
    assert "delete 2 queued behind save 1" in " ".join(told)


def test_mistakes_are_named(pytester: pytest.Pytester) -> None:
    """With the remedy, and without a traceback; the marker is known to pytest --markers."""
    ran = run(
        pytester,
        *ALONE,
        test_mistakes="""
import pytest

from chained_models.testing import AsyncScriptedBackend


@pytest.mark.chained(sead=7)
def test_keyword(chained):
    pass


@pytest.mark.chained("own")
def test_position(chained_live):
    pass


@pytest.mark.chained(seed="7")
def test_seed(chained):
    pass


@pytest.mark.chained(backend="mine")
def test_word(chained):
    pass


@pytest.mark.chained(backend=dict)
def test_made(chained):
    pass


@pytest.mark.chained(backend=AsyncScriptedBackend)
def test_colour(chained):
    pass


def test_both(chained_live, chained):
    pass
""",
    )
    ran.assert_outcomes(errors=7)
    ran.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_keyword*",
            "@pytest.mark.chained takes backend=... and seed=..., not sead=...",
            "*ERROR at setup of test_position*",
            "@pytest.mark.chained takes backend=... and seed=..., not 'own'",
            "*ERROR at setup of test_seed*",
            "@pytest.mark.chained(seed='7'): a whole number is needed",
            "*ERROR at setup of test_word*",
            "@pytest.mark.chained(backend='mine'): a backend, what makes one when it is called, or 'own'",
            "*ERROR at setup of test_made*",
            "@pytest.mark.chained(backend=<class 'dict'>): a backend, what makes one when it is called, or 'own'",
            "*ERROR at setup of test_colour*",
            "the fixture chained runs plain functions, and this backend is of coroutines: ask for chained_live",
            "*ERROR at setup of test_both*",
            "a test has one world: ask for the fixture chained, or for chained_live, not for both",
        ]
    )
    assert "pytest_plugin.py" not in ran.stdout.str()
    markers = pytester.runpytest_subprocess("--markers", *ALONE)
    markers.stdout.fnmatch_lines(["@pytest.mark.chained(backend=..., seed=...): *"])


def test_beside_pytest_asyncio_and_anyio(pytester: pytest.Pytester) -> None:
    """The same fixtures in coroutines: saves are awaited, an hour takes no time, and another task releases what is held."""
    ran = run(
        pytester,
        "-p",
        "no:randomly",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        test_coroutines="""
import asyncio

import pytest
from shop import Basket

from chained_models import Outcome
from chained_models.testing import AsyncScriptedBackend


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def saves(chained):
    basket = Basket(items=["fig"])
    assert await basket.save() is basket
    chained.backend.delay(20, times=1)
    assert await basket.save() is basket
    assert chained.clock.now() == 20
    chained.backend.hold()
    waiting = asyncio.ensure_future(wait_for(basket.save()))
    await asyncio.sleep(0)
    assert not waiting.done()
    chained.backend.release()
    assert await waiting is Outcome.SAVED
    assert [operation.seq for operation in chained.backend.applied] == [1, 2, 3]


async def wait_for(handle):
    await handle
    return handle.outcome


async def saves_live(chained_live):
    basket = Basket(items=["fig"])
    chained_live.backend.hold()
    handle = basket.save()
    basket.save()
    chained_live.backend.release()
    assert await handle is basket
    assert [operation.identity for operation in chained_live.backend.seen][:1] == [None]


@pytest.mark.asyncio
async def test_asyncio(chained):
    await saves(chained)


@pytest.mark.anyio
async def test_anyio(chained):
    await saves(chained)


@pytest.mark.asyncio
@pytest.mark.parametrize("turn", range(2))
async def test_asyncio_live(chained_live, turn):
    await saves_live(chained_live)


@pytest.mark.anyio
async def test_anyio_live(chained_live):
    await saves_live(chained_live)


@pytest.mark.asyncio
@pytest.mark.chained(backend=AsyncScriptedBackend)
async def test_asyncio_coroutines(chained_live):
    basket = Basket()
    await asyncio.gather(basket.save(), basket.save())
    assert len(chained_live.backend.applied) == 2


@pytest.mark.anyio
@pytest.mark.chained(backend=AsyncScriptedBackend)
async def test_anyio_coroutines(chained_live):
    basket = Basket()
    await asyncio.gather(basket.save(), basket.save())
    assert len(chained_live.backend.applied) == 2


@pytest.mark.chained(backend=AsyncScriptedBackend)
def test_plain_code_and_coroutines(chained_live):
    assert Basket().save().result(10).id == 1


@pytest.mark.asyncio
async def test_left(chained):
    chained.backend.hold()
    Basket().save()
""",
    )
    ran.assert_outcomes(passed=9, errors=1)
    ran.stdout.fnmatch_lines(["*ERROR at teardown of test_left*", "1 save has not ended:"])
    assert summary(ran)[0] == "test_coroutines.py::test_left"


def test_beside_xdist_and_randomly(pytester: pytest.Pytester) -> None:
    """Two workers, in any order: no test sees another, a seed means the same in each, and the summary comes home."""
    ran = run(
        pytester,
        *("-n", "2", "-p", "randomly", "-p", "no:asyncio", f"{SEED}=5"),
        test_spread="""
import os

import pytest
from shop import Basket

from chained_models import Unavailable


@pytest.mark.parametrize("turn", range(20))
def test_alone(chained, turn):
    assert os.environ["PYTEST_XDIST_WORKER"]
    chained.backend.fail(Unavailable)
    basket = Basket()
    basket.save()
    chained.run_until_idle()
    assert basket.id == 1
    retried = chained.time_of(chained.backend.ledger[1].began)
    assert f"{retried:.6f}" == "TIME"


def test_failed(chained):
    Basket().save()
    assert not chained.saves


def test_left(chained_live):
    basket = Basket()
    basket.save()
    basket.chain.pause()
    basket.save()
""".replace("TIME", _retried_after(5)),
    )
    ran.assert_outcomes(passed=21, failed=1, errors=1)
    told = summary(ran)
    assert {"test_spread.py::test_failed", "test_spread.py::test_left"} <= set(told)
    assert told.count("seed 5") == 2
    assert "not ended save 2 held: its chain is paused until resume()" in told


def _retried_after(seed: int) -> str:
    """When the harness of that seed makes its first retry of a Basket."""
    program = f"""
{SHOP}
from chained_models import Unavailable
from chained_models.testing import Harness
with Harness(seed={seed}) as chained:
    chained.backend.fail(Unavailable)
    Basket().save()
    chained.run_until_idle()
print(f"{{chained.time_of(chained.backend.ledger[1].began):.6f}}")
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_beside_responses(pytester: pytest.Pytester) -> None:
    """backend="own": a REST backend in the test's thread by virtual time, and in threads, with its answers from responses."""
    ran = run(
        pytester,
        *ALONE,
        test_rest="""
import json
from dataclasses import dataclass

import pytest
import responses

from chained_models import ChainedSaveMixin, Guarantee, Outcome
from chained_models.backends.rest import RestBackend

API = "https://shop.example/api"


@dataclass
class Order(ChainedSaveMixin, backend=RestBackend(API, guarantee=Guarantee.IDEMPOTENT), resource="orders"):
    id: int | None = None
    state: str = "open"


pytestmark = pytest.mark.chained(backend="own")


@responses.activate
def test_inline(chained):
    responses.post(f"{API}/orders", status=503, headers={"Retry-After": "20"})
    responses.post(f"{API}/orders", json={"id": 5}, status=201)
    responses.put(f"{API}/orders/5", json={})
    order = Order()
    order.save()
    order.save({"state": "paid"})
    assert len(responses.calls) == 1
    chained.run_until_idle()
    assert chained.clock.now() >= 20
    assert [call.request.method for call in responses.calls] == ["POST", "POST", "PUT"]
    assert [save.outcome for save in chained.saves] == [Outcome.SAVED, Outcome.SAVED]


def test_live(chained_live):
    with responses.RequestsMock() as mock:
        mock.post(f"{API}/orders", json={"id": 5}, status=201)
        assert Order().save().result(10).id == 5


@responses.activate
@pytest.mark.chained(backend=None)
def test_scripted(chained):
    assert Order().save().outcome is Outcome.SAVED
    assert not responses.calls


@responses.activate
def test_failed(chained):
    Order(id=3).save()
    assert not [save.error for save in chained.saves]
""",
    )
    ran.assert_outcomes(passed=3, failed=1)
    assert summary(ran)[1:4] == ["seed 0", "Order 3: 1 save, 1 not ended", "1 0.000 s save 1 accepted"]


def test_a_run_without_such_a_test_pays_nothing(pytester: pytest.Pytester) -> None:
    """No summary, the kit is not imported, nor anything heavy, and asserts of lists are as ever."""
    ran = run(
        pytester,
        *ALONE,
        "-p",
        "no:anyio",
        "-p",
        "no:hypothesispytest",
        "-p",
        "no:schemathesis",
        test_nothing="""
import sys

HEAVY = {"asyncio", "requests", "sqlalchemy", "pydantic", "cattrs", "attrs"}


def test_lists():
    assert [1, 2] == [2, 1]


def test_nothing_is_imported():
    assert "chained_models.pytest_plugin" in sys.modules
    assert not [name for name in sys.modules if name.startswith(("chained_models.testing", "chained_models.drivers."))]
    assert not HEAVY & set(sys.modules)
""",
    )
    ran.assert_outcomes(passed=1, failed=1)
    assert "chained_models" not in ran.stdout.str()


@pytest.mark.smoke
def test_the_plugin_is_installed_and_light() -> None:
    """As an entry point; importing it imports pytest, the package, and no library of a model or a backend."""
    program = """
import sys
import pytest
before = set(sys.modules)
from importlib.metadata import entry_points
(entry,) = [entry for entry in entry_points(group="pytest11") if entry.name == "chained_models"]
entry.load()
heavy = {"asyncio", "requests", "sqlalchemy", "pydantic", "attrs", "attr", "cattrs", "rich", "chained_models.testing"}
print(entry.value, sorted(heavy & (set(sys.modules) - before)))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "chained_models.pytest_plugin []\n"


@pytest.mark.smoke
def test_the_plugin_imports_nothing_of_the_package_but_itself() -> None:
    """Every run of pytest pays for it, also where no test ever saves."""
    program = """
import sys
import chained_models.pytest_plugin
print(sorted(name for name in sys.modules if name.startswith("chained_models")))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "['chained_models', 'chained_models.pytest_plugin']\n"


@pytest.mark.parametrize(
    ("end", "told"), [("raise KeyboardInterrupt", "KeyboardInterrupt"), ("pytest.exit('bye')", "bye")]
)
def test_a_run_that_is_interrupted_ends_as_ever(pytester: pytest.Pytester, end: str, told: str) -> None:
    """What has not ended is no news then, and does not take the place of what pytest itself has to say."""
    ran = run(
        pytester,
        *ALONE,
        test_interrupted=f"""
import pytest
from shop import Basket


def test_before():
    pass


def test_interrupted(chained):
    chained.backend.hold()
    Basket().save()
    {end}
""",
    )
    ran.stdout.fnmatch_lines([f"!!!*{told}*!!!", "1 passed in *"])
    ran.stdout.no_fnmatch_line("*has not ended*")
    ran.stderr.no_fnmatch_line("*Traceback*")


def test_subtests(pytester: pytest.Pytester) -> None:
    """A test has failed if one of its subtests has, whatever those behind it do: told once, and without a second error."""
    ran = run(
        pytester,
        *ALONE,
        test_parts="""
import unittest

import pytest
from shop import Basket


class Parts(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def world(self, chained):
        self.chained = chained

    def test_parts(self):
        self.chained.backend.hold()
        Basket().save()
        for part in range(4):
            with self.subTest(part=part):
                self.assertNotIn(part, (1, 2))
""",
    )
    assert "error" not in ran.parseoutcomes()
    told = summary(ran)
    assert sum(line.startswith("Basket (new): 1 save") for line in told) == 1
    assert "in the end, 1 save has not ended:" in told
