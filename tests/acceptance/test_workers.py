"""Several workers on the same two ports."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest

from tests.conftest import Deployment, deployed
from tests.support import loopback
from tests.support.clients import GrpcClient, HttpClient
from tests.support.process import environment, run

WORKERS = 3
VARIABLES = {"PARTICIPANTS_WORKERS": str(WORKERS), "PARTICIPANTS_OPERATIONS_ADDRESS": "127.0.0.1:0"}


@pytest.fixture(scope="module")
def deployment(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Deployment]:
    with new_database() as conninfo, deployed(conninfo, **VARIABLES) as running:
        yield running


def workers(deployment: Deployment) -> set[int]:
    """The pids of the running workers."""
    return {child.pid for child in psutil.Process(deployment.service.pid).children() if _is_worker(child)}


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        # It has ended meanwhile.
        return False


def wait_until(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def shown(deployment: Deployment, metric: str) -> float:
    exposition = loopback.get(f"{deployment.service.operations_url}/metrics").text
    return sum(float(value) for value in re.findall(rf"^{metric}(?:\{{.*\}})? (\S+)$", exposition, re.MULTILINE))


def calls_counted(deployment: Deployment) -> float:
    return shown(deployment, "grpc_server_handled_total")


def test_all_workers_share_both_ports_and_count_together(deployment: Deployment) -> None:
    assert len(workers(deployment)) == WORKERS
    before = calls_counted(deployment)
    for _ in range(10):
        # A new connection each, which the kernel gives to any worker.
        for client in (
            GrpcClient(deployment.service.grpc_address, deployment.tenant.key),
            HttpClient(deployment.service.http_url, deployment.tenant.key),
        ):
            assert client.create({"external_id": f"shared-{uuid4()}"}).result == "CREATED"
            client.close()
    # A worker tells the others what it counted twice a second; then all of them show the same.
    wait_until(lambda: [calls_counted(deployment) - before for _ in range(6)] == [20.0] * 6)


def test_first_calls_for_one_key_through_different_workers_make_one_participant(deployment: Deployment) -> None:
    external_id = f"contended-{uuid4()}"

    def create(number: int) -> tuple[str, str]:
        client = HttpClient(deployment.service.http_url, deployment.tenant.key)
        reply = client.create({"external_id": external_id, "attributes": {f"caller-{number}": "here"}})
        client.close()
        return reply.result, reply.participant["id"]

    with ThreadPoolExecutor(32) as pool:
        replies = list(pool.map(create, range(64)))
    assert [result for result, _ in replies].count("CREATED") == 1
    (participant_id,) = {participant_id for _, participant_id in replies}
    client = HttpClient(deployment.service.http_url, deployment.tenant.key)
    assert len(client.get(participant_id).participant["attributes"]) == 64
    client.close()


def test_a_worker_that_dies_is_replaced_while_the_others_serve(deployment: Deployment) -> None:
    before = workers(deployment)
    victim = min(before)
    client = HttpClient(deployment.service.http_url, deployment.tenant.key)
    client.create({"external_id": f"counted-{uuid4()}"})
    client.close()
    wait_until(lambda: calls_counted(deployment) > 0)
    counted = calls_counted(deployment)
    psutil.Process(victim).kill()
    wait_until(lambda: len(workers(deployment) - {victim}) == WORKERS)
    assert f"worker {victim} died" in deployment.service.errors

    def serves() -> bool:
        try:
            return all(loopback.get(f"{deployment.service.http_url}/readyz").is_success for _ in range(10))
        except httpx.TransportError:
            return False

    wait_until(serves)
    # What the dead worker counted stays, and what it last said of itself goes: it would be ready for ever.
    assert calls_counted(deployment) >= counted > 0
    wait_until(lambda: WORKERS * 2 <= shown(deployment, "participants_pool_connections") <= WORKERS * 10)
    directory = Path(psutil.Process(min(workers(deployment))).environ()["PROMETHEUS_MULTIPROC_DIR"])
    assert {int(file.stem.split("_")[-1]) for file in directory.glob("gauge_live*")} == workers(deployment)


def test_a_second_service_notices_that_the_ports_are_taken(deployment: Deployment) -> None:
    env = environment(
        DATABASE_URL=deployment.conninfo,
        PARTICIPANTS_GRPC_ADDRESS=deployment.service.grpc_address,
        PARTICIPANTS_HTTP_ADDRESS="127.0.0.1:0",
        PARTICIPANTS_WORKERS="2",
    )
    refused = run("serve", env=env)
    assert refused.returncode == 1
    assert "PARTICIPANTS_GRPC_ADDRESS" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_the_supervisor_loads_nothing_that_serves(deployment: Deployment) -> None:
    """It would take the time and the memory of one more worker."""
    serving = ("/cygrpc", "/httptools")
    assert [name for name in serving if name in Path(f"/proc/{min(workers(deployment))}/maps").read_text()] == [
        *serving
    ]
    assert [name for name in serving if name in Path(f"/proc/{deployment.service.pid}/maps").read_text()] == []


def test_being_told_to_end_stops_all_workers(new_database: Callable[[], AbstractContextManager[str]]) -> None:
    with new_database() as conninfo, deployed(conninfo, PARTICIPANTS_WORKERS="2") as running:
        assert_it_stops_all_workers(signal.SIGTERM, running)


# The last one, for it ends the service that they share.
def test_an_interrupt_stops_all_workers(deployment: Deployment) -> None:
    assert_it_stops_all_workers(signal.SIGINT, deployment)


def assert_it_stops_all_workers(number: signal.Signals, running: Deployment) -> None:
    pids = workers(running)
    assert pids
    running.service.signal(number)
    assert running.service.wait() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert "Traceback" not in running.service.errors
