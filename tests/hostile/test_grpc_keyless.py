"""The calls that anybody may make without a key, by clients who make many, or never read."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.bench.http2 import ACK, Type, frame
from tests.conftest import Deployment, deployed
from tests.hostile.crowd import crowd
from tests.hostile.grpc_wire import SERVICE, Wire
from tests.hostile.others import FLOOD_SECONDS, others_unhurt

REFLECTION = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
WATCH = "grpc.health.v1.Health/Watch"


@pytest.fixture
def watched(database: str) -> Iterator[Deployment]:
    """A service with watches of which nobody reads a byte."""
    with deployed(database) as running, ExitStack() as stack:
        for _ in range(20):
            wire = stack.enter_context(Wire(running.service.grpc_address, window=0))
            for _ in range(5):
                wire.message(wire.call(WATCH), b"")
            # Its settings are acknowledged after the calls were taken in.
            wire.next_frame()
        yield running


def asks(*, reads: bool) -> Callable[[Wire], None]:
    """Asks what the service is described by, as often as a connection may at once, again and again."""
    name = SERVICE.encode()
    request = b"\x22" + bytes([len(name)]) + name

    def attack(wire: Wire) -> None:
        wire.send(frame(Type.SETTINGS, ACK, 0))
        until = time.monotonic() + FLOOD_SECONDS
        while time.monotonic() < until:
            calls = [wire.call(REFLECTION) for _ in range(4)]
            for call in calls:
                wire.message(call, request)
            for call in calls if reads else ():
                wire.until_ended(call)
            time.sleep(0.01)

    return attack


@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
def test_reflection_that_is_asked_for_without_end(deployment: Deployment, reads: bool) -> None:
    address = deployment.service.grpc_address
    with others_unhurt(deployment), crowd(32, lambda: Wire(address, window=1 << 20 if reads else 0), asks(reads=reads)):
        pass
    assert "Traceback" not in deployment.service.errors


def test_a_watch_that_is_never_read_keeps_nobody_from_stopping(watched: Deployment) -> None:
    with grpc.insecure_channel(watched.service.grpc_address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watched.service.signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert watched.service.wait(10) == 0
