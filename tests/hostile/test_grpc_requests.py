"""Messages over gRPC that do not come, do not end, are too many or too large."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import psutil
import pytest
from participants.v1 import participant_service_pb2 as messages

from tests.conftest import Deployment
from tests.hostile.crowd import crowd
from tests.hostile.grpc_wire import SERVICE, Wire
from tests.hostile.others import others_unhurt
from tests.support.clients import GrpcClient, Reply, reply_from_rpc_error

CREATE = f"{SERVICE}/CreateParticipant"
TAGGED = messages.BatchCreateParticipantsRequest(
    requests=[messages.CreateParticipantRequest(tags=["t"] * 1_300)] * 1_000
)
VALID = messages.CreateParticipantRequest(external_id="hostile").SerializeToString()


def streamed(deployment: Deployment, requests: Iterable[bytes], **options: Any) -> Reply:
    """Calls with as many messages as there are, and returns what was refused."""
    with grpc.insecure_channel(deployment.service.grpc_address) as channel:
        call: Any = channel.stream_unary(f"/{CREATE}")
        with pytest.raises(grpc.RpcError) as raised:
            call(iter(requests), metadata=[("x-api-key", deployment.tenant.key)], timeout=20, **options)
    return reply_from_rpc_error(raised.value)


def test_a_call_without_a_message_is_an_invalid_argument(deployment: Deployment) -> None:
    reply = streamed(deployment, [])
    assert (reply.code, reply.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")


def test_a_stranger_is_refused_before_a_message_came(deployment: Deployment) -> None:
    answered = threading.Event()

    def requests() -> Iterator[bytes]:
        answered.wait(20)
        yield VALID

    with grpc.insecure_channel(deployment.service.grpc_address) as channel:
        call: Any = channel.stream_unary(f"/{CREATE}")
        with pytest.raises(grpc.RpcError) as raised:
            call(requests(), timeout=20)
        answered.set()
    assert reply_from_rpc_error(raised.value).reason == "API_KEY_INVALID"


@pytest.mark.parametrize("size", [(4 << 20) + 1, 5 << 20])
def test_a_message_that_is_too_large_is_refused_with_details(deployment: Deployment, size: int) -> None:
    reply = streamed(deployment, [bytes(size)])
    assert (reply.code, reply.reason) == ("RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE")


def test_who_sends_many_messages_that_are_too_large_is_told_of_each(deployment: Deployment) -> None:
    too_large = bytes((4 << 20) + 1)
    with grpc.insecure_channel(deployment.service.grpc_address) as channel:
        call: Any = channel.unary_unary(f"/{CREATE}")
        calls = [call.future(too_large, metadata=[("x-api-key", deployment.tenant.key)], timeout=30) for _ in range(80)]
        assert {reply_from_rpc_error(each.exception()).reason for each in calls} == {"REQUEST_TOO_LARGE"}


def test_a_message_that_stops_half_way_is_refused_at_the_deadline(deployment: Deployment) -> None:
    with Wire(deployment.service.grpc_address) as wire:
        stream = wire.call(CREATE, [("x-api-key", deployment.tenant.key), ("grpc-timeout", "300m")])
        wire.message(stream, VALID[:3], announced=len(VALID), ended=False)
        wire.until_ended(stream)


def test_messages_that_never_end_keep_no_other_organization_out(deployment: Deployment) -> None:
    service = psutil.Process(deployment.service.pid)
    before = service.memory_info().rss
    metadata = [("x-api-key", deployment.tenant.key)]
    wires = [Wire(deployment.service.grpc_address) for _ in range(128)]
    pourers = [threading.Thread(target=_pour, args=(wire, metadata), daemon=True) for wire in wires]
    other = GrpcClient(deployment.service.grpc_address, deployment.stranger.key)
    try:
        for pourer in pourers:
            pourer.start()
        for number in range(50):
            assert other.create({"external_id": f"other-{number}"}).code == "OK"
            assert service.memory_info().rss - before < 300 << 20
    finally:
        other.close()
        for wire in wires:
            wire.socket.close()
        for pourer in pourers:
            pourer.join()
    client = GrpcClient(deployment.service.grpc_address, deployment.tenant.key)
    assert client.create({"external_id": "after"}).code == "OK"
    client.close()


def test_a_connection_may_carry_a_hundred_large_batches_at_once(deployment: Deployment) -> None:
    attributes = {f"{number}": "x" * 4_000 for number in range(10)}
    requests = [
        messages.CreateParticipantRequest(external_id=f"large-{number}", attributes=attributes) for number in range(25)
    ]
    batch = messages.BatchCreateParticipantsRequest(requests=requests).SerializeToString()
    metadata = [("x-api-key", deployment.tenant.key)]
    with grpc.insecure_channel(deployment.service.grpc_address) as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/BatchCreateParticipants")
        calls = [call.future(batch, metadata=metadata, timeout=30) for _ in range(100)]
        assert {each.code() for each in calls} == {grpc.StatusCode.OK}


@pytest.mark.parametrize(
    ("rpc", "message"),
    [
        ("BatchCreateParticipants", b"\x0a\x00" * 2_000_000),
        ("CreateParticipant", VALID + b"\x4a\x00" * 2_000_000),
        ("CreateParticipant", VALID + b"".join(b"\x4a\x08\x0a\x06%06d" % number for number in range(400_000))),
        ("BatchCreateParticipants", TAGGED.SerializeToString()),
    ],
    ids=["requests", "empty attributes", "attributes", "tags of items"],
)
def test_many_items_in_few_bytes_take_little(deployment: Deployment, rpc: str, message: bytes) -> None:
    def attack(_wire: Wire) -> None:
        with grpc.insecure_channel(deployment.service.grpc_address) as channel:
            call: Any = channel.unary_unary(f"/{SERVICE}/{rpc}")
            metadata = [("x-api-key", deployment.tenant.key)]
            for _ in range(2):
                with suppress(grpc.RpcError):
                    call(message, metadata=metadata, timeout=20, compression=grpc.Compression.Gzip)

    with others_unhurt(deployment), crowd(8, lambda: Wire(deployment.service.grpc_address), attack):
        pass


def _pour(wire: Wire, metadata: list[tuple[str, str]]) -> None:
    # The test closes the connection once it has seen enough.
    with suppress(OSError):
        wire.pour(wire.call(CREATE, metadata), announced=4 << 20, sent=(4 << 20) - 100)
