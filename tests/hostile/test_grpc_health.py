"""Health watches whose clients never read."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.conftest import Deployment, deployed
from tests.hostile.grpc_wire import Wire

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


def test_a_watch_that_is_never_read_keeps_nobody_from_stopping(watched: Deployment) -> None:
    with grpc.insecure_channel(watched.service.grpc_address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watched.service.signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert watched.service.wait(10) == 0
