"""Errors look the same whichever client they leave by."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.rpc import code_pb2
from participants.v1 import participant_service_pb2 as messages

from server.api.status import status_from_error
from server.errors import (
    DOMAIN,
    Code,
    Conflict,
    DeadlineExceeded,
    FieldViolation,
    Internal,
    InvalidArgument,
    NotFound,
    Overloaded,
    ServiceError,
    Unauthenticated,
    Unavailable,
)
from server.gateway.answers import answer_from_error
from tests.conftest import Deployment
from tests.support.clients import Client, GrpcClient, HttpClient, Reply, reply_from_rpc_error, reply_from_status

# What the README says.
TABLE = [
    (name, int(http_status), http_code)
    for name, http_status, http_code in re.findall(
        r"^\| `([A-Z_]+)` \| (\d+) \| `(\w+)` \|$",
        (Path(__file__).parents[2] / "README.md").read_text(),
        flags=re.MULTILINE,
    )
]
VIOLATIONS = (FieldViolation("tags[2]", "STRING_MAX_LEN", "too long"), FieldViolation("email", "EMAIL", "no address"))
# Every error that the service knows, its reason, and after how many seconds to retry.
ERRORS: list[tuple[ServiceError, str, str, float | None]] = [
    (InvalidArgument(VIOLATIONS), "INVALID_ARGUMENT", "INVALID_FIELDS", None),
    (InvalidArgument((), "not JSON", reason="MALFORMED_JSON"), "INVALID_ARGUMENT", "MALFORMED_JSON", None),
    (Unauthenticated(), "UNAUTHENTICATED", "API_KEY_INVALID", None),
    (NotFound("no such thing", reason="PARTICIPANT_NOT_FOUND"), "NOT_FOUND", "PARTICIPANT_NOT_FOUND", None),
    (Conflict("locked"), "ABORTED", "PARTICIPANT_LOCKED", 0.5),
    (Overloaded("full"), "RESOURCE_EXHAUSTED", "QUEUE_FULL", 1.0),
    (Unavailable(), "UNAVAILABLE", "DATABASE_UNAVAILABLE", 1.0),
    (DeadlineExceeded(), "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", None),
    (Internal("5c1b"), "INTERNAL", "INTERNAL", None),
]


def failing(code: Code) -> ServiceError:
    """Returns an error with this code."""
    error = ServiceError("a sentence", reason="A_REASON")
    error.code = code
    return error


@pytest.mark.parametrize(("name", "http_status", "http_code"), TABLE)
def test_a_code_looks_as_the_table_has_it(name: str, http_status: int, http_code: str) -> None:
    error = failing(Code[name])
    status, answer = status_from_error(error), answer_from_error(error)
    assert status.code == code_pb2.Code.Value(name) == grpc.StatusCode[name].value[0]
    assert answer.status == http_status
    assert json.loads(answer.body) == {"code": http_code, "message": "a sentence"}


def test_the_table_has_every_code() -> None:
    assert {code.name for code in Code} == {name for name, _, _ in TABLE}


@pytest.mark.parametrize(("error", "code", "reason", "retry_after"), ERRORS, ids=lambda value: type(value).__name__)
def test_a_status_always_has_error_info(error: ServiceError, code: str, reason: str, retry_after: float | None) -> None:
    reply = reply_from_status(status_from_error(error))
    assert (reply.code, reply.reason, reply.domain) == (code, reason, "participants.v1")
    assert (reply.message, reply.retry_after) == (error.message, retry_after)
    assert reply.violations == [(violation.field, violation.reason) for violation in error.violations]


@pytest.mark.parametrize(("error", "code", "reason", "retry_after"), ERRORS, ids=lambda value: type(value).__name__)
def test_http_says_when_to_retry_and_what_is_wrong(
    error: ServiceError, code: str, reason: str, retry_after: float | None
) -> None:
    answer = answer_from_error(error)
    expected: dict[str, Any] = {"code": Code[code].http_code, "message": error.message}
    if error.violations:
        expected["details"] = {
            "fields": [
                {"field": violation.field, "reason": violation.reason, "message": violation.message}
                for violation in error.violations
            ]
        }
    assert json.loads(answer.body) == expected
    # Retry-After has whole seconds, and waiting too short would be in vain.
    assert answer.headers.get("retry-after") == (None if retry_after is None else "1")
    assert answer.headers.get("www-authenticate") == ("Bearer" if code == "UNAUTHENTICATED" else None)


@pytest.mark.parametrize(
    ("call", "code", "reason"),
    [
        (lambda client: client.create({"external_id": ""}), "INVALID_ARGUMENT", "INVALID_FIELDS"),
        (lambda client: client.get("demo"), "INVALID_ARGUMENT", "INVALID_FIELDS"),
        (lambda client: client.create_batch([{}] * 1001), "INVALID_ARGUMENT", "INVALID_FIELDS"),
        (lambda client: client.create({"external_id": "x"}, key="sk_"), "UNAUTHENTICATED", "API_KEY_INVALID"),
        (lambda client: client.get(str(uuid4())), "NOT_FOUND", "PARTICIPANT_NOT_FOUND"),
        (
            lambda client: client.create({"external_id": "x", "program_id": str(uuid4())}),
            "NOT_FOUND",
            "PROGRAM_NOT_FOUND",
        ),
    ],
    ids=["bad field", "bad id", "batch too large", "no key", "no participant", "no program"],
)
def test_a_refusal_says_why(client: Client, call: Callable[[Client], Reply], code: str, reason: str) -> None:
    reply = call(client)
    assert reply.code == code
    assert reply.message
    assert reply.retry_after is None
    if client.name == "grpc":
        assert (reply.reason, reply.domain) == (reason, DOMAIN)


@contextmanager
def both_clients(deployment: Deployment) -> Iterator[list[Client]]:
    service, key = deployment.service, deployment.tenant.key
    with ExitStack() as stack:
        clients: list[Client] = [GrpcClient(service.grpc_address, key), HttpClient(service.http_url, key)]
        for client in clients:
            stack.callback(client.close)
        yield clients


def test_a_participant_that_stays_locked_is_aborted_with_a_time_to_retry(
    deployment: Deployment, external_id: str
) -> None:
    with both_clients(deployment) as clients, ThreadPoolExecutor(len(clients)) as pool:
        requests = [{"external_id": f"{external_id}-{client.name}", "first_name": "Jane"} for client in clients]
        before = [
            client.create({"external_id": request["external_id"]}).participant
            for client, request in zip(clients, requests, strict=True)
        ]
        with psycopg.connect(deployment.conninfo) as connection:
            connection.execute(
                "SELECT FROM participants WHERE participant_id = ANY(%s::uuid[]) FOR UPDATE",
                ([participant["id"] for participant in before],),
            )
            calls = [pool.submit(client.create, request) for client, request in zip(clients, requests, strict=True)]
            grpc_reply, http_reply = (call.result() for call in calls)
        assert (grpc_reply.code, grpc_reply.reason, grpc_reply.domain) == ("ABORTED", "PARTICIPANT_LOCKED", DOMAIN)
        assert (grpc_reply.retry_after, http_reply.code, http_reply.retry_after) == (0.5, "ABORTED", 1.0)
        after = [client.get(participant["id"]).participant for client, participant in zip(clients, before, strict=True)]
        assert after == before


def test_a_locked_participant_keeps_no_other_from_being_written(
    client: Client, deployment: Deployment, external_id: str
) -> None:
    locked = client.create({"external_id": external_id}).participant
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(deployment.conninfo) as connection:
            connection.execute("SELECT FROM participants WHERE participant_id = %s FOR UPDATE", (locked["id"],))
            waiting = pool.submit(client.create, {"external_id": external_id, "first_name": "Jane"})
            others = [client.create({"external_id": f"{external_id}-{number}"}).result for number in range(10)]
            assert not waiting.done()
        assert others == ["CREATED"] * 10
        assert waiting.result().participant["first_name"] == "Jane"


@pytest.mark.parametrize(
    "request_",
    [b"\xff", b"\x0a\x05ab", b"\x0a\x02\xc3\x28", b"\x0a\x03\xed\xa0\x80"],
    ids=["nonsense", "cut off", "not UTF-8", "a surrogate"],
)
def test_a_message_that_does_not_parse_is_an_invalid_argument(deployment: Deployment, request_: bytes) -> None:
    with grpc.insecure_channel(deployment.service.grpc_address) as channel:
        call: Any = channel.unary_unary("/participants.v1.ParticipantService/CreateParticipant")
        with pytest.raises(grpc.RpcError) as raised:
            call(request_, metadata=(("x-api-key", deployment.tenant.key),), timeout=10)
    reply = reply_from_rpc_error(raised.value)
    assert (reply.code, reply.reason, reply.domain) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST", DOMAIN)


@pytest.mark.parametrize("given", ["5c1b-42", None], ids=["the caller's", "a new one"])
def test_a_grpc_error_carries_a_request_id(deployment: Deployment, given: str | None) -> None:
    client = GrpcClient(deployment.service.grpc_address, deployment.tenant.key)
    metadata = (("x-api-key", deployment.tenant.key), *((("x-request-id", given),) if given else ()))
    with pytest.raises(grpc.RpcError) as raised:
        client.stub.CreateParticipant(messages.CreateParticipantRequest(), metadata=metadata)
    client.close()
    error: Any = raised.value
    request_id = dict(error.trailing_metadata())["x-request-id"]
    assert request_id == given or len(request_id) == 32
