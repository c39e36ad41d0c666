"""No identity leaves its place in the URL."""

from __future__ import annotations

import enum
import uuid
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chained_models.backends import _transport
from chained_models.backends._url import Route, UnsendableIdentity, checked_base_url, last_segment, named_host, segment
from chained_models.exceptions import InvalidIdentity, InvalidOption, MissingIdentity, Rejected

BASE = "https://shop.example/api"


class Colour(str, enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 3


SENT = [
    (7, "7"),
    (-1, "-1"),
    (2**80, str(2**80)),
    ("apple", "apple"),
    ("a b", "a%20b"),
    ("a/b", "a%2Fb"),
    ("a\\b", "a%5Cb"),
    ("a?x=1", "a%3Fx%3D1"),
    ("a#f", "a%23f"),
    ("a;v=1", "a%3Bv%3D1"),
    ("a%20b", "a%2520b"),
    ("%41", "%2541"),
    ("100%", "100%25"),
    ("a:b@c", "a%3Ab%40c"),
    ("...", "..."),
    (".htaccess", ".htaccess"),
    ("a..b", "a..b"),
    ("~user", "~user"),
    ("é", "%C3%A9"),
    ("e\u0301", "e%CC%81"),
    ("\uff0e\uff0e", "%EF%BC%8E%EF%BC%8E"),
    ("👩\u200d👩", "%F0%9F%91%A9%E2%80%8D%F0%9F%91%A9"),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (Colour.RED, "red"),
    (Size.SMALL, "3"),
]
REFUSED: list[Any] = [
    "",
    " ",
    "\u3000",
    ".",
    "..",
    " .. ",
    "%2e",
    "%2e%2e",
    "%2E%2e",
    ".%2e",
    "%20",
    "../admin",
    "..\\admin",
    "a/../b",
    "a/..",
    "./a",
    "%2e%2e/admin",
    "%2e%2e%2fadmin",
    "..%5cadmin",
    "\x00",
    "a\x00b",
    "a%00b",
    "a\nb",
    "a%0d%0ab",
    "a\tb",
    "a\x7fb",
    "a\x85b",
    "a\u2028b",
    "a\u202eb",
    "a\u200fb",
    "a\u2066b",
    "a%E2%80%AEb",
    "\ud800",
    "a\udfff",
    10**5000,
    True,
    False,
    None,
    1.0,
    b"7",
    [7],
    (7,),
    object(),
]


@pytest.mark.parametrize(("value", "text"), SENT)
def test_an_identity_is_one_encoded_segment(value: Any, text: str) -> None:
    """Everything but unreserved characters is percent-encoded, also slashes and percent signs."""
    assert segment(value) == text


@pytest.mark.parametrize("value", REFUSED, ids=range(len(REFUSED)))
def test_an_identity_that_could_name_another_place_is_refused(value: Any) -> None:
    """Empty and dot segments (also behind one decoding), control characters and foreign types never become a URL."""
    with pytest.raises(InvalidIdentity) as caught:
        segment(value)
    assert isinstance(caught.value, Rejected)
    assert str(caught.value).isprintable()


NASTY = st.text(alphabet=st.sampled_from("./\\%25eEfF#?;a \x00\n\u202e\ud800é\uff0e"), max_size=12)


@settings(max_examples=500, deadline=None)
@given(NASTY | st.text(max_size=20))
def test_whatever_the_identity_the_url_stays_where_it_belongs(identity: str) -> None:
    """Of any text, either there is no URL, or requests sends exactly one more segment, which reads as that text."""
    try:
        path = Route.of("baskets").item(("id",), identity, {})
    except UnsendableIdentity:
        return
    url = _transport.as_sent(BASE, path)
    prefix, _, last = url.rpartition("/")
    assert prefix == f"{BASE}/baskets"
    assert unquote(last) == identity


def test_a_url_that_requests_would_rewrite_is_not_sent() -> None:
    """The last line of defence: a path that is normalised on its way out is refused."""
    for path in ("../admin", "baskets/../admin", "baskets/%2e%2e", "baskets/a b", "baskets/7#x"):
        with pytest.raises(Rejected):
            _transport.as_sent(BASE, path)


def test_the_last_segment_of_a_composite_identity_is_the_field_that_the_route_leaves_out() -> None:
    """Parts of the identity come from the identity, in its order; other fields from the values."""
    route = Route.of("orders/{order_id}/lines")
    names = ("order_id", "number")
    assert route.item(names, (3, "a/b"), {"order_id": 9, "number": 1}) == "orders/3/lines/a%2Fb"
    assert Route.of("x/{number}").item(names, (3, 4), {}) == "x/4/3"
    assert route.collection(names, None, {"order_id": 9}) == "orders/9/lines"
    assert Route.of("shops/{shop}/baskets").item(("id",), 7, {"shop": "a b"}) == "shops/a%20b/baskets/7"


def test_slashes_around_a_resource() -> None:
    """A slash in front means nothing; one at the end is what the server wants behind every URL."""
    assert Route.of("/baskets").item(("id",), 7, {}) == "baskets/7"
    assert Route.of("baskets/").item(("id",), 7, {}) == "baskets/7/"
    assert Route.of("baskets/").collection(("id",), None, {}) == "baskets/"
    assert Route.of("v1:all/a@b").collection(("id",), None, {}) == "v1:all/a@b"


def test_an_identity_that_is_missing_or_incomplete() -> None:
    """Without an identity there is nothing to send; with a wrong number of parts, or an empty part, neither."""
    route, names = Route.of("orders/{order_id}/lines"), ("order_id", "number")
    with pytest.raises(MissingIdentity):
        route.item(names, None, {"order_id": 1, "number": 2})
    for identity in (7, (7,), (1, 2, 3), (None, 2), (1, None), ("..", 2)):
        with pytest.raises(UnsendableIdentity):
            route.item(names, identity, {})
    with pytest.raises(UnsendableIdentity):
        route.collection(names, None, {})


@pytest.mark.parametrize(
    "resource",
    [
        "",
        "/",
        None,
        "a//b",
        "..",
        "../a",
        "a/./b",
        "a?b",
        "a#b",
        "a b",
        "a%2fb",
        "a\\b",
        "a\nb",
        "{id",
        "id}",
        "x{id}",
        "{a}{b}",
        "{a}/{a}",
        "//evil.example/a",
    ],
)
def test_a_resource_that_is_no_path_of_plain_segments_is_refused(resource: Any) -> None:
    """At bind, not at the first save."""
    with pytest.raises(InvalidOption):
        Route.of(resource)


@pytest.mark.parametrize(
    ("resource", "identity"),
    [
        ("baskets/{id}", ("id",)),
        ("baskets/{typo}", ("id",)),
        ("baskets/{}", ("id",)),
        ("lines", ("order_id", "number")),
        ("orders/{order_id}/lines/{number}", ("order_id", "number")),
        ("orders/{count}/lines", ("order_id", "number")),
    ],
)
def test_a_route_that_can_never_lead_to_an_object_is_refused(resource: str, identity: tuple[str, ...]) -> None:
    """All fields of the identity but one must be in the route, and nothing that is not a field."""
    with pytest.raises(InvalidOption, match="resource="):
        Route.of(resource).check(identity, ("id", "order_id", "number", "count"))


def test_a_route_that_leads_to_every_object_is_accepted() -> None:
    """One field left out, which is the last segment; further fields are welcome."""
    declared = ("id", "order_id", "number", "shop")
    Route.of("baskets").check(("id",), declared)
    Route.of("shops/{shop}/baskets").check(("id",), declared)
    Route.of("orders/{order_id}/lines").check(("order_id", "number"), declared)


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "shop.example",
        "ftp://shop.example",
        "file:///etc/passwd",
        "http:shop.example",
        "http://",
        "http:///api",
        "https://user:secret@shop.example",
        "https://secret@shop.example",
        "https://shop.example?secret",
        "https://shop.example/#secret",
        "https://shop.example/a b",
        "https://shop.example\\evil.example",
        "https://shop.example/\r\nsecret",
        "https://shop.example:0",
        "https://shop.example:99999",
        "https://shop.example:secret",
        "https://[::1",
        "https://shop.example/a/../b",
        "https://shop.example/%2e%2e",
        "https://shop.example/a//b",
        "https://bücher.example",
        None,
        b"https://shop.example",
    ],
)
def test_a_base_url_with_anything_but_a_place_is_refused(base_url: Any) -> None:
    """Only http and https, a host, a port, a path; and the message repeats nothing of it."""
    with pytest.raises(InvalidOption) as caught:
        checked_base_url(base_url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("base_url", "checked"),
    [
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example/", "https://shop.example"),
        ("http://127.0.0.1:8080/api/v1/", "http://127.0.0.1:8080/api/v1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://xn--bcher-kva.example/a%20b", "https://xn--bcher-kva.example/a%20b"),
    ],
)
def test_a_plain_base_url_loses_only_its_last_slash(base_url: str, checked: str) -> None:
    """It is otherwise kept as it was given."""
    assert checked_base_url(base_url) == checked


@pytest.mark.parametrize(
    ("location", "identity"),
    [
        ("/baskets/7", "7"),
        ("baskets/7/", "7"),
        ("7", "7"),
        ("https://shop.example/baskets/a%2Fb?x=1#y", "a/b"),
        ("/baskets/%C3%A9", "é"),
        ("/baskets/..", None),
        ("/baskets/%2e%2e", None),
        ("/baskets/%252e%252e", None),
        ("/baskets/%00", None),
        ("/baskets/%ff", None),
        ("/", None),
        ("", None),
        ("https://shop.example", None),
        ("https://[broken/7", None),
    ],
)
def test_the_identity_that_a_location_names(location: str, identity: str | None) -> None:
    """The last segment, decoded once; None if it could not be sent back."""
    assert last_segment(location) == identity


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://user:secret@evil.example/secret?secret", "the host evil.example"),
        ("/login?secret", "another place"),
        (None, "another place"),
        ("https://[broken/", "another place"),
        ("https://a\x1b[31m.example/", "another place"),
        ("https://bücher.example/", "another place"),
    ],
)
def test_of_a_redirect_only_a_plain_host_is_shown(location: str | None, shown: str) -> None:
    """Everything else of a Location may be a secret, or forge a line of a log."""
    assert named_host(location) == shown
