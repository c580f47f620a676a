"""A process of callers, by gRPC or by HTTP, which write to participants that all such processes share, and print what
they see as a history. It ends on SIGTERM, once the calls under way are answered."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import grpc
import httpx
import orjson
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

from server.errors import Code
from tests.faults.history import Write, as_line

# All processes write to the same participants for this long, in seconds, and then to others, so that each stays below
# what a participant may have of attributes.
EPOCH = 1.0
MAX_ATTRIBUTES = 256
# Whoever was told of an error pauses, in seconds: a service that is away answers fast.
PAUSE = 0.02
# A gRPC client asks again for a service that was away after at most so many milliseconds.
CHANNEL_OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300)]
# A call over HTTP is not ended by its client, so that it shows whether the service ends it in time.
HTTP_PATIENCE = 30.0
BATCH_ITEMS = 3
# Of the calls by gRPC, one in so many is a batch.
BATCH_EVERY = 8


@dataclass(frozen=True)
class Plan:
    """What a process does. `address` is HOST:PORT, or a URL for callers by HTTP; `processes` is how many write to the
    same participants. `deadline` is that of each call, and `rest` is how long a caller waits after an answer, in
    seconds."""

    name: str
    address: str
    key: str
    prefix: str
    processes: int
    callers: int
    deadline: float
    rest: float

    def as_argument(self) -> str:
        return orjson.dumps(asdict(self)).decode()


@dataclass(frozen=True)
class Answer:
    """What came back for one write."""

    code: str
    participant_id: str = ""
    created: bool = False
    seen: frozenset[str] = frozenset()


class Caller(Protocol):
    """A way to write."""

    async def write(self, key: str, tokens: Sequence[str]) -> Sequence[Answer]:
        """Sends one call, which adds the tokens by an upsert each, and returns the answers in order."""

    @property
    def items(self) -> int:
        """How many upserts the next call has."""


class GrpcCaller:
    """Calls CreateParticipant, and now and then BatchCreateParticipants."""

    def __init__(self, plan: Plan) -> None:
        self._stub = ParticipantServiceStub(grpc.aio.insecure_channel(plan.address, options=CHANNEL_OPTIONS))
        self._metadata = (("x-api-key", plan.key),)
        self._deadline = plan.deadline
        self._calls = itertools.count(1)

    @property
    def items(self) -> int:
        return 1 if next(self._calls) % BATCH_EVERY else BATCH_ITEMS

    async def write(self, key: str, tokens: Sequence[str]) -> Sequence[Answer]:
        requests = [messages.CreateParticipantRequest(external_id=key, attributes={token: ""}) for token in tokens]
        call: dict[str, Any] = {"metadata": self._metadata, "timeout": self._deadline}
        try:
            if len(requests) == 1:
                return [_from_message(await self._stub.CreateParticipant(requests[0], **call))]
            batch = messages.BatchCreateParticipantsRequest(requests=requests)
            response = await self._stub.BatchCreateParticipants(batch, **call)
        except grpc.aio.AioRpcError as error:
            return [Answer(error.code().name)] * len(tokens)
        return [_from_item(item) for item in response.results]


def _from_message(message: Any) -> Answer:
    participant = message.participant
    created = message.result == messages.CreateParticipantResponse.CREATED
    return Answer("OK", participant.id, created, frozenset(participant.attributes))


def _from_item(item: Any) -> Answer:
    if not item.HasField("status"):
        return _from_message(item)
    return Answer(next(code.name for code in grpc.StatusCode if code.value[0] == item.status.code))


class HttpCaller:
    """Posts to /v1/participants on connections that are kept."""

    items = 1

    def __init__(self, plan: Plan) -> None:
        headers = {"X-API-Key": plan.key, "X-Request-Timeout": str(plan.deadline)}
        self._client = httpx.AsyncClient(base_url=plan.address, headers=headers, timeout=HTTP_PATIENCE)

    async def write(self, key: str, tokens: Sequence[str]) -> Sequence[Answer]:
        (token,) = tokens
        body = {"external_id": key, "attributes": {token: ""}}
        try:
            response = await self._client.post("/v1/participants", json=body)
        except httpx.TimeoutException:
            return [Answer("DEADLINE_EXCEEDED")]
        except httpx.TransportError:
            return [Answer("UNAVAILABLE")]
        if not response.is_success:
            return [Answer(next(code.name for code in Code if code.http_status == response.status_code))]
        document, created = response.json(), response.status_code == 201
        return [Answer("OK", document["id"], created, frozenset(document["attributes"]))]


async def main(plan: Plan) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    keys = _keys(plan)
    tokens = (f"{plan.name}-{number}" for number in itertools.count())
    caller: Caller = HttpCaller(plan) if plan.address.startswith("http") else GrpcCaller(plan)
    await asyncio.gather(*(_call(plan, caller, keys, tokens, stopped) for _ in range(plan.callers)))


def _keys(plan: Plan) -> Iterator[str]:
    """Yields the participant of each write, so that all processes write to the same ones at the same time."""
    share = MAX_ATTRIBUTES // plan.processes - BATCH_ITEMS
    epoch, written = 0, 0
    while True:
        now = int(time.monotonic() / EPOCH)
        if now != epoch:
            epoch, written = now, 0
        yield f"{plan.prefix}-{epoch}-{written // share}"
        written += 1


async def _call(plan: Plan, caller: Caller, keys: Iterator[str], tokens: Iterator[str], stopped: asyncio.Event) -> None:
    while not stopped.is_set():
        sent = [next(tokens) for _ in range(caller.items)]
        # A batch counts as many times as it has items: all of them have the last one's participant.
        key = [next(keys) for _ in sent][-1]
        started = time.monotonic()
        answers = await caller.write(key, sent)
        ended = time.monotonic()
        for token, answer in zip(sent, answers, strict=True):
            write = Write(plan.name, key, token, started, ended, **asdict(answer))
            sys.stdout.buffer.write(as_line(write))
        sys.stdout.buffer.flush()
        told_of_an_error = any(answer.code != "OK" for answer in answers)
        await asyncio.sleep(max(PAUSE, plan.rest) if told_of_an_error else plan.rest)


if __name__ == "__main__":
    asyncio.run(main(Plan(**orjson.loads(sys.argv[1]))))
