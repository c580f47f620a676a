"""Callers over gRPC. Requests are made as bytes, and of a response they read that it came whole and how long it is."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from tests.bench import http2, workload
from tests.bench.callers import Calls, Target
from tests.bench.http2 import END_HEADERS, END_STREAM, FrameReader, Type, frame

PATH = "/participants.v1.ParticipantService/CreateParticipant"
CALLERS_PER_CONNECTION = 8
# An answer with a filled participant is longer; an error has no message at all.
MIN_RESPONSE_BYTES = 200


@asynccontextmanager
async def calling(target: Target, calls: Calls) -> AsyncIterator[None]:
    """Has callers call while it is open; leaving it waits for their last answers."""
    loop = asyncio.get_running_loop()
    host, _, port = target.address.rpartition(":")
    connections = []
    for first in range(0, target.callers, CALLERS_PER_CONNECTION):
        connection = _Connection(target, calls, min(CALLERS_PER_CONNECTION, target.callers - first))
        await loop.create_connection(lambda connection=connection: connection, host, int(port))  # type: ignore[misc]
        connections.append(connection)
    yield
    await asyncio.gather(*(connection.closed for connection in connections))


class _Connection(asyncio.Protocol):
    """One connection with several callers, each of which has one stream at a time."""

    def __init__(self, target: Target, calls: Calls, callers: int) -> None:
        fields = [
            (":path", PATH),
            (":authority", target.address),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "bench"),
            ("grpc-accept-encoding", "identity, deflate, gzip"),
            ("x-api-key", target.key),
        ]
        self._first_headers = http2.first_headers(fields)
        self._headers = http2.next_headers(fields)
        self._target = target
        self._calls = calls
        self._callers = callers
        self._reader = FrameReader()
        self._next_stream = 1
        self._window = http2.DEFAULT_WINDOW
        self._started: dict[int, float] = {}
        self._received: dict[int, int] = {}
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        first = self._request(self._first_headers)
        others = [self._request(self._headers) for _ in range(1, self._callers)]
        self._transport.write(b"".join([http2.opening(), first, *others]))

    def data_received(self, data: bytes) -> None:
        answers = [self._answer(*received) for received in self._reader.read(data)]
        self._transport.write(b"".join(answers))
        if not self._started:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._calls.stopped:
            self._calls.fail(ConnectionError("the server closed the connection"))
        self.closed.set_result(None)

    def _answer(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        """Returns what to send because of a frame."""
        answer = b""
        if kind == Type.DATA:
            self._received[stream] = self._received.get(stream, 0) + len(payload)
        elif kind in {Type.RST_STREAM, Type.GOAWAY}:
            self._calls.fail(ConnectionError(f"the server gave up: {payload!r}"))
        elif kind == Type.WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind in {Type.SETTINGS, Type.PING} and not flags & http2.ACK:
            answer = frame(Type(kind), http2.ACK, 0, payload if kind == Type.PING else b"")
        if kind in {Type.DATA, Type.HEADERS} and flags & END_STREAM:
            answer += self._ended(stream)
        return answer

    def _ended(self, stream: int) -> bytes:
        """Counts an answered call, and returns the next."""
        latency = time.perf_counter() - self._started.pop(stream)
        if self._received.pop(stream, 0) >= MIN_RESPONSE_BYTES:
            self._calls.latencies.append(latency)
        elif self._target.may_be_refused:
            self._calls.refused += 1
        else:
            self._calls.fail(RuntimeError("a call was answered by an error"))
        return b"" if self._calls.stopped else self._request(self._headers)

    def _request(self, headers: bytes) -> bytes:
        stream = self._next_stream
        self._next_stream += 2
        message = workload.protobuf(next(self._calls.numbers), self._target.participants)
        self._window -= len(message) + 5
        assert self._window > 0, "the server gives no room"
        self._started[stream] = time.perf_counter()
        prefixed = struct.pack(">BL", 0, len(message)) + message
        return frame(Type.HEADERS, END_HEADERS, stream, headers) + frame(Type.DATA, END_STREAM, stream, prefixed)
