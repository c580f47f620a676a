"""The gateway's JSON is proto3 JSON: what json_format makes of a message or takes for one, so do we."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import any_pb2, json_format
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st
from participants.v1 import participant_pb2, participant_service_pb2

from server.errors import InvalidArgument
from server.gateway.decoding import MessageDecoder
from server.gateway.encoding import MessageEncoder
from tests.support.clients import JSON_OPTIONS

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
maybe = st.none() | text

requests = st.fixed_dictionaries(
    {},
    optional={
        "external_id": maybe,
        "display_name": maybe,
        "email": maybe,
        "first_name": maybe,
        "last_name": maybe,
        "phone": maybe,
        "program_id": maybe,
        "status": st.none()
        | st.sampled_from(["STATUS_UNSPECIFIED", "ACTIVE", "SUSPENDED", "CLOSED"])
        | st.integers(-(2**31), 2**31 - 1),
        "attributes": st.none() | st.dictionaries(text, text, max_size=4),
        "tags": st.none() | st.lists(text, max_size=4),
    },
)
batches = st.fixed_dictionaries({}, optional={"requests": st.none() | st.lists(requests, max_size=4)})

# What no field takes, and what some field does not.
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from([field.name for field in participant_service_pb2.CreateParticipantRequest.DESCRIPTOR.fields])
guesses = st.dictionaries(names | text, anything, max_size=4)


@given(requests)
def test_a_request_decodes_as_json_format_decodes_it(value: dict[str, Any]) -> None:
    assert_same_message(value, participant_service_pb2.CreateParticipantRequest)


@given(batches)
def test_a_batch_decodes_as_json_format_decodes_it(value: dict[str, Any]) -> None:
    assert_same_message(value, participant_service_pb2.BatchCreateParticipantsRequest)


def assert_same_message(
    value: dict[str, Any],
    kind: type[
        participant_service_pb2.CreateParticipantRequest | participant_service_pb2.BatchCreateParticipantsRequest
    ],
) -> None:
    body = json.dumps(value).encode()
    assert MessageDecoder(kind.DESCRIPTOR).decode(body) == json_format.Parse(body, kind())


@given(guesses)
def test_what_decodes_is_what_json_format_would_have_decoded(value: dict[str, Any]) -> None:
    kind = participant_service_pb2.CreateParticipantRequest
    body = json.dumps(value).encode()
    try:
        decoded = MessageDecoder(kind.DESCRIPTOR).decode(body)
    except InvalidArgument:
        return
    assert decoded == json_format.Parse(body, kind())


@given(st.binary(max_size=40))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    try:
        MessageDecoder(participant_service_pb2.CreateParticipantRequest.DESCRIPTOR).decode(body)
    except InvalidArgument as error:
        assert error.message  # noqa: PT017  # some bytes are a request, and nothing is raised


timestamps = st.builds(
    Timestamp,
    seconds=st.integers(-62135596800, 253402300799),
    nanos=st.just(0)
    | st.integers(0, 999).map(lambda milliseconds: milliseconds * 1_000_000)
    | st.integers(0, 999_999).map(lambda microseconds: microseconds * 1_000)
    | st.integers(0, 999_999_999),
)
participants = st.builds(
    participant_pb2.Participant,
    id=text,
    external_id=text,
    status=st.integers(0, 3),
    display_name=maybe,
    email=maybe,
    first_name=maybe,
    last_name=maybe,
    phone=maybe,
    attributes=st.dictionaries(text, text, max_size=3),
    tags=st.lists(text, max_size=3),
    program_ids=st.lists(text, max_size=3),
    counters=st.dictionaries(text, text, max_size=3),
    balances=st.lists(
        st.builds(participant_pb2.Participant.Balance, asset_id=text, available=text, held=text, deferred=text),
        max_size=2,
    ),
    tiers=st.dictionaries(
        text,
        st.builds(participant_pb2.Participant.Tier, level=text, rank=st.integers(-(2**31), 2**31 - 1)),
        max_size=2,
    ),
    created_at=st.none() | timestamps,
    updated_at=st.none() | timestamps,
)


def status(code: int, message: str, reason: str) -> status_pb2.Status:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="participants.v1"))
    return status_pb2.Status(code=code, message=message, details=[detail])


items = st.builds(
    participant_service_pb2.BatchCreateParticipantsResponse.Item,
    participant=st.none() | participants,
    result=st.none() | st.integers(0, 3),
    status=st.none() | st.builds(status, st.integers(0, 16), text, text),
)


@given(participants)
def test_a_participant_encodes_as_json_format_encodes_it(participant: participant_pb2.Participant) -> None:
    encoded = MessageEncoder(participant_pb2.Participant.DESCRIPTOR).encode(participant)
    assert json.loads(encoded) == json_format.MessageToDict(participant, **JSON_OPTIONS)


@given(st.builds(participant_service_pb2.BatchCreateParticipantsResponse, results=st.lists(items, max_size=3)))
def test_a_batch_encodes_as_json_format_encodes_it(
    response: participant_service_pb2.BatchCreateParticipantsResponse,
) -> None:
    encoded = MessageEncoder(participant_service_pb2.BatchCreateParticipantsResponse.DESCRIPTOR).encode(response)
    assert json.loads(encoded) == json_format.MessageToDict(response, **JSON_OPTIONS)


@pytest.mark.parametrize("name", ["external_id", "display_name", "program_id"])
def test_names_are_those_of_the_protos_only(name: str) -> None:
    first, *others = name.split("_")
    camel = first + "".join(other.title() for other in others)
    with pytest.raises(InvalidArgument) as refused:
        MessageDecoder(participant_service_pb2.CreateParticipantRequest.DESCRIPTOR).decode(
            json.dumps({camel: "x"}).encode()
        )
    assert [(violation.field, violation.reason) for violation in refused.value.violations] == [(camel, "UNKNOWN_FIELD")]
