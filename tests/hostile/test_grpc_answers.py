"""Answers that nobody reads."""

from __future__ import annotations

import time
from contextlib import ExitStack

import psutil
import pytest
from participants.v1 import participant_service_pb2 as messages

from tests.conftest import Deployment
from tests.hostile.grpc_wire import SERVICE, Wire
from tests.support.clients import GrpcClient
from tests.support.process import eventually

GET = f"{SERVICE}/GetParticipant"
MIB = 1 << 20


@pytest.fixture
def large(deployment: Deployment) -> bytes:
    """A request for a participant of the largest size."""
    client = GrpcClient(deployment.service.grpc_address, deployment.tenant.key)
    attributes = {f"{number:02}": "x" * 4_094 for number in range(16)}
    created = client.create({"external_id": "large", "attributes": attributes})
    # Those of the test before may still be on their way out, with their organization's room.
    while created.code in {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}:
        time.sleep(created.retry_after or 0.1)
        created = client.create({"external_id": "large", "attributes": attributes})
    client.close()
    assert created.code == "OK"
    return messages.GetParticipantRequest(id=created.participant["id"]).SerializeToString()


def test_answers_that_nobody_reads_are_bounded(deployment: Deployment, large: bytes) -> None:
    service = psutil.Process(deployment.service.pid)
    before = service.memory_info().rss
    metadata = [("x-api-key", deployment.tenant.key)]
    other = GrpcClient(deployment.service.grpc_address, deployment.stranger.key)
    with ExitStack() as stack:
        stack.callback(other.close)
        grown = []
        for _ in range(2):
            with ExitStack() as wires:
                for _ in range(12):
                    wire = wires.enter_context(Wire(deployment.service.grpc_address, window=0))
                    for _ in range(200):
                        wire.message(wire.call(GET, metadata), large)
                    assert other.create({"external_id": "small"}).code == "OK"
                for _ in range(20):
                    assert other.create({"external_id": "small"}).code == "OK"
                grown.append(service.memory_info().rss - before)
    assert max(grown) < 250 * MIB
    # The room of those who have gone is there for the next, as soon as the service has seen that they have.
    client = GrpcClient(deployment.service.grpc_address, deployment.tenant.key)
    eventually(lambda: client.create({"external_id": "large"}).result == "UNCHANGED")
    client.close()


def test_lists_that_nobody_reads_are_bounded(deployment: Deployment) -> None:
    service = psutil.Process(deployment.service.pid)
    client = GrpcClient(deployment.service.grpc_address, deployment.stranger.key)
    attributes = {f"{number:02}": "x" * 4_094 for number in range(16)}
    assert client.create_batch([{"external_id": f"{n}", "attributes": attributes} for n in range(20)]).code == "OK"
    client.close()
    before = service.memory_info().rss
    # Each is answered with a mebibyte.
    request = messages.ListParticipantsRequest(page_size=200).SerializeToString()
    with ExitStack() as stack:
        for _ in range(20):
            wire = stack.enter_context(Wire(deployment.service.grpc_address, window=0))
            for _ in range(20):
                wire.message(
                    wire.call(f"{SERVICE}/ListParticipants", [("x-api-key", deployment.stranger.key)]), request
                )
        for _ in range(40):
            time.sleep(0.1)
            assert service.memory_info().rss - before < 170 * MIB
