"""Between the messages of the protos and the plain Python of the use case."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2
from participants.v1 import participant_pb2
from participants.v1 import participant_service_pb2 as messages

from server.api.fast_validation import has_too_many_items, is_short_and_plain, is_trivially_valid
from server.api.status import MAX_VIOLATION_BYTES, status_from_error
from server.api.validation import validate
from server.errors import ServiceError
from server.participants.model import (
    Outcome,
    Participant,
    ParticipantNames,
    Rejected,
    Result,
    Status,
    Upsert,
    Written,
    etag,
)

Answer = TypeVar(
    "Answer",
    messages.GetParticipantResponse,
    messages.LookupParticipantResponse,
    messages.UpdateParticipantResponse,
    messages.SetParticipantStatusResponse,
    messages.EnrollParticipantResponse,
    messages.UnenrollParticipantResponse,
)

STATUS_NAMES: dict[int, str | None] = {
    participant_pb2.Participant.STATUS_UNSPECIFIED: None,
    participant_pb2.Participant.ACTIVE: Status.ACTIVE.value,
    participant_pb2.Participant.SUSPENDED: Status.SUSPENDED.value,
    participant_pb2.Participant.CLOSED: Status.CLOSED.value,
}
_STATUS_NUMBERS = {
    Status.ACTIVE.value: participant_pb2.Participant.ACTIVE,
    Status.SUSPENDED.value: participant_pb2.Participant.SUSPENDED,
    Status.CLOSED.value: participant_pb2.Participant.CLOSED,
}
# Of these fields a request tells whether they were sent.
_OPTIONAL: tuple[Any, ...] = ("display_name", "email", "first_name", "last_name", "phone", "program_id")
_Item = messages.BatchCreateParticipantsResponse.Item
_RESULTS = messages.BatchCreateParticipantsResponse.DESCRIPTOR.fields_by_name["results"]
_RESULT_NUMBERS = {
    Result.CREATED.value: messages.CreateParticipantResponse.CREATED,
    Result.UPDATED.value: messages.CreateParticipantResponse.UPDATED,
    Result.UNCHANGED.value: messages.CreateParticipantResponse.UNCHANGED,
}


def upsert_from_request(
    request: messages.CreateParticipantRequest, organization_id: str, *, whole: bool = True
) -> Upsert:
    """Returns what a request asks to be written for an organization. Raises InvalidArgument."""
    serialized = request.SerializeToString()
    is_plain = is_short_and_plain(serialized)
    if not is_plain and has_too_many_items(request):
        validate(request)
    attributes = request.attributes
    upsert = Upsert(
        organization_id=organization_id,
        external_id=request.external_id,
        # dict() and items() of a protobuf map take longer.
        attributes={key: attributes[key] for key in attributes},
        tags=request.tags[:],
        size=len(serialized),
        whole=whole,
        status=STATUS_NAMES.get(request.status, "unknown"),
        program_id=request.program_id or None,
        display_name=request.display_name or None,
        email=request.email or None,
        first_name=request.first_name or None,
        last_name=request.last_name or None,
        phone=request.phone or None,
    )
    if not is_plain:
        _clear_what_was_sent_empty(upsert, request)
    if not is_trivially_valid(upsert, is_plain=is_plain):
        validate(request)
    return upsert


def _clear_what_was_sent_empty(upsert: Upsert, request: messages.CreateParticipantRequest) -> None:
    for field in _OPTIONAL:
        if getattr(upsert, field) is None and request.HasField(field):
            setattr(upsert, field, "")


def create_response(written: Written) -> messages.CreateParticipantResponse:
    """Returns the answer to CreateParticipant."""
    response = messages.CreateParticipantResponse(result=_RESULT_NUMBERS[written.result])
    fill(response.participant, written.participant)
    return response


def answer(response: Answer, participant: Participant) -> Answer:
    """Returns an empty response with a participant put in."""
    fill(response.participant, participant)
    return response


def batch_result(outcome: Outcome | status_pb2.Status) -> bytes:
    """Returns the answer to a batch with one result, as bytes: one behind the other they are the whole on the wire."""
    item = _Item()
    if isinstance(outcome, Written):
        item.result = _RESULT_NUMBERS[outcome.result]
        fill(item.participant, outcome.participant)
    else:
        item.status.CopyFrom(item_status(outcome.error) if isinstance(outcome, Rejected) else outcome)
    # To put it into a message of its own takes a quarter longer.
    serialized = item.SerializeToString()
    return _before_result(len(serialized)) + serialized


@lru_cache(4096)
def _before_result(size: int) -> bytes:
    """Returns what comes before a result of so many bytes: its tag and its size, as protobuf's encoding has it."""
    before = bytearray((_RESULTS.number << 3 | 2,))
    while size >= 128:
        before.append(size & 127 | 128)
        size >>= 7
    before.append(size)
    return bytes(before)


def item_status(error: ServiceError) -> status_pb2.Status:
    """Returns what is said of an item of a batch of which nothing was written."""
    return status_from_error(error, limit=MAX_VIOLATION_BYTES)


def fill(message: participant_pb2.Participant, participant: Participant | ParticipantNames) -> None:
    """Sets the fields of an empty message, in place: one that is made by itself is copied into its response."""
    if isinstance(participant, ParticipantNames):
        message.id, message.external_id, revision = participant
        message.etag = etag(message.id, revision)
        return
    # Taken apart at once: to ask for one field after the other takes longer than to set them.
    (
        id_, external_id, revision, status, display_name, email, first_name, last_name, phone, tags,
        created_at, updated_at, program_ids, attributes, counters, balances, tiers,
    ) = participant  # fmt: skip
    message.id = id_
    message.external_id = external_id
    message.etag = etag(id_, revision)
    message.status = _STATUS_NUMBERS[status]
    if display_name is not None:
        message.display_name = display_name
    if email is not None:
        message.email = email
    if first_name is not None:
        message.first_name = first_name
    if last_name is not None:
        message.last_name = last_name
    if phone is not None:
        message.phone = phone
    message.tags.extend(tags)
    _set_timestamp(message.created_at, created_at)
    _set_timestamp(message.updated_at, updated_at)
    # update() of a protobuf map takes longer.
    map_ = message.attributes
    for key, value in attributes.items():
        map_[key] = value
    if program_ids:
        message.program_ids.extend(program_ids)
    if counters or balances or tiers:
        _fill_earned(message, participant)


def _fill_earned(message: participant_pb2.Participant, participant: Participant) -> None:
    for key, value in participant.counters.items():
        message.counters[key] = value
    for balance in participant.balances:
        message.balances.add(**asdict(balance))
    for key, tier in participant.tiers.items():
        message.tiers[key].level = tier.level
        message.tiers[key].rank = tier.rank


def _set_timestamp(message: Timestamp, microseconds: int) -> None:
    message.seconds, fraction = divmod(microseconds, 1_000_000)
    message.nanos = fraction * 1000
