"""Messages over gRPC that do not come, do not end, are too many or too large."""

from __future__ import annotations

import gzip
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import psutil
import pytest
from participants.v1 import participant_service_pb2 as messages

from tests.bench.http2 import ACK, MAX_WINDOW, Type, frame
from tests.conftest import Deployment
from tests.hostile.bystanders import IS_ALONE
from tests.hostile.crowd import crowd
from tests.hostile.grpc_wire import SERVICE, Wire
from tests.hostile.others import others_unhurt
from tests.support.clients import GrpcClient, Reply, reply_from_rpc_error

CREATE, BATCH = f"{SERVICE}/CreateParticipant", f"{SERVICE}/BatchCreateParticipants"
VALID = messages.CreateParticipantRequest(external_id="hostile").SerializeToString()
# A message of 4 MiB, but for its end.
UNFINISHED = struct.pack(">BL", 0, 4 << 20) + bytes((4 << 20) - 100)
CALLERS = 8
# Beside other tests, where everybody may wait for longer than it takes, further calls show no more.
CALLS = 2 if IS_ALONE else 1


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
        call: Any = channel.unary_unary(f"/{BATCH}")
        calls = [call.future(batch, metadata=metadata, timeout=30) for _ in range(100)]
        assert {each.code() for each in calls} == {grpc.StatusCode.OK}


# Made where they are sent: every test process would make them before its first test.
MANY_ITEMS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "requests": (BATCH, lambda: b"\x0a\x00" * 2_000_000),
    "empty attributes": (CREATE, lambda: VALID + b"\x4a\x00" * 2_000_000),
    "attributes": (CREATE, lambda: VALID + b"".join(b"\x4a\x08\x0a\x06%06d" % number for number in range(400_000))),
    "tags of items": (BATCH, lambda: _tagged().SerializeToString()),
}


def _tagged() -> messages.BatchCreateParticipantsRequest:
    item = messages.CreateParticipantRequest(tags=["t"] * 1_300)
    return messages.BatchCreateParticipantsRequest(requests=[item] * 1_000)


@pytest.mark.parametrize("kind", MANY_ITEMS)
def test_many_items_in_few_bytes_take_little(deployment: Deployment, kind: str) -> None:
    path, make = MANY_ITEMS[kind]
    # Compressed once: that may take as long as all that the service does.
    message = gzip.compress(make(), compresslevel=1)
    data = struct.pack(">BL", 1, len(message)) + message
    metadata = [("x-api-key", deployment.tenant.key), ("grpc-encoding", "gzip")]
    answered = []

    def attack(wire: Wire) -> None:
        wire.socket.settimeout(20)
        # The answer may be as large as it likes.
        wire.send(frame(Type.SETTINGS, ACK, 0) + frame(Type.WINDOW_UPDATE, 0, 0, struct.pack(">L", 1 << 30)))
        for _ in range(CALLS):
            stream = wire.call(path, metadata)
            wire.pour(stream, data, ended=True)
            answered.append(wire.until_ended(stream))

    def connect() -> Wire:
        return Wire(deployment.service.grpc_address, window=MAX_WINDOW)

    with others_unhurt(deployment), crowd(CALLERS, connect, attack):
        pass
    assert len(answered) == CALLERS * CALLS


def _pour(wire: Wire, metadata: list[tuple[str, str]]) -> None:
    # The test closes the connection once it has seen enough.
    with suppress(OSError):
        wire.pour(wire.call(CREATE, metadata), UNFINISHED)
