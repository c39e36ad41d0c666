"""Bad inputs: whatever comes as an identity, a header, an answer or an attribute, only errors of ours come out, or those of the
model's own library; and no request leaves the place that it was meant for."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import math
import posixpath
import warnings
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import pydantic
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from chained_models import ChainedSaveMixin, Dispatcher, Lane, Outcome, RetryPolicy
from chained_models.backends import _aiohttp_transport, _transport
from chained_models.backends._header import checked_headers, header_value, idempotency_header
from chained_models.backends._reply import DEEPEST, Unreadable, read_json
from chained_models.backends._retry_after import LONGEST_WAIT, seconds_to_wait
from chained_models.backends._url import Route, checked_base_url, last_segment, named_host, segment
from chained_models.backends.aiohttp import AiohttpBackend
from chained_models.backends.rest import RestBackend
from chained_models.exceptions import BackendError, ChainedModelsError, InvalidIdentity, InvalidOption
from chained_models.operation import Answer, Guarantee, Method

from ..rest_operations import operation
from . import corpus
from .campaign import Campaign

BATCH = 1000
"""So many inputs are made of one seed."""

BASES = ("http://shop.example/api", "https://shop.example", "http://127.0.0.1:8080/a%20b/v1", "http://[::1]:9/x")

ROUTES = (
    (Route.of("baskets"), ("id",), "baskets"),
    (Route.of("v1:all/a@b/"), ("id",), "v1:all/a@b"),
    (Route.of("orders/{order}/lines"), ("order", "number"), "orders"),
    (Route.of("shops/{shop}/baskets"), ("id",), "shops"),
)


def quiet() -> None:
    """What fails here by the thousand is not to be read by anybody; also not what others warn of."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


@pytest.fixture(autouse=True)
def silence() -> Any:
    with warnings.catch_warnings():
        quiet()
        yield
        logging.disable(logging.NOTSET)


# What is looked at


def stays(base: str, prefix: str, url: str) -> None:
    """Raise if `url`, as whatever server may understand it, leaves the place that it was meant for."""
    meant, sent = urlsplit(base), urlsplit(url)
    assert (sent.scheme, sent.netloc) == (meant.scheme, meant.netloc), f"another host: {url!a}"
    assert url.isascii() and url.isprintable() and not set(url) & set(' ?#\\"<>^`{|}'), f"not a plain URL: {url!a}"
    home, path = f"{meant.path}/{prefix}", sent.path
    for _ in range(3):  # as it is, decoded as a server does, and decoded once too often
        there = posixpath.normpath("/" + path.replace("\\", "/").lstrip("/"))
        assert there.startswith(home.rstrip("/") + "/") or there == home.rstrip("/"), f"{url!a} is {there!a}"
        assert "\x00" not in there, f"a NUL in {url!a}"
        home, path = unquote(home), unquote(path)


def one_line_each(headers: Any) -> None:
    """Raise if a header would be more than one, or not arrive as it is."""
    for name, value in headers.items():
        name = name.decode("latin-1") if isinstance(name, bytes) else name
        value = value.decode("latin-1") if isinstance(value, bytes) else value
        line = f"{name}: {value}".encode("latin-1")
        assert not any((byte < 32 and byte != 9) or byte == 127 for byte in line), f"a header {line!r}"
        assert ":" not in name and " " not in name and name, f"a header {line!r}"


# Inputs of functions


def in_a_url(dice: Random) -> bool:
    identity = corpus.identity(dice)
    route, names, prefix = dice.choice(ROUTES)
    base = dice.choice(BASES)
    given = identity if len(names) == 1 or dice.random() < 0.2 else (identity, corpus.identity(dice))
    values = {"shop": corpus.identity(dice) if dice.random() < 0.5 else "mine", "id": identity, "order": identity}
    try:
        path = route.item(names, given, values) if dice.random() < 0.8 else route.collection(names, None, values)
        url = _transport.as_sent(base, path)
    except (BackendError, InvalidIdentity):
        return False
    stays(base, prefix, url)
    stays(base, prefix, str(_aiohttp_transport.as_sent(base, path)))
    return True


def as_a_segment(dice: Random) -> bool:
    identity = corpus.identity(dice)
    try:
        written = segment(identity)
    except InvalidIdentity as error:
        assert str(error).isprintable()
        return False
    meant = (
        str.__str__(identity)
        if isinstance(identity, str)
        else str(int(identity))
        if isinstance(identity, int)
        else str(identity)
    )
    assert unquote(written) == meant, f"{identity!a} became {written!a}"
    assert "/" not in written
    return True


def as_a_location(dice: Random) -> bool:
    location = dice.choice(("", "/baskets/", "http://shop.example/api/baskets/", "//evil.example/")) + corpus.text(dice)
    shown = named_host(location)
    assert shown.isprintable() and shown.isascii() and len(shown) < 300
    identity = last_segment(location)
    if identity is None:
        return False
    segment(identity)
    return True


def as_a_base_url(dice: Random) -> bool:
    base = dice.choice(
        ("", "http://", "https://", "http://shop.example/", "https://shop.example", "http://a@b/")
    ) + corpus.text(dice)
    try:
        checked = checked_base_url(base)
        backend = RestBackend(base)
    except InvalidOption:
        return by_aiohttp(base)
    lands(_transport.as_sent(backend.base_url, "baskets/7"), checked)
    by_aiohttp(base)
    return True


def by_aiohttp(base: str) -> bool:
    """The same with the library for coroutines, which may have another opinion."""
    try:
        backend = AiohttpBackend(base)
    except InvalidOption:
        return False
    lands(str(_aiohttp_transport.as_sent(backend.base_url, "baskets/7")), backend.base_url)
    return True


def lands(sent: str, base: str) -> None:
    assert unquote(urlsplit(sent).hostname or "").lower() == unquote(urlsplit(base).hostname or "").lower()
    assert urlsplit(sent).path.endswith("/baskets/7")


def as_a_header(dice: Random) -> bool:
    value = corpus.identity(dice)
    try:
        one_line_each({"X-Value": header_value(value)})
    except InvalidOption as error:
        assert str(error).isprintable()
        return False
    return True


def as_headers(dice: Random) -> bool:
    headers: Any = {}
    for _ in range(dice.randrange(1, 4)):
        name = (
            corpus.identity(dice)
            if dice.random() < 0.5
            else dice.choice(("X-A", "Content-Length", "If-Match", "Cookie"))
        )
        try:
            headers[name] = corpus.identity(dice) if dice.random() < 0.5 else "a"
        except (TypeError, corpus.Spite):  # not hashable
            headers = name
            break
    try:
        one_line_each(checked_headers(headers))
    except InvalidOption as error:
        assert str(error).isprintable()
        return False
    return True


def as_a_key(dice: Random) -> bool:
    try:
        written = idempotency_header(corpus.text(dice), dice.choice(("bare", "quoted")))
    except InvalidOption:
        return False
    one_line_each({"Idempotency-Key": written})
    assert written.isascii()
    return True


def as_retry_after(dice: Random) -> bool:
    date = corpus.retry_after(dice) if dice.random() < 0.5 else None
    wait = seconds_to_wait(corpus.retry_after(dice), date=date, now=dice.choice((0.0, 1.7e9, 1e12)))
    assert wait is None or (type(wait) is float and 0 <= wait <= LONGEST_WAIT)
    delay = RetryPolicy(wait_max=dice.random() * 9).delay(dice.randrange(1, 5000), dice.random(), wait)
    assert 0 <= delay <= 9 and math.isfinite(delay)
    return wait is not None


def as_json(dice: Random) -> bool:
    try:
        value = read_json(corpus.body(dice))
    except Unreadable as error:
        assert error.__context__ is None and len(str(error)) < 60
        return False
    assert deepest(value) <= DEEPEST
    json.dumps(value, allow_nan=False)
    return True


def deepest(value: Any) -> int:
    """Levels of nesting."""
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


# Whole requests


class Wire(BaseAdapter):
    """Takes what would be sent, and answers what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[requests.PreparedRequest] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"{}"

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        self.sent.append(request)
        response = requests.Response()
        response.status_code = self.status
        response.headers = CaseInsensitiveDict(self.headers)
        response.raw = io.BytesIO(self.body)
        response.request, response.url = request, request.url
        return response

    def close(self) -> None:
        pass


def wired(**options: Any) -> tuple[Wire, RestBackend]:
    """A backend whose requests end in a Wire."""
    wire = Wire()
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", wire)
    session.mount("https://", wire)
    base = options.pop("base", BASES[0])
    return wire, RestBackend(base, session=session, lane=Lane(), **options)


def in_a_request(dice: Random) -> bool:
    """All at once: identity, version, key, headers, credentials, values."""
    base = dice.choice(BASES)
    header = {corpus.text(dice) if dice.random() < 0.2 else "X-Tenant": corpus.text(dice)}
    secret = dice.choice(
        (corpus.text(dice), {"Authorization": corpus.text(dice)}, (corpus.text(dice), corpus.text(dice)), None)
    )
    wire, backend = wired(
        base=base,
        headers=(lambda: header) if dice.random() < 0.3 else None,
        auth=(lambda: secret) if dice.random() < 0.3 else None,
        conditional=True,
        guarantee=Guarantee.IDEMPOTENT,
        key_style=dice.choice(("bare", "quoted")),
    )
    asked = operation(
        dice.choice(list(Method)),
        identity=corpus.identity(dice) if dice.random() < 0.6 else 7,
        version=corpus.identity(dice) if dice.random() < 0.5 else None,
        idempotency_key=corpus.text(dice) if dice.random() < 0.5 else "key-1",
        values={"id": 7, "items": corpus.json_value(dice), "note": corpus.text(dice)},
        changed=frozenset({"note", "items"}),
    )
    wire.headers = {"ETag": corpus.text(dice), "Location": corpus.text(dice)}
    try:
        asked.payload = backend.encode(asked)
        backend.execute(asked)
    except BackendError as error:
        assert str(error).isprintable(), f"a message {str(error)!a}"
        assert not wire.sent or "nothing was sent" not in str(error)
    for request in wire.sent:
        assert request.url is not None
        stays(base, "baskets", request.url)
        one_line_each(request.headers)
        if request.body is not None:
            json.loads(request.body)
    return bool(wire.sent)


def as_an_answer(dice: Random) -> bool:
    """Any status, headers and body."""
    wire, backend = wired(conditional=True, max_answer_bytes=50_000)
    wire.status = dice.choice(
        (200, 200, 200, 201, 201, 202, 204, 206, 299, 301, 400, 401, 404, 409, 412, 429, 500, 503, 599, 999, 0, -1)
    )
    wire.body = corpus.body(dice)
    wire.headers = {
        "Content-Type": dice.choice(("application/json", "application/json", "", "text/html", corpus.text(dice)))
    }
    for name in ("ETag", "Location", "Retry-After", "Date", "Content-Length"):
        if dice.random() < 0.2:
            wire.headers[name] = corpus.retry_after(dice) if name in ("Retry-After", "Date") else corpus.text(dice)
    asked = operation(dice.choice(list(Method)))
    asked.payload = backend.encode(asked)
    try:
        answer = backend.execute(asked)
    except BackendError as error:
        assert str(error).isprintable(), f"a message {str(error)!a}"
        assert error.retry_after is None or 0 <= error.retry_after <= LONGEST_WAIT
        return False
    assert isinstance(answer, Answer)
    return True


# Models


@dataclasses.dataclass
class Parcel(ChainedSaveMixin):
    id: Any = None
    label: str = ""
    tags: list[str] = dataclasses.field(default_factory=list)
    weight: float | None = None
    nested: corpus.Inner | None = None
    extra: Any = None


def _short(instance: Any, attribute: Any, value: Any) -> None:
    if value == "refused":
        raise ValueError("the model's own refusal")


@attrs.define(eq=False)
class Crate(ChainedSaveMixin):
    id: Any = None
    label: str = attrs.field(default="", validator=_short)
    tags: list[str] = attrs.Factory(list)
    weight: float | None = None
    nested: corpus.Inner | None = None
    extra: Any = None


class Box(ChainedSaveMixin, pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    id: Any = None
    label: str = ""
    tags: list[str] = []
    weight: float | None = None
    nested: corpus.Inner | None = None
    extra: Any = None


MODELS: tuple[Any, ...] = (Parcel, Crate, Box)
OURS = (ChainedModelsError, pydantic.ValidationError)


class Harbour:
    """Where the models are saved: inline, to a backend whose requests end in a Wire."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher("inline")
        self.wire, self.backend = wired(guarantee=Guarantee.IDEMPOTENT)
        for model in MODELS:
            model.bind(
                self.backend,
                resource="baskets",
                identity_by="server",
                dispatcher=self.dispatcher,
                retry=RetryPolicy(attempts=2, wait_initial=0),
            )

    def attribute(self, dice: Random) -> bool:
        """Any value in any attribute, given in any way."""
        self.wire.sent.clear()
        self.wire.status, self.wire.headers, self.wire.body = 200, {}, b""
        kind = dice.choice(MODELS)
        one: Any = kind()
        names = dice.sample(("id", "label", "tags", "weight", "nested", "extra"), dice.randrange(1, 3))
        values = {name: corpus.value(dice) for name in names}
        try:
            if dice.random() < 0.3:
                handle = one.save(values)
            else:
                for name, value in values.items():
                    setattr(one, name, value)
                handle = one.save(patch=dice.random() < 0.3)
        except OURS:
            assert not self.wire.sent
            return False
        except (corpus.Spite, TypeError, ValueError) as error:
            # Of an object that raises when it is compared or hashed: by the model's own library only.
            assert by_others(error), f"{kind.__name__} with {values.keys()}"
            return False
        self.look_over(one, handle)
        return handle.outcome is Outcome.SAVED

    def look_over(self, one: Any, handle: Any) -> None:
        """The save has ended; what may be asked of it and of the object does not break either."""
        assert handle.done() and handle.outcome in (Outcome.SAVED, Outcome.FAILED), handle.outcome
        error = handle.exception(0)
        assert error is None or isinstance(error, BackendError), f"{error!r}"
        for request in self.wire.sent:
            assert request.url is not None
            stays(BASES[0], "baskets", request.url)
            one_line_each(request.headers)
            assert request.body is None or json.loads(request.body) is not None
        str(handle), repr(handle), handle.why_waiting, repr(one.chain), len(one.chain)
        for ask in (one.chain.unsaved_changes, one.chain.revert):
            try:
                ask()
            except OURS:
                pass
        assert len(self.dispatcher) == 0

    def answered(self, dice: Random) -> bool:
        """Any JSON object as an answer to any verb."""
        self.wire.sent.clear()
        self.wire.status, self.wire.headers = dice.choice((200, 201)), {"Content-Type": "application/json"}
        self.wire.body = corpus.body(dice)
        kind = dice.choice(MODELS)
        one: Any = kind() if dice.random() < 0.3 else kind(id=dice.choice((7, "a")))
        identity = one.id
        try:
            handle = dice.choice((one.save, one.refresh, lambda: one.save(patch=True)))()
        except OURS:
            return False
        assert handle.outcome is not None
        if handle.outcome is not Outcome.ABANDONED:
            self.look_over(one, handle)
        assert identity is None or one.id == identity, "an answer has changed a known identity"
        self.clear()
        self.wire.body = b""
        if one.id is not None:
            self.wire.sent.clear()
            try:
                later = one.save()
            except OURS:  # the server has given an identity that cannot be sent
                return True
            self.look_over(one, later)
        return handle.outcome is Outcome.SAVED

    def clear(self) -> None:
        """Go on without what has halted a chain."""
        for chain in self.dispatcher:
            chain.clear()
            chain.skip()


def by_others(error: BaseException) -> bool:
    """Whether it was the model's own library, or a validator of the model, that asked the hostile object."""
    trace, last = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        last = last if name.endswith("corpus") else name
        trace = trace.tb_next
    return not last.startswith("chained_models") or last.endswith(("adapters.pydantic", "adapters.attrs"))


KINDS: dict[str, tuple[int, Callable[[Random], bool]]] = {
    "URLs": (20, in_a_url),
    "segments": (20, as_a_segment),
    "locations": (8, as_a_location),
    "base URLs": (2, as_a_base_url),
    "header values": (10, as_a_header),
    "headers": (6, as_headers),
    "keys": (5, as_a_key),
    "Retry-After": (8, as_retry_after),
    "JSON bodies": (10, as_json),
    "requests": (5, in_a_request),
    "answers": (5, as_an_answer),
}


def play(seed: int) -> Counter[str]:
    """A thousand inputs of all kinds."""
    quiet()
    dice = Random(seed)
    harbour = Harbour()
    kinds = {**KINDS, "attributes": (6, harbour.attribute), "answers to models": (4, harbour.answered)}
    names = dice.choices(list(kinds), [weight for weight, _ in kinds.values()], k=BATCH)
    counted: Counter[str] = Counter()
    for number, name in enumerate(names):
        state = dice.getrandbits(64)
        try:
            taken = kinds[name][1](Random(state))
        except BaseException as error:
            error.add_note(f"input {number} of the seed, of the kind {name!r}, made by Random({state})")
            raise
        counted[name] += 1
        counted["taken"] += taken
    return counted


def test_bad_inputs(campaign: Campaign) -> None:
    """No crash, no escape from the URL's prefix, no header in a header; only errors of ours, or the model's own."""
    batches = campaign.pick(12, 120, 1020)
    total = sum(campaign.each(play, batches, chunk=10), Counter())
    taken = total.pop("taken")
    assert len(total) == len(KINDS) + 2
    assert total.total() >= campaign.pick(10_000, 100_000, 1_000_000)
    # If nearly nothing, or nearly everything, were taken, the inputs would not be worth much.
    assert 0.1 < taken / total.total() < 0.9
    campaign.report(inputs=total.total(), taken=taken, **total)


# In depth


TEXT = st.text(max_size=12) | st.text(st.sampled_from("./\\%25eEfF#?;a @:\x00\r\n\u202e\ud800é\uff0e"), max_size=12)


def json_values(numbers: Any) -> Any:
    """JSON values with these numbers in them, and with any text."""
    return st.recursive(
        st.none() | st.booleans() | st.integers() | numbers | st.text(st.characters(codec=None), max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(corpus.NAMES) | TEXT, inner, max_size=4)
        ),
        max_leaves=8,
    )


JSON = json_values(st.floats())
# Pydantic writes infinities and NaN as null, unless its `ser_json_inf_nan` says otherwise; the others refuse them.
FINITE = json_values(st.floats(allow_nan=False, allow_infinity=False))


def examples(campaign: Campaign) -> settings:
    """How many of them; the quick ones are always the same."""
    return settings(
        max_examples=campaign.pick(100, 2_000, 20_000), derandomize=campaign.level == "quick", deadline=None
    )


def test_identities_in_depth(campaign: Campaign) -> None:
    """Of any identity in any route there is either no URL, or one below the place that was meant."""

    @examples(campaign)
    @given(TEXT, TEXT, st.sampled_from(BASES), st.sampled_from(ROUTES))
    def search(identity: str, other: str, base: str, place: tuple[Any, tuple[str, ...], str]) -> None:
        route, names, prefix = place
        given_identity = identity if len(names) == 1 else (identity, other)
        try:
            path = route.item(names, given_identity, {"shop": other})
        except InvalidIdentity:
            return
        stays(base, prefix, _transport.as_sent(base, path))

    search()


def test_header_values_in_depth(campaign: Campaign) -> None:
    """Whatever a header is to say, it stays one header, or is refused."""

    @examples(campaign)
    @given(TEXT, TEXT)
    def search(name: str, value: str) -> None:
        for made in (lambda: checked_headers({name: value}), lambda: {"If-Match": header_value(value)}):
            try:
                headers = made()
            except InvalidOption:
                continue
            one_line_each(headers)

    search()


def test_answers_in_depth(campaign: Campaign) -> None:
    """Whatever JSON an answer is, it is merged or it is not, and the object can be saved again."""
    with Dispatcher("inline") as dispatcher:
        wire, backend = wired(guarantee=Guarantee.IDEMPOTENT)
        wire.headers = {"Content-Type": "application/json"}
        for model in MODELS:
            model.bind(
                backend, resource="baskets", identity_by="server", dispatcher=dispatcher, retry=RetryPolicy(attempts=1)
            )

        @examples(campaign)
        @given(JSON, st.sampled_from(MODELS), st.sampled_from(("save", "refresh")))
        def search(answer: Any, kind: Any, verb: str) -> None:
            wire.body = json.dumps(answer).encode()
            one = kind(id=7)
            handle = getattr(one, verb)()
            assert handle.outcome is not None and one.id == 7
            wire.body = b""
            later = kind(id=7).save()
            assert later.outcome is Outcome.SAVED

        search()


def test_attributes_in_depth(campaign: Campaign) -> None:
    """Whatever JSON-like value an attribute holds, it is sent as that, or the save says that it is not."""
    with Dispatcher("inline") as dispatcher:
        wire, backend = wired(guarantee=Guarantee.IDEMPOTENT)
        for model in MODELS:
            model.bind(
                backend, resource="baskets", identity_by="server", dispatcher=dispatcher, retry=RetryPolicy(attempts=1)
            )

        @examples(campaign)
        @given(FINITE, st.sampled_from(MODELS))
        def search(value: Any, kind: Any) -> None:
            wire.sent.clear()
            wire.body = b""
            handle = kind(id=7, extra=value).save()
            if handle.outcome is Outcome.SAVED:
                assert json.loads(wire.sent[0].body or b"")["extra"] == value
            else:
                assert not wire.sent and isinstance(handle.exception(0), BackendError)

        search()


# The checker is part of the product


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/api/baskets/../admin",
        "http://shop.example/api/baskets/%2e%2e/admin",
        "http://shop.example/api/baskets/%252e%252e/admin",
        "http://shop.example/api/baskets/..%5cadmin",
        "http://shop.example/api/baskets/a%2f..%2f..%2fadmin",
        "http://shop.example/api/basketsandmore/7",
        "http://evil.example/api/baskets/7",
        "https://shop.example/api/baskets/7",
        "http://shop.example:81/api/baskets/7",
        "http://shop.example/api/baskets/7?a=1",
        "http://shop.example/api/baskets/7#a",
        "http://shop.example/api/baskets/a b",
        "http://shop.example/api/baskets/é",
        "http://shop.example/api/baskets/a%00",
    ],
)
def test_an_escape_is_noticed(url: str) -> None:
    """The one who looks for escapes knows them."""
    with pytest.raises(AssertionError):
        stays(BASES[0], "baskets", url)


@pytest.mark.parametrize(
    "headers", [{"X": "a\r\nY: b"}, {"X": "a\nb"}, {"X": "\x00"}, {"X: a": "b"}, {"": "b"}, {"X\r\nY": "b"}]
)
def test_a_header_in_a_header_is_noticed(headers: dict[str, str]) -> None:
    """And so does the one who looks at headers."""
    with pytest.raises(AssertionError):
        one_line_each(headers)
