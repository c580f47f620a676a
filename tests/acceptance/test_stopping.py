"""The service is told to stop while it is called."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

from tests.conftest import Deployment, deployed
from tests.support import loopback

CHANNELS, CALLERS = 12, 4


@contextmanager
def callers(deployment: Deployment) -> Iterator[Counter[str]]:
    """Calls again and again until a call fails, and counts what the calls came to."""
    outcomes: Counter[str] = Counter()
    metadata = (("x-api-key", deployment.tenant.key),)
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(deployment.service.grpc_address, options) for _ in range(CHANNELS)]

    def call(channel: grpc.Channel, number: int) -> None:
        stub = ParticipantServiceStub(channel)
        request = messages.CreateParticipantRequest(external_id=f"stopping-{number}")
        while True:
            try:
                stub.CreateParticipant(request, metadata=metadata, timeout=10)
            except grpc.RpcError as error:
                outcomes[error.code().name] += 1
                return
            outcomes["OK"] += 1

    threads = [
        threading.Thread(target=call, args=(channel, number * CALLERS + caller))
        for number, channel in enumerate(channels)
        for caller in range(CALLERS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        for thread in threads:
            thread.join()
        for channel in channels:
            channel.close()


@pytest.mark.parametrize("attempt", range(3))
def test_no_call_is_cancelled(database: str, attempt: int) -> None:
    with deployed(database) as running:
        with callers(running) as outcomes:
            while outcomes["OK"] < 500:
                time.sleep(0.01)
            running.service.signal(signal.SIGTERM)
            assert running.service.wait(15) == 0
        # Each caller went on until nobody listened.
        assert outcomes == {"OK": outcomes["OK"], "UNAVAILABLE": CHANNELS * CALLERS}
    assert "Traceback" not in running.service.errors


def test_it_serves_while_it_drains_and_a_second_signal_hurries(database: str) -> None:
    with deployed(database, PARTICIPANTS_DRAIN_SECONDS="600") as running:
        with grpc.insecure_channel(running.service.grpc_address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            running.service.signal(signal.SIGTERM)
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert loopback.get(f"{running.service.http_url}/readyz").status_code == 503
            request = messages.CreateParticipantRequest(external_id="draining")
            ParticipantServiceStub(channel).CreateParticipant(
                request, metadata=(("x-api-key", running.tenant.key),), timeout=10
            )
        # What comes at once after the first is taken for the same signal.
        time.sleep(0.6)
        running.service.signal(signal.SIGTERM)
        assert running.service.wait(10) == 0


def test_a_call_under_way_is_finished(database: str) -> None:
    with deployed(database) as running, grpc.insecure_channel(running.service.grpc_address) as channel:
        stub = ParticipantServiceStub(channel)
        metadata = (("x-api-key", running.tenant.key),)
        request = messages.CreateParticipantRequest(external_id="under way", first_name="Jane")
        stub.CreateParticipant(request, metadata=metadata, timeout=10)
        with psycopg.connect(database) as locker:
            locker.execute("LOCK TABLE participants IN ACCESS EXCLUSIVE MODE")
            request.first_name = "Joan"
            call = stub.CreateParticipant.future(request, metadata=metadata, timeout=10)
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            with psycopg.connect(database, autocommit=True) as admin:
                while not (admin.execute(waiting).fetchone() or [0])[0]:
                    time.sleep(0.01)
            running.service.signal(signal.SIGTERM)
            time.sleep(0.3)
        assert call.result().participant.first_name == "Joan"
        assert running.service.wait(15) == 0
