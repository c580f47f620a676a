"""The two clients, gRPC and HTTP, behind one interface, so that a test of the API goes through both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from tests.support import loopback

# The JSON of a participant as callers see it.
JSON_OPTIONS: dict[str, Any] = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}

# What the JSON of a participant of which only the external_id was given has beside the ids and the times.
EMPTY = {
    "status": "ACTIVE",
    "attributes": {},
    "tags": [],
    "program_ids": [],
    "counters": {},
    "balances": [],
    "tiers": {},
}


@dataclass
class Reply:
    """What a call came to, in the words of gRPC whichever client it went through.

    `code` is OK or the name of a gRPC code. `result` is CREATED, or over HTTP EXISTED in place of UPDATED and
    UNCHANGED, which HTTP does not tell apart. `violations` are by field path. `reason` and `domain` are those of
    ErrorInfo, which HTTP has only in the items of a batch. `items` are the results of a batch; `participants` and
    `next_page_token` are a page of a list.
    """

    code: str
    participant: dict[str, Any] = field(default_factory=dict)
    result: str = ""
    message: str = ""
    violations: list[tuple[str, str]] = field(default_factory=list)
    retry_after: float | None = None
    reason: str = ""
    domain: str = ""
    items: list[Reply] = field(default_factory=list)
    participants: list[dict[str, Any]] = field(default_factory=list)
    next_page_token: str = ""

    @property
    def fields(self) -> list[str]:
        return [path for path, _ in self.violations]


class Client(Protocol):
    """One way into the service."""

    name: str

    def create(self, request: Mapping[str, Any], key: str | None = None) -> Reply:
        """Calls CreateParticipant with the fields of a request, as JSON has them."""

    def get(self, participant_id: str, key: str | None = None) -> Reply:
        """Calls GetParticipant."""

    def create_batch(self, requests: Sequence[Mapping[str, Any]], key: str | None = None) -> Reply:
        """Calls BatchCreateParticipants with the fields of each request, as JSON has them."""

    def lookup(self, external_id: str, key: str | None = None) -> Reply:
        """Calls LookupParticipant."""

    def list(self, request: Mapping[str, Any], key: str | None = None) -> Reply:
        """Calls ListParticipants with the fields of a request, as JSON has them."""

    def update(self, participant_id: str, changes: Mapping[str, Any], key: str | None = None) -> Reply:
        """Calls UpdateParticipant with the fields of a request but for the id, as JSON has them."""

    def set_status(self, participant_id: str, status: str, etag: str = "", key: str | None = None) -> Reply:
        """Calls SetParticipantStatus."""

    def enroll(self, participant_id: str, program_id: str, key: str | None = None) -> Reply:
        """Calls EnrollParticipant."""

    def unenroll(self, participant_id: str, program_id: str, key: str | None = None) -> Reply:
        """Calls UnenrollParticipant."""

    def delete(self, participant_id: str, etag: str = "", key: str | None = None) -> Reply:
        """Calls DeleteParticipant."""

    def expected(self, result: str) -> str:
        """Returns what `Reply.result` of CreateParticipant is when the service did this."""

    def close(self) -> None:
        """Closes the connections."""


class GrpcClient:
    """The way in through generated stubs."""

    name = "grpc"

    def __init__(self, address: str, key: str, timeout: float = 10.0) -> None:
        # The largest participant is larger than what clients take by default; and clients would share connections.
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(address, options=options)
        self.stub = ParticipantServiceStub(self._channel)
        self._key = key
        self._timeout = timeout

    def create(self, request: Mapping[str, Any], key: str | None = None) -> Reply:
        message = json_format.ParseDict(dict(request), messages.CreateParticipantRequest())
        return self._call(self.stub.CreateParticipant, message, key, _reply_from_created)

    def get(self, participant_id: str, key: str | None = None) -> Reply:
        message = messages.GetParticipantRequest(id=participant_id)
        return self._call(self.stub.GetParticipant, message, key, _reply_from_read)

    def create_batch(self, requests: Sequence[Mapping[str, Any]], key: str | None = None) -> Reply:
        message = json_format.ParseDict(
            {"requests": [dict(request) for request in requests]}, messages.BatchCreateParticipantsRequest()
        )
        return self._call(self.stub.BatchCreateParticipants, message, key, _reply_from_batch)

    def lookup(self, external_id: str, key: str | None = None) -> Reply:
        message = messages.LookupParticipantRequest(external_id=external_id)
        return self._call(self.stub.LookupParticipant, message, key, _reply_from_read)

    def list(self, request: Mapping[str, Any], key: str | None = None) -> Reply:
        message = json_format.ParseDict(dict(request), messages.ListParticipantsRequest())
        return self._call(self.stub.ListParticipants, message, key, _reply_from_page)

    def update(self, participant_id: str, changes: Mapping[str, Any], key: str | None = None) -> Reply:
        message = json_format.ParseDict({**changes, "id": participant_id}, messages.UpdateParticipantRequest())
        return self._call(self.stub.UpdateParticipant, message, key, _reply_from_read)

    def set_status(self, participant_id: str, status: str, etag: str = "", key: str | None = None) -> Reply:
        fields = {"id": participant_id, "status": status, "etag": etag}
        message = json_format.ParseDict(fields, messages.SetParticipantStatusRequest())
        return self._call(self.stub.SetParticipantStatus, message, key, _reply_from_read)

    def enroll(self, participant_id: str, program_id: str, key: str | None = None) -> Reply:
        message = messages.EnrollParticipantRequest(id=participant_id, program_id=program_id)
        return self._call(self.stub.EnrollParticipant, message, key, _reply_from_read)

    def unenroll(self, participant_id: str, program_id: str, key: str | None = None) -> Reply:
        message = messages.UnenrollParticipantRequest(id=participant_id, program_id=program_id)
        return self._call(self.stub.UnenrollParticipant, message, key, _reply_from_read)

    def delete(self, participant_id: str, etag: str = "", key: str | None = None) -> Reply:
        message = messages.DeleteParticipantRequest(id=participant_id, etag=etag)
        return self._call(self.stub.DeleteParticipant, message, key, lambda _: Reply("OK"))

    def expected(self, result: str) -> str:
        return result

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: Any, request: Message, key: str | None, reply: Callable[[Any], Reply]) -> Reply:
        metadata = [("x-api-key", self._key if key is None else key)]
        try:
            response = method(request, metadata=metadata, timeout=self._timeout)
        except grpc.RpcError as error:
            return reply_from_rpc_error(error)
        return reply(response)


def _reply_from_created(response: Any) -> Reply:
    result = messages.CreateParticipantResponse.Result.Name(response.result)
    return Reply("OK", _json_of(response.participant), result)


def _reply_from_read(response: Any) -> Reply:
    return Reply("OK", _json_of(response.participant))


def _reply_from_page(response: Any) -> Reply:
    participants = [_json_of(participant) for participant in response.participants]
    return Reply("OK", participants=participants, next_page_token=response.next_page_token)


def _reply_from_batch(response: Any) -> Reply:
    return Reply(
        "OK",
        items=[
            reply_from_status(item.status) if item.HasField("status") else _reply_from_created(item)
            for item in response.results
        ],
    )


def _json_of(participant: Message) -> dict[str, Any]:
    return json_format.MessageToDict(participant, **JSON_OPTIONS)


def reply_from_rpc_error(error: Any) -> Reply:
    """Returns what an error of grpcio's says, with the details of its google.rpc.Status if it has one."""
    metadata = dict(error.trailing_metadata() or ())
    if "grpc-status-details-bin" in metadata:
        reply = reply_from_status(status_pb2.Status.FromString(metadata["grpc-status-details-bin"]))
        assert (reply.code, reply.message) == (error.code().name, error.details())
        pushback = metadata.get("grpc-retry-pushback-ms")
        assert reply.retry_after == (None if pushback is None else float(pushback) / 1000)
        return reply
    return Reply(error.code().name, message=error.details() or "")


def reply_from_status(status: Any) -> Reply:
    """Returns what a google.rpc.Status says."""
    reply = Reply(next(code.name for code in Code if code.number == status.code), message=status.message)
    for detail in status.details:
        bad_request, retry, info = (
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
            error_details_pb2.ErrorInfo(),
        )
        if detail.Unpack(bad_request):
            reply.violations = [(entry.field, entry.reason) for entry in bad_request.field_violations]
        if detail.Unpack(retry):
            reply.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        if detail.Unpack(info):
            reply.reason, reply.domain = info.reason, info.domain
    return reply


class HttpClient:
    """The way in through the JSON gateway."""

    name = "http"

    def __init__(self, url: str, key: str) -> None:
        self.client = loopback.Client(base_url=url, timeout=10)
        self._key = key

    def create(self, request: Mapping[str, Any], key: str | None = None) -> Reply:
        return self._reply(self._send("POST", "/v1/participants", key, json=dict(request)))

    def create_from(self, body: str) -> Reply:
        """Calls CreateParticipant with a body as it stands."""
        return self._reply(self._send_json("/v1/participants", body))

    def get(self, participant_id: str, key: str | None = None) -> Reply:
        return self._reply(self.client.get(f"/v1/participants/{participant_id}", headers=self._headers(key)))

    def create_batch(self, requests: Sequence[Mapping[str, Any]], key: str | None = None) -> Reply:
        body = {"requests": [dict(request) for request in requests]}
        return self._batch_reply(self._send("POST", "/v1/participants:batchCreate", key, json=body))

    def batch_from(self, body: str) -> Reply:
        """Calls BatchCreateParticipants with a body as it stands."""
        return self._batch_reply(self._send_json("/v1/participants:batchCreate", body))

    def lookup(self, external_id: str, key: str | None = None) -> Reply:
        return self._reply(self._send("GET", "/v1/participants:lookup", key, params={"external_id": external_id}))

    def list(self, request: Mapping[str, Any], key: str | None = None) -> Reply:
        response = self._send("GET", "/v1/participants", key, params=dict(request))
        if not response.is_success:
            return self._reply(response)
        page = response.json()
        return Reply("OK", participants=page.get("participants", []), next_page_token=page.get("next_page_token", ""))

    def update(self, participant_id: str, changes: Mapping[str, Any], key: str | None = None) -> Reply:
        return self._reply(self._send("PATCH", f"/v1/participants/{participant_id}", key, json=dict(changes)))

    def set_status(self, participant_id: str, status: str, etag: str = "", key: str | None = None) -> Reply:
        body = {"status": status, "etag": etag}
        return self._reply(self._send("PATCH", f"/v1/participants/{participant_id}/status", key, json=body))

    def enroll(self, participant_id: str, program_id: str, key: str | None = None) -> Reply:
        return self._reply(self._send("PUT", f"/v1/participants/{participant_id}/programs/{program_id}", key))

    def unenroll(self, participant_id: str, program_id: str, key: str | None = None) -> Reply:
        return self._reply(self._send("DELETE", f"/v1/participants/{participant_id}/programs/{program_id}", key))

    def delete(self, participant_id: str, etag: str = "", key: str | None = None) -> Reply:
        response = self._send(
            "DELETE", f"/v1/participants/{participant_id}", key, params={"etag": etag} if etag else {}
        )
        if not response.is_success:
            return self._reply(response)
        assert (response.status_code, response.content) == (204, b"")
        return Reply("OK")

    def _send(self, method: str, path: str, key: str | None, **content: Any) -> httpx.Response:
        return self.client.request(method, path, headers=self._headers(key), **content)

    def _send_json(self, path: str, body: str) -> httpx.Response:
        headers = {**self._headers(None), "content-type": "application/json"}
        return self.client.post(path, content=body, headers=headers)

    def expected(self, result: str) -> str:
        return "CREATED" if result == "CREATED" else "EXISTED"

    def close(self) -> None:
        self.client.close()

    def _headers(self, key: str | None) -> dict[str, str]:
        return {"X-API-Key": self._key if key is None else key}

    def _reply(self, response: httpx.Response) -> Reply:
        body = response.json()
        if response.is_success:
            return Reply("OK", body, "CREATED" if response.status_code == 201 else "EXISTED")
        code = next(code for code in Code if code.http_code == body["code"])
        assert response.status_code == code.http_status
        violations = [(entry["field"], entry["reason"]) for entry in body.get("details", {}).get("fields", [])]
        retry_after = response.headers.get("retry-after")
        return Reply(
            code.name,
            message=body["message"],
            violations=violations,
            retry_after=None if retry_after is None else float(retry_after),
        )

    def _batch_reply(self, response: httpx.Response) -> Reply:
        if not response.is_success:
            return self._reply(response)
        assert response.status_code == 200
        return Reply("OK", items=[_reply_from_json_item(item) for item in response.json()["results"]])


def _reply_from_json_item(item: Mapping[str, Any]) -> Reply:
    if "status" in item:
        assert set(item) == {"status"}
        return reply_from_status(json_format.ParseDict(item["status"], status_pb2.Status()))
    return Reply("OK", item["participant"], item["result"])
