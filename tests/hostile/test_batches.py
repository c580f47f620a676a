"""Batches whose answers are as large as they can be, or that are all wrong, many at once."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import psycopg
import pytest
from participants.v1 import participant_service_pb2 as messages
from psycopg.types.json import Jsonb

from tests.conftest import Deployment
from tests.hostile.bystanders import IS_ALONE
from tests.hostile.crowd import crowd
from tests.hostile.grpc_wire import SERVICE, Wire
from tests.hostile.others import others_unhurt
from tests.support import loopback
from tests.support.clients import GrpcClient
from tests.support.process import eventually
from tests.support.raw import (
    MEBIBYTE,
    connected,
    most_resident_bytes,
    resident_bytes,
)

PATH = "/v1/participants:batchCreate"
BATCH = f"{SERVICE}/BatchCreateParticipants"
# How many participants there are of the largest size.
LARGE = 1_000
# What batches may take while they are made, wait or lie unread; one that is answered in full has up to 96 MiB.
MOST_BYTES = 310 * MEBIBYTE
MOST_CALLERS = 32
# The large answers of these, all made at once, would take three times as much.
CALLERS = MOST_CALLERS if IS_ALONE else 12
# How long they read their answers, or leave them unread: those that lie are all made after a moment.
SECONDS = 3.0 if IS_ALONE else 1.5


@pytest.fixture(scope="module")
def large(deployment: Deployment) -> messages.BatchCreateParticipantsRequest:
    """A batch of participants that are of the largest size, and changes none of them."""
    with psycopg.connect(deployment.conninfo) as connection:
        connection.execute(
            """
            INSERT INTO participants (organization_id, participant_id, external_id, status, attributes, tags)
            SELECT %s, gen_random_uuid(), 'large-' || n, 'ACTIVE', %s, %s FROM generate_series(0, %s) AS n
            """,
            [
                deployment.tenant.organization_id,
                Jsonb({f"{number:02}": "x" * 4_094 for number in range(16)}),
                [f"{number:03}" + "t" * 250 for number in range(64)],
                LARGE - 1,
            ],
        )
    requests = [messages.CreateParticipantRequest(external_id=f"large-{number}") for number in range(LARGE)]
    return messages.BatchCreateParticipantsRequest(requests=requests)


def _posted(key: str, batch: object) -> bytes:
    body = json.dumps(batch, separators=(",", ":")).encode()
    return (
        f"POST {PATH} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
        f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


def _names(batch: messages.BatchCreateParticipantsRequest) -> object:
    return {"requests": [{"external_id": each.external_id} for each in batch.requests]}


@contextmanager
def _http_crowd(
    deployment: Deployment, data: bytes, *, reads: bool, callers: int = CALLERS, seconds: float = SECONDS
) -> Iterator[None]:
    """Sends the same on many connections, and reads the answers, or does not, for some seconds."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(deployment.service, seconds, 4096)) for _ in range(callers)]
        with ThreadPoolExecutor(callers) as pool:
            are_sent = pool.map(lambda each: _call(each, data, reads=reads, seconds=seconds), connections)
        # Not all of them need be let in.
        assert any(are_sent)
        yield


def _call(connection: socket.socket, data: bytes, *, reads: bool, seconds: float) -> bool:
    """Tells whether the request could be sent."""
    is_sent = False
    with suppress(OSError):
        connection.sendall(data)
        is_sent = True
        while reads and connection.recv(1 << 20):
            pass
    if not reads:
        threading.Event().wait(seconds)
    return is_sent


@pytest.mark.parametrize("reads", [True, False], ids=["read", "not read"])
def test_large_answers_over_http(
    deployment: Deployment, large: messages.BatchCreateParticipantsRequest, reads: bool
) -> None:
    before = resident_bytes(deployment.service)
    data = _posted(deployment.tenant.key, _names(large))
    with others_unhurt(deployment), _http_crowd(deployment, data, reads=reads):
        pass
    assert most_resident_bytes(deployment.service) - before < MOST_BYTES
    _until_answered(deployment)


def test_large_answers_over_grpc(deployment: Deployment, large: messages.BatchCreateParticipantsRequest) -> None:
    before = resident_bytes(deployment.service)
    message = large.SerializeToString()
    metadata = [("x-api-key", deployment.tenant.key)]

    def attack(wire: Wire) -> None:
        for _ in range(4):
            wire.message(wire.call(BATCH, metadata), message)
        threading.Event().wait(SECONDS)

    def connect() -> Wire:
        return Wire(deployment.service.grpc_address, window=0)

    with others_unhurt(deployment), crowd(CALLERS, connect, attack):
        pass
    assert most_resident_bytes(deployment.service) - before < MOST_BYTES
    _until_answered(deployment)


def test_the_largest_answer_is_read_slowly(
    deployment: Deployment, large: messages.BatchCreateParticipantsRequest
) -> None:
    headers = {"x-api-key": deployment.tenant.key}
    with (
        loopback.Client(base_url=deployment.service.http_url, timeout=60) as client,
        client.stream("POST", PATH, json=_names(large), headers=headers) as response,
    ):
        assert response.status_code == 200
        # What has come by now waits for a moment.
        threading.Event().wait(2)
        results = json.loads(response.read())["results"]
    assert [each["participant"]["external_id"] for each in results] == [each.external_id for each in large.requests]
    assert {each["result"] for each in results} == {"UNCHANGED"}
    client_of_grpc = GrpcClient(deployment.service.grpc_address, deployment.tenant.key)
    answer = client_of_grpc.create_batch([{"external_id": each.external_id} for each in large.requests])
    client_of_grpc.close()
    assert (answer.code, len(answer.items)) == ("OK", LARGE)


@pytest.mark.parametrize(
    "item",
    [
        {"tags": [""] * 256, "email": "x", "program_id": "y"},
        {"tags": [0] * 256, "email": 0},
        {"attributes": {f"{number}": 0 for number in range(110)}},
    ],
    ids=["values", "types", "attributes"],
)
def test_batches_in_which_everything_is_wrong(deployment: Deployment, item: dict[str, object]) -> None:
    # Of few callers all of them would take little.
    before = resident_bytes(deployment.service)
    data = _posted(deployment.tenant.key, {"requests": [item] * 1_000})
    assert len(data) < MEBIBYTE
    with others_unhurt(deployment), _http_crowd(deployment, data, reads=True, callers=MOST_CALLERS, seconds=3.0):
        grown = most_resident_bytes(deployment.service) - before
    assert grown < 80 * MEBIBYTE


def _until_answered(deployment: Deployment) -> None:
    """Waits until there is room again for the organization, whose callers have gone."""
    client = GrpcClient(deployment.service.grpc_address, deployment.tenant.key)
    eventually(lambda: client.create_batch([{"external_id": "large-0"}]).code == "OK")
    client.close()
