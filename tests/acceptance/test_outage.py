"""Postgres goes away in the middle of serving and comes back: what callers and probes are told meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.conftest import Deployment, deployed
from tests.support import loopback
from tests.support.clients import Client, GrpcClient, HttpClient, Reply
from tests.support.own_postgres import OwnPostgres
from tests.support.process import environment, eventually, refusal, run
from tests.support.seed import Seed

DATABASE_NAMES = ["", "readiness", "participants.v1.ParticipantService"]
# What a driver or a Postgres says when it cannot be reached, and no caller is to read.
DRIVER_TEXTS = ["psycopg", "server closed", "Connection refused", "terminating", "FATAL", "socket", ".s.PGSQL"]


@dataclass(frozen=True)
class Scene:
    """A service, its Postgres, and both clients."""

    postgres: OwnPostgres
    deployment: Deployment
    clients: list[Client]
    health: health_pb2_grpc.HealthStub

    def check(self, name: str) -> str:
        answer = self.health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def probe(self, path: str) -> int:
        return loopback.get(f"{self.deployment.service.http_url}{path}", timeout=5).status_code

    def is_ready(self) -> bool:
        return self.probe("/readyz") == 200

    def create(self) -> list[Reply]:
        return [client.create({"external_id": str(uuid4())}) for client in self.clients]


@pytest.fixture(scope="module")
def scene(seed: Seed) -> Iterator[Scene]:
    with seed.planted() as directory, ExitStack() as stack:
        postgres = OwnPostgres(directory)
        stack.callback(postgres.stop)
        running = stack.enter_context(deployed(postgres.conninfo))
        channel = stack.enter_context(grpc.insecure_channel(running.service.grpc_address))
        key = running.tenant.key
        clients: list[Client] = [
            GrpcClient(running.service.grpc_address, key),
            HttpClient(running.service.http_url, key),
        ]
        for client in clients:
            stack.callback(client.close)
        yield Scene(postgres, running, clients, health_pb2_grpc.HealthStub(channel))


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_an_outage_is_told_while_it_lasts_and_the_same_process_serves_again_after_it(scene: Scene, how: str) -> None:
    assert [reply.code for reply in scene.create()] == ["OK", "OK"]
    if how == "stopped":
        scene.postgres.stop()
    else:
        scene.postgres.kill()
    try:
        assert_every_call_is_unavailable_with_the_time_to_retry_and_in_no_driver_text(scene)
        assert_readiness_follows_the_database_and_liveness_does_not(scene)
    finally:
        scene.postgres.start()
    returned = time.monotonic()
    eventually(lambda: [reply.code for reply in scene.create()] == ["OK", "OK"])
    assert time.monotonic() - returned < 5.0
    eventually(scene.is_ready)
    assert [scene.check(name) for name in DATABASE_NAMES] == ["SERVING"] * 3
    assert [reply.code for _ in range(20) for reply in scene.create()] == ["OK"] * 40
    assert "Traceback" not in scene.deployment.service.errors


def assert_every_call_is_unavailable_with_the_time_to_retry_and_in_no_driver_text(scene: Scene) -> None:
    with ThreadPoolExecutor() as pool:
        written = [pool.submit(client.create, {"external_id": str(uuid4())}) for client in scene.clients]
        read = [pool.submit(client.get, str(uuid4())) for client in scene.clients]
    for reply in (call.result() for call in (*written, *read)):
        assert reply.code == "UNAVAILABLE"
        assert reply.retry_after is not None
        assert reply.retry_after > 0
        assert not [text for text in DRIVER_TEXTS if text.lower() in reply.message.lower()]


def assert_readiness_follows_the_database_and_liveness_does_not(scene: Scene) -> None:
    eventually(lambda: not scene.is_ready())
    assert [scene.check(name) for name in DATABASE_NAMES] == ["NOT_SERVING"] * 3
    assert scene.check("liveness") == "SERVING"
    assert scene.probe("/livez") == 200
    assert scene.probe("/readyz") == 503
    variables = environment(PARTICIPANTS_GRPC_ADDRESS=scene.deployment.service.grpc_address)
    assert run("health", env=variables).returncode == 1


def test_a_read_only_postgres_is_not_ready_and_makes_writes_unavailable(scene: Scene) -> None:
    assert [reply.code for reply in scene.create()] == ["OK", "OK"]
    printed = len(scene.deployment.service.errors)
    with scene.postgres.read_only():
        eventually(lambda: not scene.is_ready())
        replies = [reply for _ in range(10) for reply in scene.create()]
        assert {reply.code for reply in replies} == {"UNAVAILABLE"}
        assert all(reply.retry_after for reply in replies)
        assert scene.probe("/livez") == 200
    eventually(scene.is_ready)
    eventually(lambda: [reply.code for reply in scene.create()] == ["OK", "OK"])
    log = scene.deployment.service.errors[printed:]
    assert "Traceback" not in log
    assert "INSERT" not in log


def test_a_frozen_postgres_is_not_ready_within_seconds(scene: Scene) -> None:
    with scene.postgres.frozen():
        frozen = time.monotonic()
        eventually(lambda: not scene.is_ready())
        assert time.monotonic() - frozen < 6.0
    eventually(scene.is_ready)
    eventually(lambda: [reply.code for reply in scene.create()] == ["OK", "OK"])


def test_every_command_gives_up_on_a_postgres_that_accepts_and_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor() as pool:
        variables = environment(DATABASE_URL=f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]}/postgres")
        commands = ("serve", "migrate", "keys list", "keys create --organization acme", "programs list")
        completed = list(pool.map(lambda command: run(*command.split(), env=variables), commands))
    assert ["cannot reach the database" in refusal(command) for command in completed] == [True] * len(commands)


def test_what_was_acknowledged_before_a_crash_of_postgres_is_there_after_it(scene: Scene) -> None:
    acknowledged: list[str] = []
    enough = threading.Event()

    def write_until_it_fails() -> None:
        while True:
            reply = scene.clients[0].create({"external_id": str(uuid4())})
            if reply.code != "OK":
                return
            acknowledged.append(reply.participant["id"])
            if len(acknowledged) >= 100:
                enough.set()

    writers = [threading.Thread(target=write_until_it_fails) for _ in range(4)]
    for writer in writers:
        writer.start()
    assert enough.wait(20)
    scene.postgres.kill()
    for writer in writers:
        writer.join()
    scene.postgres.start()
    eventually(scene.is_ready)
    with psycopg.connect(scene.postgres.conninfo) as connection:
        stored = connection.execute("SELECT participant_id::text FROM participants").fetchall()
    assert set(acknowledged) <= {participant_id for (participant_id,) in stored}


def test_idle_connections_that_postgres_closed_do_not_fail_the_next_call(scene: Scene) -> None:
    def read_at_once() -> set[str]:
        """Makes more calls at once than there are connections."""
        with ThreadPoolExecutor(16) as callers:
            replies = callers.map(lambda n: scene.clients[n % 2].get(str(uuid4())), range(32))
            return {reply.code for reply in replies}

    eventually(lambda: [reply.code for reply in scene.create()] == ["OK", "OK"])
    assert read_at_once() == {"NOT_FOUND"}
    with psycopg.connect(scene.postgres.conninfo, autocommit=True) as admin:
        closed = admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'participants'"
        ).fetchall()
    assert len(closed) > 1
    assert [reply.code for reply in scene.create()] == ["OK", "OK"]
    assert read_at_once() == {"NOT_FOUND"}
