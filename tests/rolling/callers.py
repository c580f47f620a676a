"""Callers who go on whatever they are told, and count it: by gRPC on one channel, or by HTTP on kept connections."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import grpc
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

CALLERS = 32
PARTICIPANTS = 10_000
DEADLINE = 10.0

# Sends one call for the participant of this number, and returns "OK" or what it was told.
Send = Callable[[int], Awaitable[str]]


class Callers:
    """CALLERS at once, until stopped. `answers` counts what they were told; `enough` is set after so many calls."""

    def __init__(self, senders: Sequence[Send], calls: int) -> None:
        self.answers: Counter[str] = Counter()
        self.enough = asyncio.Event()
        self._calls = calls
        self._stopped = asyncio.Event()
        self._tasks = [asyncio.create_task(self._call(senders[n % len(senders)], n)) for n in range(CALLERS)]

    @property
    def failed(self) -> Counter[str]:
        return Counter({answer: count for answer, count in self.answers.items() if answer != "OK"})

    async def stop(self) -> None:
        """Waits for the last answers."""
        self._stopped.set()
        await asyncio.gather(*self._tasks)

    async def _call(self, send: Send, number: int) -> None:
        while not self._stopped.is_set():
            number = (number + CALLERS) % PARTICIPANTS
            self.answers[await send(number)] += 1
            if self.answers.total() >= self._calls:
                self.enough.set()


def by_grpc(channel: grpc.aio.Channel, key: str) -> Send:
    """Returns a sender on a channel, which all callers share."""
    create = ParticipantServiceStub(channel).CreateParticipant

    async def send(number: int) -> str:
        request = messages.CreateParticipantRequest(external_id=f"user-{number}")
        try:
            await create(request, metadata=(("x-api-key", key),), timeout=DEADLINE)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "OK"

    return send


def by_http(address: str, key: str) -> Send:
    """Returns a sender for one caller, which keeps its connection as long as the server does."""
    host, _, port = address.rpartition(":")
    head = (
        f"POST /v1/participants HTTP/1.1\r\nhost: {address}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
    )
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(number: int) -> str:
        nonlocal connection
        body = json.dumps({"external_id": f"user-{number}"})
        try:
            async with asyncio.timeout(DEADLINE):
                connection = connection or await asyncio.open_connection(host, int(port))
                reader, writer = connection
                writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
                status, keeps = await _answer(reader)
        except (OSError, EOFError, TimeoutError) as error:
            status, keeps = repr(error), False
        if not keeps and connection is not None:
            connection[1].close()
            with suppress(OSError):
                await connection[1].wait_closed()
            connection = None
        return "OK" if status in {"200", "201"} else status

    return send


async def _answer(reader: asyncio.StreamReader) -> tuple[str, bool]:
    """Returns the status of an answer, and whether the connection may be used again."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if line)
    await reader.readexactly(int(headers["content-length"]))
    return first.split()[1], headers.get("connection") != "close"
