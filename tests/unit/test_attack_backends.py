"""Found by attacking what was built for speed around the backends; each of these fails."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

import aiohttp
import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from chained_models.adapters.pydantic import ADAPTER
from chained_models.backends.aiohttp import AiohttpBackend
from chained_models.backends.rest import RestBackend
from chained_models.exceptions import BackendError, InDoubt, MaskedSecret, Rejected
from chained_models.operation import Answer, Method

from ..answering_server import AnsweringServer
from ..rest_operations import operation

CANARY = "canary-4711"


# Snapshots


class Part(BaseModel):
    number: int = 0


class Two(NamedTuple):
    one: Part
    other: Part


class Opaque:
    """No container and no model that an adapter knows."""

    def __init__(self, part: Part) -> None:
        self.part = part


class Whole(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    first: Any = None
    second: Any = None


class Pair(BaseModel):
    pair: Two
    last: Part


def test_an_object_of_another_kind_keeps_the_models_it_holds() -> None:
    """It is deep-copied: a model inside of it is a model in the copy, also if a field holds the same one."""
    part = Part(number=1)
    snapshot = ADAPTER.snapshot(Whole(first=part, second=Opaque(part)))
    assert type(snapshot["second"].part) is Part


def test_a_nested_model_becomes_plain_wherever_else_it_is() -> None:
    """Also if it was met before inside of an object that is deep-copied."""
    part = Part(number=1)
    snapshot = ADAPTER.snapshot(Whole(first=Opaque(part), second=part))
    assert snapshot["second"] == ADAPTER.snapshot(Whole(first=Opaque(Part(number=1)), second=part))["second"]


def test_an_invalid_nested_model_is_refused_although_a_tuple_has_it_too() -> None:
    """A snapshot is taken of a valid model only, whatever else refers to the part that is not."""
    part = Part(number=1)
    model = Pair(pair=Two(part, Part()), last=part)
    part.number = "none"  # type: ignore[assignment]
    with pytest.raises(ValidationError):
        ADAPTER.snapshot(model)


def test_an_invalid_model_in_a_named_tuple_is_refused() -> None:
    """As in any other tuple."""
    model = Pair(pair=Two(Part(), Part()), last=Part())
    model.pair.one.number = "none"  # type: ignore[assignment]
    with pytest.raises(ValidationError):
        ADAPTER.snapshot(model)


class Credentials(NamedTuple):
    name: str
    password: SecretStr


class Account(BaseModel):
    credentials: Credentials


def test_a_secret_in_a_named_tuple_is_not_written_as_asterisks() -> None:
    """The stored secret would be lost; in any other tuple it is refused."""
    with pytest.raises(MaskedSecret):
        ADAPTER.snapshot(Account(credentials=Credentials("me", SecretStr("opensesame"))))


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")
    number: int = 0


class Many(BaseModel):
    members: set[Frozen]


def test_sets_of_equal_models_have_equal_snapshots() -> None:
    """The order in which extra fields were given makes no difference to the models, nor to their plain values."""
    one, other = Many(members={Frozen(a=1, b=2)}), Many(members={Frozen(b=2, a=1)})  # type: ignore[call-arg]
    assert one == other
    assert ADAPTER.snapshot(one) == ADAPTER.snapshot(other)


# REST


def _texts_in_frames(traceback: TracebackType | None) -> Iterator[str]:
    while traceback is not None:
        if (
            "chained_models" in traceback.tb_frame.f_code.co_filename
            and "test" not in traceback.tb_frame.f_code.co_name
        ):
            for value in traceback.tb_frame.f_locals.values():
                if isinstance(value, (str, dict)):
                    yield repr(value)
        traceback = traceback.tb_next


async def _carry_out(backend: AiohttpBackend) -> Answer:
    one = operation(Method.CREATE)
    one.payload = backend.encode(one)
    return await backend.execute(one)


def _by_requests(url: str, **options: Any) -> Answer:
    backend = RestBackend(url, **options)
    try:
        return backend.execute(operation(Method.CREATE))
    finally:
        backend.close()


def _by_aiohttp(url: str, **options: Any) -> Answer:
    return asyncio.run(_carry_out(AiohttpBackend(url, **options)))


@pytest.mark.parametrize("send", [_by_requests, _by_aiohttp])
def test_an_error_that_is_kept_does_not_lead_to_the_token(send: Callable[..., Answer]) -> None:
    """Errors are kept with the handles of failed saves, and reported with the local variables of each frame."""
    with AnsweringServer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as server:
        with pytest.raises(Rejected) as caught:
            send(f"http://127.0.0.1:{server.port}/api", auth=lambda: CANARY)
    assert not [text for text in _texts_in_frames(caught.value.__traceback__) if CANARY in text]


def test_a_session_of_the_users_that_is_closed_leaves_no_doubt() -> None:
    """Nothing is sent by it: a create must not be abandoned, and its chain halted, as if it might have been applied."""

    async def main() -> None:
        session = aiohttp.ClientSession()
        await session.close()
        with pytest.raises(BackendError) as caught:
            await _carry_out(AiohttpBackend("http://127.0.0.1:9/api", session=session))
        assert not isinstance(caught.value, InDoubt)

    asyncio.run(main())


@pytest.mark.parametrize("behind", [bytes(8), b"padding"])
@pytest.mark.parametrize("send", [_by_requests, _by_aiohttp])
def test_what_stands_behind_a_gzip_member_is_ignored(send: Callable[..., Answer], behind: bytes) -> None:
    """As by gzip itself and by all clients: a create that was carried out must not be in doubt with one of two backends."""
    body = gzip.compress(b'{"id": 5}') + behind
    head = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    with AnsweringServer(head % len(body) + body) as server:
        answer = send(f"http://127.0.0.1:{server.port}/api")
    assert answer.values == {"id": 5}


@pytest.mark.parametrize("send", [_by_requests, _by_aiohttp])
def test_a_pair_that_cannot_be_a_header_is_rejected(send: Callable[..., Answer]) -> None:
    """It will be no other one at the next attempt, by whichever backend."""
    with pytest.raises(Rejected):
        send("http://127.0.0.1:9/api", auth=("name", "\N{SNOWMAN}"))
