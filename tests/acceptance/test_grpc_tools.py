"""What people and other programs call the service with: grpcurl, buf curl, and channels without stubs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2

from tests.conftest import Deployment
from tests.support.clients import reply_from_rpc_error

TOOLS = Path(sys.executable).parent
SERVICE = "participants.v1.ParticipantService"
METHOD = f"{SERVICE}/CreateParticipant"


def tool(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TOOLS / command[0], *command[1:]], capture_output=True, text=True, timeout=30, check=False)


def grpcurl(deployment: Deployment, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return tool("grpcurl", "-plaintext", *options, deployment.service.grpc_address, *arguments)


def buf_curl(deployment: Deployment, *options: str, path: str = METHOD) -> subprocess.CompletedProcess[str]:
    url = f"http://{deployment.service.grpc_address}/{path}"
    return tool("buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge", *options, url)


def test_grpcurl_lists_the_services_without_a_key(deployment: Deployment) -> None:
    listed = grpcurl(deployment, "list").stdout.split()
    assert {SERVICE, "grpc.health.v1.Health"} <= set(listed)


def test_grpcurl_describes_the_service_without_a_key(deployment: Deployment) -> None:
    described = grpcurl(deployment, "describe", SERVICE).stdout
    assert "rpc CreateParticipant" in described
    assert 'post:"/v1/participants"' in described.replace(" ", "")


def test_grpcurl_describes_the_rules_of_a_request(deployment: Deployment) -> None:
    described = grpcurl(deployment, "describe", "participants.v1.CreateParticipantRequest").stdout
    assert "max_len" in described


@pytest.mark.parametrize(
    ("symbol", "comment"),
    [
        pytest.param("participants.v1.CreateParticipantRequest", "// The caller's identifier for", id="fields"),
        pytest.param("participants.v1.Participant.external_id", "// The caller's identifier for", id="field"),
        pytest.param("participants.v1.Participant", "// A participant is what a loyalty", id="message"),
        pytest.param(f"{SERVICE}.CreateParticipant", "// Creates a participant, or updates", id="RPC"),
        pytest.param("participants.v1.Participant.Status", "// Lifecycle state.", id="enum"),
    ],
)
def test_grpcurl_shows_the_comments(deployment: Deployment, symbol: str, comment: str) -> None:
    assert comment in grpcurl(deployment, "describe", symbol).stdout


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_has_the_comments_in_both_versions(deployment: Deployment, version: str) -> None:
    answer = reflected(deployment, version, reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
    files = map(FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
    commented = {file.name for file in files if file.source_code_info.location}
    assert commented == {"participants/v1/participant.proto", "participants/v1/participant_service.proto"}


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_in_both_versions(deployment: Deployment, version: str) -> None:
    answer = reflected(deployment, version, reflection_pb2.ServerReflectionRequest(list_services=""))
    services = {service.name for service in answer.list_services_response.service}
    assert {SERVICE, f"grpc.reflection.{version}.ServerReflection"} <= services


def reflected(deployment: Deployment, version: str, request: Any) -> Any:
    with grpc.insecure_channel(deployment.service.grpc_address) as channel:
        call: Any = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
        (answer,) = call(iter([request.SerializeToString()]), timeout=10)
    return reflection_pb2.ServerReflectionResponse.FromString(answer)


def test_grpcurl_calls_with_a_key(deployment: Deployment) -> None:
    body = json.dumps({"external_id": "grpcurl"})
    called = grpcurl(deployment, METHOD, options=("-H", f"x-api-key: {deployment.tenant.key}", "-d", body))
    assert json.loads(called.stdout)["participant"]["external_id"] == "grpcurl"


def test_grpcurl_is_refused_without_a_key(deployment: Deployment) -> None:
    called = grpcurl(deployment, METHOD, options=("-d", json.dumps({"external_id": "grpcurl"})))
    assert called.returncode != 0
    assert "Unauthenticated" in called.stderr
    assert "API_KEY_INVALID" in called.stderr


def test_buf_curl_lists_the_services_without_a_key(deployment: Deployment) -> None:
    listed = buf_curl(deployment, "--list-services", path="").stdout.split()
    assert {SERVICE, "grpc.health.v1.Health"} <= set(listed)


def test_buf_curl_lists_the_methods_without_a_key(deployment: Deployment) -> None:
    listed = buf_curl(deployment, "--list-methods", path="").stdout.split()
    assert METHOD in listed


def test_buf_curl_calls_with_a_key(deployment: Deployment) -> None:
    body = json.dumps({"external_id": "buf"})
    called = buf_curl(deployment, "--header", f"x-api-key: {deployment.tenant.key}", "--data", body)
    assert called.returncode == 0, called
    assert json.loads(called.stdout)["participant"]["external_id"] == "buf"


def test_buf_curl_is_refused_without_a_key(deployment: Deployment) -> None:
    called = buf_curl(deployment, "--data", json.dumps({"external_id": "buf"}))
    assert called.returncode != 0
    assert json.loads(called.stderr)["code"] == "unauthenticated"


def failed_call(deployment: Deployment, method: str, request: bytes, *metadata: tuple[str, str]) -> Any:
    """Sends bytes as they are, and returns the error."""
    with grpc.insecure_channel(deployment.service.grpc_address) as channel:
        call: Any = channel.unary_unary(f"/{method}", request_serializer=None, response_deserializer=None)
        with pytest.raises(grpc.RpcError) as error:
            call(request, metadata=(("x-api-key", deployment.tenant.key), *metadata), timeout=10)
    return error.value


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"\xff\xff\xff", id="no message"),
        pytest.param(b"\x0a\x05abc", id="cut off"),
        pytest.param(b"\x0a\x02\xff\xfe", id="not UTF-8"),
    ],
)
def test_a_message_that_does_not_parse_is_an_invalid_argument(deployment: Deployment, request_bytes: bytes) -> None:
    reply = reply_from_rpc_error(failed_call(deployment, METHOD, request_bytes))
    assert reply.code == "INVALID_ARGUMENT"
    assert [reason for _, reason in reply.violations] == ["MALFORMED"]


@pytest.mark.parametrize("method", [f"{SERVICE}/DropParticipant", "participants.v1.NoService/CreateParticipant"])
def test_a_method_that_does_not_exist_is_unimplemented(deployment: Deployment, method: str) -> None:
    assert failed_call(deployment, method, b"").code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_error_carries_a_request_id(deployment: Deployment) -> None:
    first, second = (request_id(failed_call(deployment, METHOD, b"")) for _ in range(2))
    assert first
    assert first != second


def test_an_error_carries_the_request_id_of_the_caller(deployment: Deployment) -> None:
    assert request_id(failed_call(deployment, METHOD, b"", ("x-request-id", "order-17"))) == "order-17"


@pytest.mark.parametrize("given", ["", "with a space", "x" * 129, '"quoted"'])
def test_a_request_id_that_is_not_sane_is_replaced(deployment: Deployment, given: str) -> None:
    answered = request_id(failed_call(deployment, METHOD, b"", ("x-request-id", given)))
    assert answered
    assert answered != given


def request_id(error: Any) -> str:
    return str(dict(error.trailing_metadata())["x-request-id"])
