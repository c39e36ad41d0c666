"""A server that gives one answer to everything, byte for byte, however little it is one."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any, Self

CERTIFICATE = Path(__file__).parent / "localhost.pem"
"""Key and certificate of localhost, by which nothing is protected; nobody vouches for it."""


class AnsweringServer:
    """Answers each request, however it is, by the same bytes, and hangs up.

    Attributes:
        received: The requests, as they came, one for each connection.
    """

    def __init__(self, answer: bytes, *, step: int = 1 << 20, context: ssl.SSLContext | None = None) -> None:
        self.received: list[bytes] = []
        self._answer, self._step, self._context = answer, step, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            guest: Any = self._listener.accept()[0]
            try:
                if self._context is not None:
                    guest = self._context.wrap_socket(guest, server_side=True)
                if not self._one(guest):
                    return
            except OSError:
                pass
            finally:
                guest.close()

    def _one(self, guest: Any) -> bool:
        data = guest.recv(1 << 16)
        if data == b"end":
            return False
        if not data:
            return True
        head, _, body = data.partition(b"\r\n\r\n")
        wanted = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        while len(body) < wanted:
            body += guest.recv(1 << 16)
        self.received.append(head + b"\r\n\r\n" + body)
        guest.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin in range(0, len(self._answer), self._step):
            guest.sendall(self._answer[begin : begin + self._step])
        return True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._context = None
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            last.sendall(b"end")
            self._thread.join()
        self._listener.close()
