"""Spans, as a collector gets them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2
from participants.v1.participant_service_pb2 import CreateParticipantRequest

from server.config import ConfigurationError
from server.operations.traces import root_share
from tests.acceptance.test_logs import call_grpc, call_http, line
from tests.conftest import Deployment, deployed
from tests.support.process import environment, eventually, refusal

METHOD = "participants.v1.ParticipantService/CreateParticipant"
PARENT = "00f067aa0ba902b7"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.spans: list[trace_pb2.Span] = []
        self.resources: list[dict[str, Any]] = []

    def Export(self, request: Any, context: object) -> trace_service_pb2.ExportTraceServiceResponse:  # noqa: N802
        for resource_spans in request.resource_spans:
            self.resources.append(attributes(resource_spans.resource))
            for scope_spans in resource_spans.scope_spans:
                self.spans.extend(scope_spans.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, trace_id: str) -> dict[str, trace_pb2.Span]:
        """The spans of a trace by name."""
        return {span.name: span for span in self.spans if span.trace_id.hex() == trace_id}


def attributes(of: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@pytest.fixture(scope="module")
def collector_and_address() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(scope="module")
def collector(collector_and_address: tuple[Collector, str]) -> Collector:
    return collector_and_address[0]


@pytest.fixture(scope="module")
def deployment(
    new_database: Callable[[], AbstractContextManager[str]], collector_and_address: tuple[Collector, str]
) -> Iterator[Deployment]:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector_and_address[1],
        "OTEL_TRACES_SAMPLER": "parentbased_always_off",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "PARTICIPANTS_LOG_FORMAT": "json",
    }
    with new_database() as conninfo, deployed(conninfo, **variables) as running:
        yield running


def create(deployment: Deployment, transport: str, external_id: str, **headers: str) -> None:
    if transport == "grpc":
        call_grpc(deployment, CreateParticipantRequest(external_id=external_id), **headers)
    else:
        call_http(deployment, {"external_id": external_id}, **headers)


@pytest.mark.parametrize(("transport", "trace_id"), [("grpc", "a" * 32), ("http", "b" * 32)])
def test_a_call_of_a_trace_has_a_span_and_so_has_its_statement(
    deployment: Deployment, collector: Collector, transport: str, trace_id: str
) -> None:
    create(deployment, transport, f"canary-{transport}", traceparent=f"00-{trace_id}-{PARENT}-01")
    eventually(lambda: len(collector.of(trace_id)) == 2)
    call, statement = collector.of(trace_id)[METHOD], collector.of(trace_id)["upsert participants"]
    assert call.parent_span_id.hex() == PARENT
    assert call.kind == trace_pb2.Span.SPAN_KIND_SERVER
    found = attributes(call)
    assert found.pop("network.peer.address").startswith("ipv4:127.0.0.1:")
    assert found == {"rpc.system.name": "grpc", "rpc.method": METHOD, "rpc.response.status_code": "OK"}
    assert call.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    assert statement.parent_span_id == call.span_id
    assert [link.span_id for link in statement.links] == [call.span_id]
    assert attributes(statement) == {
        "db.system.name": "postgresql", "db.operation.name": "upsert", "db.operation.batch.size": 1,
    }  # fmt: skip
    assert call.start_time_unix_nano <= statement.start_time_unix_nano
    assert statement.end_time_unix_nano <= call.end_time_unix_nano
    assert {resource["service.name"] for resource in collector.resources} == {"participants"}
    assert b"canary" not in b"".join(span.SerializeToString() for span in collector.spans)


def test_a_call_that_fails_says_so(deployment: Deployment, collector: Collector) -> None:
    trace_id = "c" * 32
    create(deployment, "grpc", "", traceparent=f"00-{trace_id}-{PARENT}-01", x_request_id="failed")
    eventually(lambda: METHOD in collector.of(trace_id))
    span = collector.of(trace_id)[METHOD]
    assert attributes(span)["rpc.response.status_code"] == "INVALID_ARGUMENT"
    # The caller's error, and not the service's.
    assert span.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    assert line(deployment, request_id="failed")["trace_id"] == trace_id


def test_a_trace_that_is_not_recorded_has_no_spans_and_is_in_the_log_all_the_same(
    deployment: Deployment, collector: Collector
) -> None:
    before = len(collector.spans)
    # Of another organization than what failed before, or it might only be counted.
    headers = {"x_api_key": deployment.stranger.key, "x_request_id": "unsampled"}
    create(deployment, "http", "", traceparent=f"00-{'d' * 32}-{PARENT}-00", **headers)
    create(deployment, "http", "no-trace")
    assert line(deployment, request_id="unsampled")["trace_id"] == "d" * 32
    create(deployment, "grpc", "last", traceparent=f"00-{'e' * 32}-{PARENT}-01")
    eventually(lambda: len(collector.of("e" * 32)) == 2)
    assert len(collector.spans) == before + 2


@pytest.mark.parametrize(
    ("sampler", "argument", "share"),
    [
        (None, None, 1.0),
        ("parentbased_always_on", None, 1.0),
        ("always_off", None, 0.0),
        ("parentbased_traceidratio", "0.01", 0.01),
        ("traceidratio", None, 1.0),
    ],
)
def test_the_share_of_new_traces_is_as_opentelemetry_has_it(
    sampler: str | None, argument: str | None, share: float
) -> None:
    given = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert root_share({name: value for name, value in given.items() if value is not None}) == share


def test_a_sampler_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        root_share({"OTEL_TRACES_SAMPLER": "jaeger_remote"})


def test_where_the_library_is_not_installed_asking_for_traces_is_refused(database: str) -> None:
    # What Python finds first says that there is none.
    blocked = "import sys; sys.modules['opentelemetry'] = None; from server.cli import main; main()"
    completed = subprocess.run(
        [sys.executable, "-c", blocked, "serve"],
        env=environment(DATABASE_URL=database, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1"),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "extra `tracing`" in refusal(completed)


def test_a_collector_that_is_away_fails_nothing(
    new_database: Callable[[], AbstractContextManager[str]],
) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with new_database() as conninfo, deployed(conninfo, **variables) as running:
        # Whoever is told no request id was answered.
        assert call_grpc(running, CreateParticipantRequest(external_id="untold")) is None
        assert running.service.stop() == 0
