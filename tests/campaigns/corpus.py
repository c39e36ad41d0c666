"""Nasty values: each has broken somebody's program once. And how more of their kind are made of them."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import pathlib
import re
import threading
import types
import uuid
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple
from urllib.parse import quote

PIECES = [
    "", "a", "7", "é", "ß", "ñ", "日本", "👩\u200d👩", "e\u0301", ".", "..", "...", "/", "//", "\\", "~", "%", "%%", "%2", "%2e", "%2E",
    "%2e%2e", "%2f", "%2F", "%5c", "%25", "%252e", "%25252e", "%00", "%0d%0a", "%0a", "%20", "%09", "%7f", "%c0%ae", "%u002e",
    "%e2%80%ae", "%ff", "?", "#", ";", ";jsessionid=1", "..;", "@", ":", "&", "=", "+", "*", "!", "$", "'", '"', "`", "|", "^", "<", ">",
    "[", "]", "{", "}", "{id}", "(", ")", ",", " ", "  ", "\t", "\n", "\r", "\r\n", "\x00", "\x01", "\x1b[2J", "\x7f", "\x85", "\xa0", "\xad",
    "\u061c", "\u200b", "\u200e", "\u2028", "\u2029", "\u202e", "\u2066", "\u3000", "\ufeff", "\uff0e", "\uff0f", "\u2024", "\u2025",
    "\u2044", "\u2215", "\ufe52", "\ud800", "\udfff", "\U0010ffff", "http:", "https://", "//evil.example", "evil.example", "@evil.example",
    "localhost", "127.0.0.1", "[::1]", "admin", "etc/passwd", "..\\..\\", "../../", "X-Evil: yes", "\r\nX-Evil: yes", "chunked",
    "W/", '"1"', "Bearer x", "NaN", "None", "null", "true", "0", "-1", "1e999", "0x10", "١٢", "A" * 300,
]  # fmt: skip
"""What texts are put together of."""

TEXTS = [
    "", " ", ".", "..", "../", "../admin", "..\\admin", "./a", "a/..", "a/../b", "/", "//", "///etc", "//evil.example/a", "\\\\evil\\a",
    "%2e", "%2e%2e", "%2E%2e/", "%2e%2e%2f", "%252e%252e%252f", "..%2f", "..%5c", "..%00", "%00", "a%00.json", "..;/", ".%00.", "。。", "\uff0e\uff0e",
    "\uff0e\uff0e\uff0f", "‥", "a?x=1", "a#f", "a;v=1", "?", "#", "a b", "a\tb", "a\nb", "a\r\nb", "a\x00b", "\x00", "\x1b[31m", "a\x7f", "\x85",
    "\u2028", "\u202ea", "a\u200f", "\ud800", "a\udfffb", "\ud83d\ude00", "\ufeff", "\ufffe", "\uffff", "Å", "A\u030a", "ﬁ", "İ", "\u0131", "ẞ",
    "http://evil.example/", "https:evil", "javascript:alert(1)", "file:///etc/passwd", "user:pw@evil.example", "{id}", "{0}", "%s", "%(a)s",
    "${a}", "$(id)", "`id`", "';--", "<b>", "&amp;", "CON", "NUL", "aux.txt", ".htaccess", "~root", "-rf", "--help", "*", "a" * 5000,
    "é" * 3000, "%41" * 999, "../" * 400, "/" * 999, "." * 999, "True", "None", "null", "undefined", "NaN", "Infinity", "1e309", "-0", "007",
    "1_000", "٣", "²", "0x1F", "12345678901234567890", "9" * 4999, "1.0", "+1",
]  # fmt: skip
"""Texts as they are."""


def text(dice: Random) -> str:
    """Any text, most of it nasty."""
    kind = dice.random()
    if kind < 0.25:
        return dice.choice(TEXTS)
    if kind < 0.75:
        return "".join(dice.choices(PIECES, k=dice.randrange(1, 7)))
    if kind < 0.85:
        return "".join(
            chr(dice.choice((dice.randrange(256), dice.randrange(0x3000), dice.randrange(0x110000))))
            for _ in range(dice.randrange(20))
        )
    once = quote(text(dice), safe="", errors="surrogatepass")
    return once if dice.random() < 0.5 else once.lower()


class Colour(str, enum.Enum):
    RED = "red"
    UP = ".."


class Size(enum.IntEnum):
    SMALL = 3


class Words(str):
    """A text that says something else when asked."""

    __slots__ = ()

    def __str__(self) -> str:
        return "../evil"

    def __format__(self, spec: str) -> str:
        return "../evil"


class Count(int):
    """A number that says something else when asked."""

    def __repr__(self) -> str:
        return "../evil"

    __str__ = __repr__


def identity(dice: Random) -> Any:
    """Anything that somebody may take for an identity."""
    kind = dice.random()
    if kind < 0.7:
        return text(dice)
    return dice.choice(IDENTITIES)(dice)


IDENTITIES: list[Callable[[Random], Any]] = [
    lambda dice: None,
    lambda dice: dice.random() < 0.5,
    lambda dice: dice.randrange(-(10**6), 10**6),
    lambda dice: dice.choice((0, -1, 2**31, 2**63, -(2**63), 10**30, 10**4300, -(10**5000))),
    lambda dice: dice.choice((0.0, -0.0, 1.5, 1e300, math.nan, math.inf, -math.inf)),
    lambda dice: text(dice).encode("utf-8", "surrogatepass"),
    lambda dice: bytearray(b"../"),
    lambda dice: (text(dice), dice.randrange(9)),
    lambda dice: (),
    lambda dice: [text(dice)],
    lambda dice: {text(dice): 1},
    lambda dice: frozenset({text(dice)}),
    lambda dice: uuid.UUID(int=dice.getrandbits(128)),
    lambda dice: decimal.Decimal(dice.choice(("1", "NaN", "sNaN", "1E+9999", "-0"))),
    lambda dice: fractions.Fraction(1, 3),
    lambda dice: datetime.datetime(2024, 1, 1),
    lambda dice: dice.choice((Colour.RED, Colour.UP, Size.SMALL)),
    lambda dice: Words(text(dice)),
    lambda dice: Count(7),
    lambda dice: complex(1, 2),
    lambda dice: object(),
    lambda dice: Ellipsis,
    lambda dice: Words,
    lambda dice: pathlib.PurePosixPath("../../etc"),
    lambda dice: Hostile("__str__", "__repr__", "__hash__", "__eq__"),
]


def retry_after(dice: Random) -> str:
    """What a server may say of when to come back."""
    when = datetime.datetime.fromtimestamp(
        dice.choice((0, 1_700_000_000, 4_000_000_000, dice.randrange(2**33))), datetime.UTC
    )
    forms: list[Callable[[], str]] = [
        lambda: text(dice),
        lambda: str(dice.randrange(-10, 10 ** dice.randrange(1, 30))),
        lambda: "0" * dice.randrange(9) + "9" * dice.randrange(400),
        lambda: dice.choice(
            (
                "1.5",
                "1e3",
                "+5",
                " 5 ",
                "5;",
                "5, 6",
                "\u0665",
                "\uff15",
                "5\x00",
                "\t5",
                "1_0",
                "0x5",
                "NaN",
                "inf",
                "-0",
                "5 s",
                "",
            )
        ),
        lambda: when.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        lambda: when.strftime("%A, %d-%b-%y %H:%M:%S GMT"),
        lambda: when.strftime("%a %b %d %H:%M:%S %Y"),
        lambda: when.strftime("%a, %d %b %Y %H:%M:%S +0100"),
        lambda: when.strftime("%a, %d %b 9999 23:59:59 GMT"),
        lambda: when.strftime("%a, 31 Feb %Y %H:%M:60 GMT"),
        lambda: when.strftime("%a, 00 %b 0000 99:99:99 GMT"),
        lambda: when.isoformat(),
        lambda: when.strftime("%a, %d %b %Y %H:%M:%S GMT")[: dice.randrange(30)] + text(dice),
    ]
    return dice.choice(forms)()


def json_value(dice: Random, depth: int = 0) -> Any:
    """Any JSON value, and a little more than that."""
    kind = dice.randrange(12 if depth < 5 else 9)
    match kind:
        case 0:
            return None
        case 1:
            return dice.random() < 0.5
        case 2:
            return dice.choice((0, 1, -1, 2**53 + 1, 2**64, 10**400, dice.randrange(100)))
        case 3:
            return dice.choice((0.0, -0.0, 0.1, 1e308, 5e-324, math.nan, math.inf, -math.inf))
        case 4 | 5 | 6:
            return text(dice)
        case 7:
            return dice.choice(([], {}, "", [[]], {"": ""}))
        case 8:
            return dice.choice(("2024-01-01T00:00:00Z", "P1D", "1.50", "true", "AAAA"))
        case 9:
            return [json_value(dice, depth + 1) for _ in range(dice.randrange(4))]
        case _:
            return {name(dice): json_value(dice, depth + 1) for _ in range(dice.randrange(5))}


NAMES = ("id", "label", "tags", "weight", "extra", "nested", "when", "__class__", "__dict__", "self", "Id", "labelName")


def name(dice: Random) -> str:
    """A name in an object."""
    return dice.choice(NAMES) if dice.random() < 0.8 else text(dice)


def body(dice: Random) -> bytes:
    """What a server may answer."""
    kind = dice.random()
    if kind < 0.15:
        return dice.choice(BODIES)
    written = json.dumps(
        json_value(dice) if kind < 0.3 else {name(dice): json_value(dice, 1) for _ in range(dice.randrange(7))},
        ensure_ascii=dice.random() < 0.5,
    )
    raw = written.encode(dice.choice(("utf-8", "utf-8", "utf-8", "utf-16", "utf-32", "utf-8-sig")), "surrogatepass")
    if kind > 0.8:
        at = dice.randrange(len(raw) + 1)
        raw = dice.choice(
            (raw[:at], raw[at:], raw[:at] + bytes([dice.randrange(256)]) + raw[at:], raw + raw, raw[:at] + raw)
        )
    return raw


BODIES = [
    b"", b" ", b"\n", b"null", b"true", b"0", b'""', b"[]", b"{}", b"[[]]", b"{", b"}", b"{}{}", b"{'a': 1}", b"NaN", b"Infinity", b'{"id": NaN}',
    b'{"weight": 1e999}', b'{"weight": -1e999}', b'{"id": ' + b"9" * 5000 + b"}", b'{"id": 1, "id": 2}', b'{"id": 1, "id": null}', b'{"": 1}',
    b'{"id": "\\ud800"}', b'{"label": "\\udc00\\ud800"}', b'{"label": "\\u0000"}', b'{"label": "\xff"}', b'{"label": "\x00"}', b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}", b"[" * 100_000, b"[" * 99 + b"]" * 99, b"[" * 101 + b"]" * 101, b'{"a":' * 5000, b'{"extra": ' + b"[" * 98 + b"]" * 98 + b"}",
    b"<html></html>", b"OK", b"\x00" * 100, b"\x1f\x8b\x08\x00", b'{"__class__": "os.system", "__reduce__": [1]}', b'{"label": {"$ref": "#"}}',
    b"[" + b"{}," * 20_000 + b"{}]", b'{"extra": ' + b"[{}," * 99 + b"1" + b"]" * 99 + b"}", b'"' + b"a" * 100_000 + b'"', b'{"tags": [1, null, {}]}',
]  # fmt: skip


class Hostile:
    """Raises wherever it is told to."""

    def __init__(self, *where: str) -> None:
        self.__dict__["where"] = where

    def _ask(self, what: str) -> None:
        if what in self.__dict__.get("where", ()):
            raise Spite(what)

    def __eq__(self, other: object) -> bool:
        self._ask("__eq__")
        return self is other

    def __hash__(self) -> int:
        self._ask("__hash__")
        return 1

    def __repr__(self) -> str:
        self._ask("__repr__")
        return "hostile"

    def __str__(self) -> str:
        self._ask("__str__")
        return "hostile"

    def __bool__(self) -> bool:
        self._ask("__bool__")
        return True

    def __len__(self) -> int:
        self._ask("__len__")
        return 0

    def __iter__(self) -> Any:
        self._ask("__iter__")
        return iter(())

    def __deepcopy__(self, memo: Any) -> Any:
        self._ask("__deepcopy__")
        return Hostile(*self.__dict__.get("where", ()))

    def __reduce__(self) -> Any:
        self._ask("__reduce__")
        return Hostile, ()

    def __getattr__(self, name: str) -> Any:
        if "__getattr__" in self.__dict__.get("where", ()):
            raise Spite(name)
        raise AttributeError(name)


class Spite(Exception):
    """What a hostile object raises."""

    def __str__(self) -> str:
        raise ValueError("not even this")


class Vague:
    """Equal to nothing in particular."""

    def __eq__(self, other: object) -> Any:
        return Vague()

    def __bool__(self) -> bool:
        raise Spite("neither true nor false")

    __hash__ = object.__hash__


HOSTILE = (
    "__eq__", "__hash__", "__repr__", "__str__", "__bool__", "__len__", "__iter__", "__deepcopy__", "__reduce__", "__getattr__",
)  # fmt: skip


class Pair(NamedTuple):
    """Two values."""

    a: int
    b: int


@dataclasses.dataclass
class Inner:
    """A nested model."""

    value: Any = None


def _cycle(dice: Random) -> Any:
    ring: list[Any] = []
    ring.append(
        dice.choice((ring, {"a": ring}, (ring,), [ring, ring], Inner(ring), types.MappingProxyType({"a": ring})))
    )
    return ring


def _deep(dice: Random) -> Any:
    value: Any = 1
    kind = dice.randrange(4)
    for _ in range(dice.choice((50, 300, 3000, 50_000))):
        value = ([value], {"a": value}, (value,), Inner(value))[kind]
    return value


def _generator() -> Any:
    yield 1


VALUES: list[Callable[[Random], Any]] = [
    text,
    json_value,
    identity,
    _cycle,
    _deep,
    lambda dice: Hostile(*dice.sample(HOSTILE, dice.randrange(1, 4))),
    lambda dice: [Hostile(*dice.sample(HOSTILE, 2))],
    lambda dice: {text(dice): Hostile(dice.choice(HOSTILE))},
    lambda dice: Inner(Hostile(dice.choice(HOSTILE))),
    lambda dice: Vague(),
    lambda dice: [Vague()],
    lambda dice: {1, "a", None, 2.5},
    lambda dice: frozenset({(1, 2), frozenset()}),
    lambda dice: {(1, 2): "a", None: "b", 3: "c", True: "d"},
    lambda dice: {Inner: Inner()},
    lambda dice: _generator(),
    lambda dice: iter([1]),
    lambda dice: map(str, [1]),
    lambda dice: (item for item in ()),
    lambda dice: lambda: None,
    lambda dice: threading.Lock(),
    lambda dice: threading.current_thread(),
    lambda dice: threading.local(),
    lambda dice: dice,
    lambda dice: types,
    lambda dice: Inner,
    lambda dice: Inner(Inner(json_value(dice))),
    lambda dice: b"\xff\x00" * 9,
    lambda dice: bytearray(b"abc"),
    lambda dice: memoryview(b"abc"),
    lambda dice: decimal.Decimal(dice.choice(("0", "-0", "1.10", "NaN", "sNaN", "Infinity", "1E+999999", "1E-999999"))),
    lambda dice: fractions.Fraction(1, 3),
    lambda dice: complex(math.nan, math.inf),
    lambda dice: dice.choice(
        (datetime.datetime.min, datetime.datetime.max, datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))
    ),
    lambda dice: dice.choice(
        (datetime.date.min, datetime.time.max, datetime.timedelta.min, datetime.timedelta(microseconds=1))
    ),
    lambda dice: uuid.UUID(int=dice.getrandbits(128)),
    lambda dice: pathlib.Path("/tmp/..") if dice.random() < 0.5 else pathlib.PureWindowsPath("C:\\"),
    lambda dice: re.compile("a+") if dice.random() < 0.5 else re.match("a", "a"),
    lambda dice: dice.choice((Colour.UP, Size.SMALL, Colour, enum.auto())),
    lambda dice: Words("a"),
    lambda dice: Count(3),
    lambda dice: collections.OrderedDict(a=1),
    lambda dice: collections.defaultdict(list, {"a": [1]}),
    lambda dice: collections.Counter("aab"),
    lambda dice: collections.deque([1, 2], maxlen=2),
    lambda dice: collections.ChainMap({"a": 1}),
    lambda dice: collections.UserDict({"a": 1}),
    lambda dice: Pair(1, 2),
    lambda dice: types.SimpleNamespace(a=1),
    lambda dice: types.MappingProxyType({"a": [1]}),
    lambda dice: range(3),
    lambda dice: slice(1, 2),
    lambda dice: ValueError("a value"),
    lambda dice: NotImplemented,
    lambda dice: [math.nan],
    lambda dice: 10**5000,
    lambda dice: "\ud800",
    lambda dice: ["\udfff", {"\ud800": "\ud800"}],
]


def value(dice: Random) -> Any:
    """Anything that an attribute may hold."""
    return dice.choice(VALUES)(dice)
