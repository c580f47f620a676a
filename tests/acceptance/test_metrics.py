"""What /metrics shows, of one worker and of two."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from uuid import uuid4

import psutil
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from server.operations.metrics import SAMPLE_EVERY
from server.rpc.request_message import MAX_CALLS
from tests.bench.http2 import ACK, Type, frame
from tests.conftest import Deployment, deployed
from tests.hostile.grpc_wire import SERVICE, Wire, headers
from tests.support import loopback
from tests.support.clients import GrpcClient, HttpClient
from tests.support.manifests import queries
from tests.support.process import eventually

LOOKUP = f"{SERVICE}/LookupParticipant"

# By name: the type, and the labels that a value has beside `le`.
CALL = {"grpc_type", "grpc_service", "grpc_method"}
METRICS: dict[str, tuple[str, set[str]]] = {
    "grpc_server_started": ("counter", CALL),
    "grpc_server_handled": ("counter", CALL | {"grpc_code"}),
    "grpc_server_handling_seconds": ("histogram", CALL | {"grpc_code"}),
    "http_server_request_duration_seconds": (
        "histogram",
        {"http_request_method", "http_route", "http_response_status_code"},
    ),
    "participants_statement_upserts": ("histogram", set()),
    "participants_statement_seconds": ("histogram", set()),
    "participants_retries": ("counter", set()),
    "participants_refusals": ("counter", {"reason"}),
    "participants_event_loop_lag_seconds": ("histogram", set()),
    "participants_queue_upserts": ("gauge", set()),
    "participants_calls_waiting": ("gauge", set()),
    "participants_queue_bytes": ("gauge", set()),
    "participants_pool_connections": ("gauge", set()),
    "participants_pool_connections_in_use": ("gauge", set()),
    "participants_pool_waiting": ("gauge", set()),
    "participants_ready": ("gauge", set()),
    "participants_draining": ("gauge", set()),
    "participants_build_info": ("gauge", {"version", "python", "grpcio"}),
    "process_cpu_seconds": ("counter", set()),
    "process_resident_memory_bytes": ("gauge", set()),
    "process_virtual_memory_bytes": ("gauge", set()),
    "process_start_time_seconds": ("gauge", set()),
    "process_open_fds": ("gauge", set()),
    "process_max_fds": ("gauge", set()),
}


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def deployment(new_database: Callable[[], AbstractContextManager[str]], workers: int) -> Iterator[Deployment]:
    with new_database() as conninfo, deployed(conninfo, PARTICIPANTS_WORKERS=str(workers)) as running:
        yield running


def scrape(deployment: Deployment) -> dict[str, Metric]:
    # A new connection each time, which the kernel gives to any worker.
    response = loopback.get(f"{deployment.service.http_url}/metrics")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def value(deployment: Deployment, name: str, **labels: str) -> float:
    """The sum of a name's values with these labels, 0 where there are none."""
    return sum(
        sample.value
        for family in scrape(deployment).values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def call_by_each_door(deployment: Deployment, times: int) -> None:
    """Creates a participant over gRPC and over HTTP so many times, and is refused once by each."""
    for _ in range(times):
        for client in clients(deployment, deployment.tenant.key):
            assert client.create({"external_id": f"counted-{uuid4()}"}).result == "CREATED"
            client.close()
    for client in clients(deployment, "sk_unknown"):
        assert client.create({"external_id": "refused"}).code == "UNAUTHENTICATED"
        client.close()


def clients(deployment: Deployment, key: str) -> tuple[GrpcClient, HttpClient]:
    return GrpcClient(deployment.service.grpc_address, key), HttpClient(deployment.service.http_url, key)


def test_calls_whose_deadlines_pass_before_they_are_taken_in_are_counted(deployment: Deployment) -> None:
    def counted(**labels: str) -> float:
        return value(deployment, "grpc_server_handled_total", grpc_method="LookupParticipant", **labels)

    before, streams = counted(), range(1, 2 * MAX_CALLS, 2)
    with Wire(deployment.service.grpc_address) as wire:
        wire.send(frame(Type.SETTINGS, ACK, 0))
        # All at once: the last of them wait for longer than they may.
        wire.send(b"".join(headers(stream, LOOKUP, [("grpc-timeout", "1m")], ended=True) for stream in streams))
        eventually(lambda: counted() == before + MAX_CALLS)
    assert counted(grpc_code="DEADLINE_EXCEEDED") > 0


def test_every_metric_has_its_type_and_its_labels(deployment: Deployment) -> None:
    call_by_each_door(deployment, 1)

    def shown() -> dict[str, tuple[str, set[str]]]:
        return {
            name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
            for name, family in scrape(deployment).items()
        }

    # A worker tells the others what it counted twice a second.
    eventually(lambda: shown() == METRICS)


def test_calls_are_counted_once_whichever_worker_took_them(deployment: Deployment) -> None:
    # No other test sends batches.
    method = {"grpc_service": "participants.v1.ParticipantService", "grpc_method": "BatchCreateParticipants"}
    expected = {
        ("grpc_server_started_total", None): 12,
        ("grpc_server_handled_total", "OK"): 10,
        ("grpc_server_handled_total", "UNAUTHENTICATED"): 2,
        ("grpc_server_handling_seconds_count", "OK"): 10,
    }
    # What the tests before have written is told by then.
    time.sleep(2 * SAMPLE_EVERY)
    written = value(deployment, "participants_statement_upserts_sum")
    for _ in range(5):
        for client in clients(deployment, deployment.tenant.key):
            client.create_batch([{"external_id": f"counted-{uuid4()}"} for _ in range(3)])
            client.close()
    for client in clients(deployment, "sk_unknown"):
        assert client.create_batch([{"external_id": "refused"}]).code == "UNAUTHENTICATED"
        client.close()

    def counted() -> dict[tuple[str, str | None], float]:
        return {
            (name, code): value(deployment, name, **method, **({"grpc_code": code} if code else {}))
            for name, code in expected
        }

    # A worker tells the others what it counted twice a second; then all of them show the same.
    eventually(lambda: all(counted() == expected for _ in range(3)))
    eventually(lambda: value(deployment, "participants_statement_upserts_sum") - written == 30)
    requests = {"http_request_method": "POST", "http_route": "/v1/participants:batchCreate"}
    assert value(deployment, "http_server_request_duration_seconds_count", **requests) == 6
    assert value(deployment, "participants_refusals_total", reason="API_KEY_INVALID") >= 2


def test_paths_and_methods_that_callers_choose_make_no_series(deployment: Deployment) -> None:
    with loopback.Client(base_url=deployment.service.http_url) as caller:
        for method in ("PROPFIND", "MKCOL", "REPORT"):
            assert caller.get(f"/nothing/{method}").status_code == 404
            assert caller.request(method, "/nothing").status_code == 404
            assert caller.get(f"/v1/participants/{uuid4()}").status_code == 401
    labels = {
        (sample.labels["http_request_method"], sample.labels["http_route"])
        for sample in scrape(deployment)["http_server_request_duration_seconds"].samples
    }
    assert labels <= {
        ("GET", ""),
        ("_OTHER", ""),
        ("GET", "/v1/participants/{id}"),
        ("GET", "/metrics"),
        ("POST", "/v1/participants"),
        ("POST", "/v1/participants:batchCreate"),
    }


def test_nothing_shown_says_who_called(deployment: Deployment) -> None:
    call_by_each_door(deployment, 1)
    exposition = loopback.get(f"{deployment.service.http_url}/metrics").text
    tenant = deployment.tenant
    for secret in (tenant.key, tenant.key_id, tenant.organization_id, tenant.name):
        assert secret not in exposition


def test_gauges_say_what_is(deployment: Deployment, workers: int) -> None:
    eventually(lambda: value(deployment, "participants_ready") == 1)
    assert value(deployment, "participants_draining") == 0
    # At the least those that each worker's pool keeps open.
    eventually(lambda: value(deployment, "participants_pool_connections") >= 2 * workers)
    assert value(deployment, "participants_queue_upserts") == 0
    memory = value(deployment, "process_resident_memory_bytes")
    processes = [psutil.Process(deployment.service.pid)]
    if workers > 1:
        processes = [child for child in processes[0].children() if "spawn_main" in " ".join(child.cmdline())]
    assert memory == pytest.approx(sum(process.memory_info().rss for process in processes), rel=0.2)


def test_alerts_and_dashboard_ask_for_what_there_is(deployment: Deployment) -> None:
    call_by_each_door(deployment, 1)
    shown = {sample.name for family in scrape(deployment).values() for sample in family.samples}
    recorded = r"participants:\w+:\w+"
    asked = {
        name
        for query in queries()
        for name in re.findall(r"\b(?:grpc_server|http_server|participants|process)_\w+", re.sub(recorded, "", query))
    }
    # Where TLS is off, there is no certificate.
    assert asked - {"participants_certificate_expiry_timestamp_seconds"} <= shown
    assert len(asked) > 15
