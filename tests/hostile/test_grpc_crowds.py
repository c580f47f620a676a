"""Crowds over gRPC: connections and calls that are opened and left."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress

import pytest
from grpc_reflection.v1alpha import reflection_pb2

from tests.bench.http2 import ACK, MAX_WINDOW, Type, frame
from tests.conftest import Deployment, by_serving_role, new_tenant
from tests.hostile.grpc_wire import SERVICE, Wire
from tests.hostile.others import others_unhurt
from tests.support.clients import GrpcClient
from tests.support.process import COMMAND, Service, environment, eventually
from tests.support.raw import MEBIBYTE

# More than the service keeps.
CROWD = 2_600
HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
ASKED = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE).SerializeToString()
# As many ask for reflection at once as may.
ASKING = 64


@pytest.mark.parametrize("is_known", [False, True], ids=["of strangers", "with a good key"])
def test_crowds_do_not_keep_others_out(deployment: Deployment, is_known: bool) -> None:
    with others_unhurt(deployment), ExitStack() as stack:
        for number in range(CROWD):
            if number % 500 == 0:
                # Of those that come at once nobody can say who came first.
                time.sleep(0.3)
            # Whoever has to make way may notice while it still speaks.
            with suppress(ConnectionError):
                wire = stack.enter_context(Wire(deployment.service.grpc_address))
                wire.send(frame(Type.SETTINGS, ACK, 0))
                if is_known:
                    wire.call(f"{SERVICE}/CreateParticipant", [("x-api-key", deployment.tenant.key)], ended=True)
        time.sleep(1)


def test_a_crowd_that_takes_all_files_that_may_be_open(
    new_database: Callable[[], AbstractContextManager[str]],
) -> None:
    few_files = ("sh", "-c", 'ulimit -n 512 && exec "$0" "$@"', COMMAND)
    with new_database() as conninfo, ExitStack() as stack:
        key = new_tenant(conninfo, "acme").key
        service = Service(environment(DATABASE_URL=by_serving_role(conninfo)), few_files)
        stack.callback(service.stop)
        host, _, port = service.grpc_address.rpartition(":")
        for _ in range(600):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
        client = GrpcClient(service.grpc_address, key)
        stack.callback(client.close)
        eventually(lambda: client.create({"external_id": "another"}).code == "OK")
        assert not service.has_ended


@pytest.mark.parametrize("call", [f"{HEALTH}/Check", f"{HEALTH}/Watch", REFLECTION])
def test_calls_without_a_key_are_few_on_a_connection(deployment: Deployment, call: str) -> None:
    with Wire(deployment.service.grpc_address) as wire:
        wire.send(frame(Type.SETTINGS, ACK, 0))
        for _ in range(4):
            wire.call(call)
        # RESOURCE_EXHAUSTED, while the others wait for a message.
        assert b"\x0bgrpc-status\x018" in wire.until_ended(wire.call(call))[-1][1]


def test_reflection_without_end_comes_slowly(deployment: Deployment) -> None:
    with Wire(deployment.service.grpc_address, window=MAX_WINDOW) as wire:
        wire.send(frame(Type.SETTINGS, ACK, 0) + frame(Type.WINDOW_UPDATE, 0, 0, struct.pack(">L", 1 << 30)))
        stream = wire.call(REFLECTION)
        wire.message(stream, ASKED, ended=False)
        received, until = 0, time.monotonic() + 2
        while time.monotonic() < until:
            received += len(wire.next_frame()[3])
            # An answer comes in several frames.
            wire.message(stream, ASKED, ended=False)
    # What is saved up, and what comes in two seconds; without measure it was 258 MiB.
    assert received < 32 * MEBIBYTE


def test_who_has_asked_for_longest_makes_way_and_is_told(deployment: Deployment) -> None:
    with ExitStack() as stack:
        first, *others = [stack.enter_context(Wire(deployment.service.grpc_address)) for _ in range(ASKING // 4 + 1)]
        for wire in (first, *others):
            wire.send(frame(Type.SETTINGS, ACK, 0))
        stream = first.call(REFLECTION)
        # What has been answered has come before what is sent next.
        first.message(
            stream, reflection_pb2.ServerReflectionRequest(list_services="all").SerializeToString(), ended=False
        )
        while first.next_frame()[2] != stream:
            pass
        for wire in others:
            for _ in range(4):
                wire.call(REFLECTION)
        # RESOURCE_EXHAUSTED
        assert b"\x0bgrpc-status\x018" in first.until_ended(stream)[-1][1]
