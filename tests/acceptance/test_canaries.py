"""Personal data and keys go to the database and to their own organization, and nowhere else, whatever fails.

Values that occur nowhere else are sent through every way to fail, and looked for in what the service printed, counted,
traced and answered to another organization.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from participants.v1 import participant_service_pb2 as messages

from tests.conftest import Deployment, deployed
from tests.support import loopback
from tests.support.clients import Client, GrpcClient, HttpClient, Reply
from tests.support.process import eventually

SECRET = uuid4().hex
CANARIES: dict[str, Any] = {
    "external_id": f"external-{SECRET}",
    "display_name": f"Display {SECRET}",
    "email": f"{SECRET}@example.com",
    "first_name": f"First {SECRET}",
    "last_name": f"Last {SECRET}",
    "phone": f"+43 {SECRET}",
    "attributes": {f"key-{SECRET}": f"value {SECRET}"},
    "tags": [f"tag-{SECRET}"],
}
LONG = SECRET * 200


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent, as text."""

    port = 0

    def __init__(self) -> None:
        self.spans: list[str] = []

    def Export(self, request: Any, context: object) -> trace_service_pb2.ExportTraceServiceResponse:  # noqa: N802
        self.spans += [
            str(span) for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Where the spans of all calls go. Its port is told by `port`."""
    server = grpc.server(ThreadPoolExecutor(2))
    made = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, server)  # type: ignore[no-untyped-call]  # generated
    made.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield made
    server.stop(None).wait()


@pytest.fixture(scope="module")
def running(new_database: Callable[[], AbstractContextManager[str]], collector: Collector) -> Iterator[Deployment]:
    traces = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with new_database() as conninfo, deployed(conninfo, **traces) as made:
        yield made


@pytest.fixture(params=["grpc", "http"])
def client(request: pytest.FixtureRequest, running: Deployment) -> Iterator[Client]:
    service, key = running.service, running.tenant.key
    made: Client = (
        GrpcClient(service.grpc_address, key) if request.param == "grpc" else HttpClient(service.http_url, key)
    )
    yield made
    made.close()


def assert_nothing_got_out(running: Deployment, *strangers_answers: object) -> None:
    """Looks for the canaries and the key everywhere but in the database and in the owner's answers."""
    url = running.service.http_url
    public = [loopback.get(f"{url}{path}").text for path in ("/metrics", "/livez", "/readyz")]
    everything = "\n".join([running.service.output, running.service.errors, *public, *map(repr, strangers_answers)])
    assert SECRET not in everything.lower()
    assert running.tenant.key[3:] not in everything
    # The secret part of it, whatever came before.
    assert running.tenant.key[-38:] not in everything


def test_the_canaries_are_kept_and_told_to_their_owner(client: Client, running: Deployment) -> None:
    reply = client.create(CANARIES)
    assert reply.code == "OK"
    told = client.get(reply.participant["id"]).participant
    assert {name: told[name] for name in CANARIES} == CANARIES
    assert_nothing_got_out(running)


def test_nothing_of_it_is_told_to_another_organization(client: Client, running: Deployment) -> None:
    participant_id = client.create(CANARIES).participant["id"]
    key = running.stranger.key
    external_id = CANARIES["external_id"]
    answers = [
        client.get(participant_id, key),
        client.lookup(external_id, key),
        client.update(participant_id, {"display_name": "x"}, key),
        client.set_status(participant_id, "CLOSED", key=key),
        client.enroll(participant_id, running.stranger.program_id, key),
        client.unenroll(participant_id, running.stranger.program_id, key),
        client.delete(participant_id, key=key),
        client.list({"page_token": client.list({"page_size": 1}).next_page_token}, key),
        client.list({"email": CANARIES["email"]}, key),
        client.list({"external_id_prefix": external_id}, key),
        client.create({"external_id": participant_id, "program_id": running.tenant.program_id}, key),
        client.create_batch([{"external_id": participant_id}, {"external_id": "x", "program_id": participant_id}], key),
        client.create({"external_id": participant_id}, running.tenant.key[:-1]),
    ]
    assert "OK" not in [answer.code for answer in answers[:7]]
    # What the stranger made itself, by the other transport too, it may see.
    seen = [participant["id"] for answer in answers for participant in answer.participants]
    assert participant_id not in seen
    assert_nothing_got_out(running, *answers)


@pytest.mark.parametrize(
    "wrong",
    [
        {"external_id": ""},
        {"external_id": LONG},
        {"email": f"{SECRET} at example.com"},
        {"phone": LONG},
        {"display_name": f"{SECRET}\0"},
        {"attributes": {f"{SECRET}\0": SECRET}},
        {"tags": [LONG]},
        {"program_id": SECRET},
        {"program_id": str(uuid4())},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_request_that_is_refused(client: Client, running: Deployment, wrong: dict[str, Any]) -> None:
    request = {**CANARIES, **wrong}
    assert client.create(request).code in {"INVALID_ARGUMENT", "NOT_FOUND"}
    assert client.create_batch([request]).items[0].code in {"INVALID_ARGUMENT", "NOT_FOUND"}
    participant_id = client.create(CANARIES).participant["id"]
    refused = [
        client.get(SECRET),
        client.lookup(LONG),
        client.list({"email": LONG}),
        client.list({"page_token": SECRET}),
        client.list({"order_by": SECRET}),
        client.update(SECRET, CANARIES),
        client.update(participant_id, {"email": f"{SECRET} at example.com"}),
        client.update(participant_id, {"add_tags": [SECRET], "remove_tags": [SECRET]}),
        client.update(participant_id, {**CANARIES, "etag": SECRET}),
        client.delete(participant_id, etag=SECRET),
        client.enroll(participant_id, SECRET),
    ]
    assert not [reply.code for reply in refused if reply.code not in {"INVALID_ARGUMENT", "NOT_FOUND", "ABORTED"}]
    assert_nothing_got_out(running)


def test_bytes_that_are_no_request(running: Deployment) -> None:
    key = running.tenant.key
    bodies = [
        f'{{"external_id": "{SECRET}',
        f'{{"{SECRET}": 1}}',
        f'["{SECRET}"]',
        f'{{"email": ["{SECRET}"]}}',
        SECRET,
    ]
    url = f"{running.service.http_url}/v1/participants"
    for body in bodies:
        answer = loopback.post(url, content=body, headers={"x-api-key": key, "content-type": "application/json"})
        assert answer.status_code == 400
    for path in (f"/v1/{SECRET}?{SECRET}={key}", f"/v1/participants/{SECRET}?key={key}"):
        assert loopback.get(f"{running.service.http_url}{path}", headers={"x-api-key": key}).is_client_error
    assert loopback.request("PURGE", f"{url}/{SECRET}", headers={"x-api-key": key}).is_client_error
    with grpc.insecure_channel(running.service.grpc_address) as channel:
        for name in ("CreateParticipant", SECRET):
            call: Any = channel.unary_unary(f"/participants.v1.ParticipantService/{name}")
            with pytest.raises(grpc.RpcError):
                call(f"\xff{SECRET}".encode("latin-1"), metadata=[("x-api-key", key)], timeout=10)
    assert_nothing_got_out(running)


def test_a_key_in_the_wrong_place_or_with_a_slip(running: Deployment) -> None:
    key, url = running.tenant.key, f"{running.service.http_url}/v1/participants"
    wrong: list[dict[str, str]] = [
        {"authorization": key},
        {"authorization": f"Basic {key}"},
        {"authorization": f"Bearer {key}x"},
        {"x-api-key": f"{key} {key}"},
        {"x-api-key": key[:-1]},
        {"x-request-id": f"{key} {SECRET}"},
        {"cookie": key},
    ]
    for headers in wrong:
        assert loopback.post(url, json=CANARIES, headers=headers).status_code == 401
    assert_nothing_got_out(running)


@contextmanager
def refusing(admin: psycopg.Connection[Any]) -> Iterator[None]:
    """The database refuses the values, and quotes the row in its error."""
    admin.execute("ALTER TABLE participants ADD CONSTRAINT refusing CHECK (display_name NOT LIKE 'Display%') NOT VALID")
    yield
    admin.execute("ALTER TABLE participants DROP CONSTRAINT refusing")


@contextmanager
def broken(admin: psycopg.Connection[Any]) -> Iterator[None]:
    """Our statements do not fit the schema, and the database quotes them in its error."""
    admin.execute("ALTER TABLE participants RENAME COLUMN phone TO telephone")
    yield
    admin.execute("ALTER TABLE participants RENAME COLUMN telephone TO phone")


@contextmanager
def failing(admin: psycopg.Connection[Any]) -> Iterator[None]:
    """A trigger of somebody's fails, and quotes the row."""
    admin.execute(
        """
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'not %', NEW USING DETAIL = NEW::text, HINT = NEW::text; END $$;
        CREATE TRIGGER failing BEFORE INSERT OR UPDATE ON participants FOR EACH ROW EXECUTE FUNCTION fail();
        """
    )
    yield
    admin.execute("DROP TRIGGER failing ON participants; DROP FUNCTION fail")


@contextmanager
def read_only(admin: psycopg.Connection[Any]) -> Iterator[None]:
    name = admin.info.dbname
    admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
    disconnect(admin)
    yield
    admin.execute("SET default_transaction_read_only = off")
    admin.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'.encode())
    disconnect(admin)


def disconnect(admin: psycopg.Connection[Any]) -> None:
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'participants'"
        " AND datname = current_database()"
    )


@pytest.mark.parametrize("fault", [refusing, broken, failing, read_only])
def test_a_database_that_fails(
    client: Client, running: Deployment, fault: Callable[[psycopg.Connection[Any]], AbstractContextManager[None]]
) -> None:
    participant_id = client.create(CANARIES).participant["id"]
    with psycopg.connect(running.conninfo, autocommit=True) as admin, fault(admin):
        changed = {**CANARIES, "external_id": f"another-{uuid4()}-{SECRET}"}
        replies = [
            client.create(changed),
            *client.create_batch([changed]).items,
            client.update(participant_id, {"display_name": f"Display {SECRET} anew"}),
        ]
        assert not [reply.code for reply in replies if reply.code == "OK"]
        answer = client.get(str(uuid4()), running.stranger.key)
    assert_nothing_got_out(running, answer, [reply.message for reply in replies])
    eventually(lambda: works_again(client).code == "OK")


def works_again(client: Client) -> Reply:
    return client.create({"external_id": "works again"})


def test_a_deadline_that_passes_and_a_caller_that_leaves(running: Deployment) -> None:
    client = GrpcClient(running.service.grpc_address, running.tenant.key)
    metadata = (("x-api-key", running.tenant.key),)
    with psycopg.connect(running.conninfo) as admin:
        admin.execute("LOCK TABLE participants IN ACCESS EXCLUSIVE MODE")
        request = json_format.ParseDict(CANARIES, messages.CreateParticipantRequest())
        with pytest.raises(grpc.RpcError):
            client.stub.CreateParticipant(request, metadata=metadata, timeout=0.1)
        leaving = client.stub.CreateParticipant.future(request, metadata=metadata, timeout=10)
        leaving.cancel()
    client.close()
    assert_nothing_got_out(running)


def test_no_span_of_all_these_calls_has_any_of_it(running: Deployment, collector: Collector) -> None:
    before = len(collector.spans)
    client = HttpClient(running.service.http_url, running.tenant.key)
    assert client.create({**CANARIES, "email": SECRET}).code == "INVALID_ARGUMENT"
    client.close()
    eventually(lambda: len(collector.spans) > before)
    spans = "\n".join(collector.spans)
    assert "INVALID_ARGUMENT" in spans
    assert SECRET not in spans.lower()
    assert running.tenant.key[3:] not in spans
