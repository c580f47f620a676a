"""Messages over gRPC that are compressed: small ones that are large once they are inflated, and honest ones."""

from __future__ import annotations

import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from participants.v1 import participant_service_pb2 as messages

from tests.bench.http2 import ACK, END_STREAM, Type, frame
from tests.conftest import Deployment
from tests.hostile.grpc_wire import SERVICE, Wire
from tests.hostile.others import others_unhurt
from tests.support.clients import Reply, reply_from_rpc_error
from tests.support.raw import MEBIBYTE, processor_seconds

CREATE, BATCH = f"{SERVICE}/CreateParticipant", f"{SERVICE}/BatchCreateParticipants"
CHECK, REFLECTION = "grpc.health.v1.Health/Check", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


@cache
def bomb(size: int) -> bytes:
    """Returns so many zeros in gzip: a thousandth of them, or less."""
    deflating = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return b"".join(deflating.compress(bytes(MEBIBYTE)) for _ in range(size // MEBIBYTE)) + deflating.flush()


def explode(deployment: Deployment, path: str, message: bytes, calls: int, key: str | None = None) -> None:
    """Calls with a message in gzip that fits in a frame, one call after the other on one connection."""
    metadata = [("grpc-encoding", "gzip"), *([("x-api-key", key)] if key else [])]
    data = struct.pack(">BL", 1, len(message)) + message
    with Wire(deployment.service.grpc_address) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.send(frame(Type.SETTINGS, ACK, 0))
        for _ in range(calls):
            stream = wire.call(path, metadata)
            wire.send(frame(Type.DATA, END_STREAM, stream, data))
            wire.until_ended(stream)


def refused(deployment: Deployment, message: bytes, compression: grpc.Compression) -> Reply:
    with grpc.insecure_channel(deployment.service.grpc_address) as channel:
        call: Any = channel.unary_unary(f"/{CREATE}")
        with pytest.raises(grpc.RpcError) as raised:
            call(message, metadata=[("x-api-key", deployment.tenant.key)], timeout=20, compression=compression)
    return reply_from_rpc_error(raised.value)


def test_what_is_too_large_once_it_is_inflated_is_refused_with_details(deployment: Deployment) -> None:
    reply = refused(deployment, bytes(64 * MEBIBYTE), grpc.Compression.Gzip)
    assert (reply.code, reply.reason) == ("RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE")


def test_what_is_no_message_once_it_is_inflated_is_refused_with_details(deployment: Deployment) -> None:
    reply = refused(deployment, bytes(MEBIBYTE), grpc.Compression.Gzip)
    assert (reply.code, reply.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")


def test_deflate_is_not_taken(deployment: Deployment) -> None:
    assert refused(deployment, bytes(MEBIBYTE), grpc.Compression.Deflate).code == "UNIMPLEMENTED"


def test_whoever_compresses_everything_is_answered(deployment: Deployment) -> None:
    requests = [
        messages.CreateParticipantRequest(external_id=f"gzip-{number}", attributes={"text": "x" * 4_000})
        for number in range(1_000)
    ]
    batch = messages.BatchCreateParticipantsRequest(requests=requests).SerializeToString()
    address, gzip = deployment.service.grpc_address, grpc.Compression.Gzip
    with grpc.insecure_channel(address, compression=gzip) as channel:
        call: Any = channel.unary_unary(f"/{BATCH}", None, messages.BatchCreateParticipantsResponse.FromString)
        response = call(batch, metadata=[("x-api-key", deployment.tenant.key)], timeout=30)
        assert {result.status.code for result in response.results} == {0}
        # Long names, or they would be left as they are.
        asked = health_pb2.HealthCheckRequest(service="x" * 500)
        with pytest.raises(grpc.RpcError) as raised:
            health_pb2_grpc.HealthStub(channel).Check(asked, timeout=20)
        assert reply_from_rpc_error(raised.value).code == "NOT_FOUND"
        symbol = reflection_pb2.ServerReflectionRequest(file_containing_symbol="x" * 500)
        (answer,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([symbol]), timeout=20)
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("path", [CHECK, REFLECTION])
def test_a_stranger_has_nothing_large_inflated(deployment: Deployment, path: str) -> None:
    before = processor_seconds(deployment.service)
    explode(deployment, path, bomb(8 * MEBIBYTE), 200)
    # It takes a third of this at the most, and took 1.5 s.
    assert processor_seconds(deployment.service) - before < 0.5


@pytest.mark.parametrize("said", [15, 4], ids=["honest", "that seem smaller"])
def test_bombs_with_a_good_key_hurt_nobody(deployment: Deployment, said: int) -> None:
    message, key = bomb(15 * MEBIBYTE)[:-4] + struct.pack("<L", said * MEBIBYTE), deployment.tenant.key
    with others_unhurt(deployment), ThreadPoolExecutor(16) as callers:
        list(callers.map(lambda _: explode(deployment, CREATE, message, 10, key), range(16)))
