"""The two doors, gRPC and HTTP, behind one interface, so that a test of the contract goes through both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import httpx
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

from server.errors import Code

# The JSON of a participant as the contract has it.
JSON_OPTIONS = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}


@dataclass
class Reply:
    """What a call came to, in the words of gRPC whichever door it went through.

    `code` is OK or the name of a gRPC code. `result` is CREATED, or over HTTP EXISTED in place of UPDATED and
    UNCHANGED, which HTTP does not tell apart. `violations` are by field path.
    """

    code: str
    participant: dict[str, Any] = field(default_factory=dict)
    result: str = ""
    message: str = ""
    violations: list[tuple[str, str]] = field(default_factory=list)
    retry_after: float | None = None

    @property
    def fields(self) -> list[str]:
        return [path for path, _ in self.violations]


class Door(Protocol):
    """One way into the service."""

    name: str

    def create(self, request: Mapping[str, Any], key: str | None = None) -> Reply:
        """Calls CreateParticipant with the fields of a request, as JSON has them."""

    def get(self, participant_id: str, key: str | None = None) -> Reply:
        """Calls GetParticipant."""

    def close(self) -> None:
        """Closes the connections."""


class GrpcDoor:
    """The way in through generated stubs."""

    name = "grpc"

    def __init__(self, address: str, key: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self.stub = ParticipantServiceStub(self._channel)
        self._key = key

    def create(self, request: Mapping[str, Any], key: str | None = None) -> Reply:
        message = json_format.ParseDict(dict(request), messages.CreateParticipantRequest())
        return self._call(self.stub.CreateParticipant, message, key)

    def get(self, participant_id: str, key: str | None = None) -> Reply:
        return self._call(self.stub.GetParticipant, messages.GetParticipantRequest(id=participant_id), key)

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: Any, request: Message, key: str | None) -> Reply:
        metadata = [("x-api-key", self._key if key is None else key)]
        try:
            response = method(request, metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            return reply_from_rpc_error(error)
        participant = json_format.MessageToDict(response.participant, **JSON_OPTIONS)  # type: ignore[arg-type]  # options by name
        result = ""
        if isinstance(response, messages.CreateParticipantResponse):
            result = messages.CreateParticipantResponse.Result.Name(response.result)
        return Reply("OK", participant, result)


def reply_from_rpc_error(error: Any) -> Reply:
    """Returns what an error of grpcio's says, with the details of its google.rpc.Status."""
    status = status_pb2.Status()
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            status.ParseFromString(value)
    reply = Reply(error.code().name, message=error.details() or "")
    for detail in status.details:
        bad_request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(bad_request):
            reply.violations = [(entry.field, entry.reason) for entry in bad_request.field_violations]
        if detail.Unpack(retry):
            reply.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    return reply


class HttpDoor:
    """The way in through the JSON gateway."""

    name = "http"

    def __init__(self, url: str, key: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=10)
        self._key = key

    def create(self, request: Mapping[str, Any], key: str | None = None) -> Reply:
        return self._reply(self.client.post("/v1/participants", json=dict(request), headers=self._headers(key)))

    def get(self, participant_id: str, key: str | None = None) -> Reply:
        return self._reply(self.client.get(f"/v1/participants/{participant_id}", headers=self._headers(key)))

    def close(self) -> None:
        self.client.close()

    def _headers(self, key: str | None) -> dict[str, str]:
        return {"X-API-Key": self._key if key is None else key}

    def _reply(self, response: httpx.Response) -> Reply:
        body = response.json()
        if response.is_success:
            return Reply("OK", body, "CREATED" if response.status_code == 201 else "EXISTED")
        code = next(code for code in Code if code.http_status == response.status_code)
        assert body["code"] == code.http_code
        violations = [(entry["field"], entry["reason"]) for entry in body.get("details", {}).get("fields", [])]
        retry_after = response.headers.get("retry-after")
        return Reply(
            code.name,
            message=body["message"],
            violations=violations,
            retry_after=None if retry_after is None else float(retry_after),
        )
