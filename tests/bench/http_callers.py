"""Callers over HTTP/1.1, one connection each. Of an answer they read the status and the length, and no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from tests.bench import workload
from tests.bench.callers import Calls, Target

_HEAD = (
    "POST /v1/participants HTTP/1.1\r\nhost: {address}\r\nx-api-key: {key}\r\n"
    "content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
)
_LENGTH = b"\r\ncontent-length:"
# Too many, or its deadline passed before its turn.
_REFUSED = (b"429", b"504")


@asynccontextmanager
async def calling(target: Target, calls: Calls) -> AsyncIterator[None]:
    """Has callers call while it is open; leaving it waits for their last answers."""
    loop = asyncio.get_running_loop()
    host, _, port = target.address.rpartition(":")
    callers = [
        (await loop.create_connection(lambda: _Caller(target, calls), host, int(port)))[1]
        for _ in range(target.callers)
    ]
    yield
    await asyncio.gather(*(caller.closed for caller in callers))


class _Caller(asyncio.Protocol):
    """One connection, on which the next request follows each answer."""

    def __init__(self, target: Target, calls: Calls) -> None:
        length = len(workload.json(0))
        self._head = _HEAD.format(address=target.address, key=target.key, length=length).encode()
        self._target = target
        self._calls = calls
        self._received = b""
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or len(self._received) < end + 4 + self._length(self._received[: end + 2]):
            return
        if self._received[9:11] == b"20":
            self._calls.latencies.append(time.perf_counter() - self._started)
        elif self._target.may_be_refused and self._received[9:12] in _REFUSED:
            self._calls.refused += 1
        else:
            self._calls.fail(RuntimeError(self._received[:500].decode("latin-1")))
        self._received = b""
        if self._calls.stopped:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._calls.stopped:
            self._calls.fail(ConnectionError("the server closed the connection"))
        self.closed.set_result(None)

    def _send(self) -> None:
        body = workload.json(next(self._calls.numbers), self._target.participants)
        self._started = time.perf_counter()
        self._transport.write(self._head + body)

    @staticmethod
    def _length(head: bytes) -> int:
        start = head.lower().index(_LENGTH) + len(_LENGTH)
        return int(head[start : head.index(b"\r", start)])
