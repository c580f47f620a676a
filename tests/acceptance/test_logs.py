"""The log, in both formats and of calls over both transports."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from uuid import uuid4

import grpc
import pytest
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

from tests.conftest import Deployment, deployed
from tests.support import loopback
from tests.support.process import eventually

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def deployment(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Deployment]:
    with new_database() as conninfo, deployed(conninfo, PARTICIPANTS_LOG_FORMAT="json") as running:
        yield running


def lines(deployment: Deployment, **fields: object) -> list[dict[str, Any]]:
    """The lines that have these fields, those included that are still being written."""
    found = [json.loads(line) for line in deployment.service.errors.splitlines()]
    return [line for line in found if fields.items() <= line.items()]


def line(deployment: Deployment, **fields: object) -> dict[str, Any]:
    """Waits for the one line that has these fields."""
    eventually(lambda: len(lines(deployment, **fields)) == 1)
    return lines(deployment, **fields)[0]


def call_grpc(deployment: Deployment, request: messages.CreateParticipantRequest, **metadata: str) -> str | None:
    """Creates a participant, and returns the request id that the caller was told, if any."""
    metadata.setdefault("x_api_key", deployment.tenant.key)
    sent = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
    with grpc.insecure_channel(deployment.service.grpc_address) as channel:
        try:
            ParticipantServiceStub(channel).CreateParticipant(request, metadata=sent, timeout=10)
        except grpc.RpcError as error:
            return request_id_told(error)
    return None


def request_id_told(error: Any) -> str:
    return next(str(value) for name, value in error.trailing_metadata() if name == "x-request-id")


def call_http(deployment: Deployment, body: dict[str, Any], **headers: str) -> str:
    headers.setdefault("x_api_key", deployment.tenant.key)
    response = loopback.post(
        f"{deployment.service.http_url}/v1/participants",
        json=body,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    return str(response.headers["x-request-id"])


def test_a_failed_call_has_a_line_under_the_id_that_its_caller_was_told(deployment: Deployment) -> None:
    told = [
        call_grpc(deployment, messages.CreateParticipantRequest(), traceparent=TRACEPARENT),
        call_http(deployment, {"external_id": ""}, traceparent=TRACEPARENT, x_api_key=deployment.stranger.key),
    ]
    for request_id, tenant in zip(told, (deployment.tenant, deployment.stranger), strict=True):
        found = line(deployment, request_id=request_id)
        assert found["rpc"] == "CreateParticipant"
        assert found["code"] == "INVALID_ARGUMENT"
        assert found["reason"] == "INVALID_FIELDS"
        assert found["organization"] == tenant.organization_id
        assert found["key"] == tenant.key_id
        assert found["trace_id"] == TRACE_ID
        assert found["peer"].startswith("ipv4:127.0.0.1:")
        assert 0 < found["seconds"] < 5
        assert found["level"] == "INFO"


def test_a_caller_that_is_not_known_is_not_named(deployment: Deployment) -> None:
    request_id = call_grpc(deployment, messages.CreateParticipantRequest(external_id="a"), x_api_key="sk_unknown")
    found = line(deployment, request_id=request_id)
    assert found["code"] == "UNAUTHENTICATED"
    assert not {"organization", "key", "trace_id"} & found.keys()


def test_of_calls_that_go_well_some_have_a_line(deployment: Deployment) -> None:
    calls = 200
    before = len(lines(deployment, code="OK"))
    with loopback.Client(base_url=deployment.service.http_url, headers={"x-api-key": deployment.tenant.key}) as client:
        for number in range(calls):
            assert client.post("/v1/participants", json={"external_id": f"well-{number}"}).is_success
    eventually(lambda: len(lines(deployment, code="OK")) > before)
    assert len(lines(deployment, code="OK")) - before < calls / 4


def test_a_line_that_repeats_is_counted(deployment: Deployment) -> None:
    calls = 300
    with loopback.Client(base_url=deployment.service.http_url, headers={"x-api-key": deployment.tenant.key}) as client:
        for _ in range(calls):
            assert client.get(f"/v1/participants/{uuid4()}").status_code == 404

    def counted() -> int:
        return sum(each.get("repeated", 1) for each in lines(deployment, rpc="GetParticipant", code="NOT_FOUND"))

    eventually(lambda: counted() == calls)
    assert len(lines(deployment, rpc="GetParticipant")) < calls / 4


def test_nothing_that_a_caller_sent_is_logged(deployment: Deployment) -> None:
    canary = f"canary{uuid4().hex}"
    valid: dict[str, Any] = {
        "external_id": canary, "display_name": canary, "email": f"{canary}@example.com", "phone": canary,
        "attributes": {canary: canary}, "tags": [canary],
    }  # fmt: skip
    for body in (
        valid,
        {**valid, "email": canary},
        {**valid, "program_id": str(uuid4())},
        {**valid, "status": canary},
        {**valid, canary: canary},
        {**valid, "attributes": {canary: canary * 1000}},
        {**valid, "display_name": f"{canary}\0"},
    ):
        call_http(deployment, body, x_request_id="canary-test", traceparent=canary, user_agent=canary)

    def was_logged() -> bool:
        call_http(deployment, valid, x_api_key=f"sk_{canary}", x_request_id="canary-last")
        return bool(lines(deployment, request_id="canary-last"))

    # It may be that the first of them is only counted.
    eventually(was_logged)
    assert canary not in deployment.service.errors
    assert deployment.tenant.key not in deployment.service.errors


def test_in_text_a_line_is_for_people(shared_deployment: Deployment) -> None:
    call_http(shared_deployment, {"external_id": ""}, x_request_id="told")
    service = shared_deployment.service
    eventually(lambda: "request_id=told" in service.errors)
    [found] = [each for each in service.errors.splitlines() if "request_id=told" in each]
    assert "INFO server.operations.call_log: call rpc=CreateParticipant code=INVALID_ARGUMENT" in found
