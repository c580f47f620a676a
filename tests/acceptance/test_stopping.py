"""The service is told to stop while it is called."""

from __future__ import annotations

import http.client
import json
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
import httpx
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

from tests.conftest import Deployment, deployed
from tests.support import loopback
from tests.support.process import eventually
from tests.support.raw import connected, read_to_end

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


@contextmanager
def waiting_for_a_lock(deployment: Deployment) -> Iterator[tuple[psycopg.Connection, Sequence[Future[httpx.Response]]]]:
    """Has a change and a batch over HTTP wait for a row that is locked; yields who locks it, and what they answer."""
    headers = {"x-api-key": deployment.tenant.key}
    with ExitStack() as stack:
        client = stack.enter_context(loopback.Client(base_url=deployment.service.http_url, headers=headers, timeout=30))
        created = client.post("/v1/participants", json={"external_id": "locked"}).json()
        locker = stack.enter_context(psycopg.connect(deployment.conninfo))
        locker.execute("SELECT FROM participants WHERE participant_id = %s FOR UPDATE", (created["id"],))
        calls = stack.enter_context(ThreadPoolExecutor())
        batch = {"requests": [{"external_id": "locked", "last_name": "Doe"}]}
        answers = [
            calls.submit(client.patch, f"/v1/participants/{created['id']}", json={"first_name": "Joan"}),
            calls.submit(client.post, "/v1/participants:batchCreate", json=batch),
        ]
        eventually(lambda: _have_begun(client.get("/metrics").text, "UpdateParticipant", "BatchCreateParticipants"))
        yield locker, answers


def _have_begun(metrics: str, *rpcs: str) -> bool:
    started = (rf'^grpc_server_started_total{{.*grpc_method="{rpc}".*}} 1\.0$' for rpc in rpcs)
    return all(re.search(each, metrics, re.MULTILINE) for each in started)


def test_calls_under_way_over_http_are_finished(database: str) -> None:
    with deployed(database) as running, waiting_for_a_lock(running) as (locker, answers):
        running.service.signal(signal.SIGTERM)
        # Nearly as long as an upsert waits for a lock.
        time.sleep(1.5)
        locker.rollback()
        change, batch = [answer.result() for answer in answers]
        assert (change.status_code, change.json()["first_name"]) == (200, "Joan")
        assert (batch.status_code, batch.json()["results"][0]["result"]) == (200, "UPDATED")
        assert running.service.wait(15) == 0


def test_who_is_cut_off_over_http_is_told_to_call_again(database: str) -> None:
    with deployed(database) as running, waiting_for_a_lock(running) as (_, answers):
        running.service.signal(signal.SIGTERM)
        # What comes at once after the first is taken for the same signal.
        time.sleep(0.6)
        running.service.signal(signal.SIGTERM)
        for response in [answer.result() for answer in answers]:
            assert (response.status_code, response.json()["code"]) == (503, "unavailable")
            assert response.headers["x-request-id"]
            assert response.headers["retry-after"] == "1"
        assert running.service.wait(10) == 0
    assert "Traceback" not in running.service.errors


def test_connections_over_http_that_ask_for_nothing_delay_nothing(database: str) -> None:
    livez = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
    half = (
        "POST /v1/participants HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\n"
        "content-type: application/json\r\ncontent-length: 9\r\n\r\n{{"
    )
    with deployed(database) as running, ExitStack() as stack:
        silent, kept, half_head, half_body = [stack.enter_context(connected(running.service)) for _ in range(4)]
        for connection in (kept, half_head):
            connection.sendall(livez)
            with http.client.HTTPResponse(connection) as response:
                response.begin()
                assert response.read() == b'{"status":"live"}'
        half_head.sendall(livez[:9])
        half_body.sendall(half.format(running.tenant.key).encode())
        time.sleep(0.3)
        told = time.monotonic()
        running.service.signal(signal.SIGTERM)
        assert [read_to_end(connection) for connection in (silent, kept, half_head)] == [b"", b"", b""]
        answer = read_to_end(half_body)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "unavailable"
        assert running.service.wait(10) == 0
        assert time.monotonic() - told < 5
