"""Between the messages of the protos and the plain Python of the use case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from participants.v1 import participant_pb2
from participants.v1 import participant_service_pb2 as messages

from server.api.fast_validation import has_too_many_items, is_trivially_valid
from server.api.status import MAX_VIOLATION_BYTES, status_from_error
from server.api.validation import validate
from server.participants.model import (
    Outcome,
    Participant,
    ParticipantNames,
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
_RESULT_NUMBERS = {
    Result.CREATED.value: messages.CreateParticipantResponse.CREATED,
    Result.UPDATED.value: messages.CreateParticipantResponse.UPDATED,
    Result.UNCHANGED.value: messages.CreateParticipantResponse.UNCHANGED,
}


def upsert_from_request(
    request: messages.CreateParticipantRequest, organization_id: str, *, whole: bool = True
) -> Upsert:
    """Returns what a request asks to be written for an organization. Raises InvalidArgument."""
    if has_too_many_items(request):
        validate(request)
    attributes = request.attributes
    upsert = Upsert(
        organization_id=organization_id,
        external_id=request.external_id,
        display_name=request.display_name or _empty_or_none(request, "display_name"),
        email=request.email or _empty_or_none(request, "email"),
        first_name=request.first_name or _empty_or_none(request, "first_name"),
        last_name=request.last_name or _empty_or_none(request, "last_name"),
        phone=request.phone or _empty_or_none(request, "phone"),
        program_id=request.program_id or _empty_or_none(request, "program_id"),
        status=STATUS_NAMES.get(request.status, "unknown"),
        # dict() and items() of a protobuf map take longer.
        attributes={key: attributes[key] for key in attributes},
        tags=request.tags[:],
        size=request.ByteSize(),
        whole=whole,
    )
    if not is_trivially_valid(upsert):
        validate(request)
    return upsert


def _empty_or_none(request: messages.CreateParticipantRequest, field: Any) -> str | None:
    """Returns what an empty field means: it was sent as such, or not at all."""
    return "" if request.HasField(field) else None


def create_response(written: Written) -> messages.CreateParticipantResponse:
    """Returns the answer to CreateParticipant."""
    response = messages.CreateParticipantResponse(result=_RESULT_NUMBERS[written.result])
    fill(response.participant, written.participant)
    return response


def answer(response: Answer, participant: Participant) -> Answer:
    """Returns an empty response with a participant put in."""
    fill(response.participant, participant)
    return response


def add_results(response: messages.BatchCreateParticipantsResponse, outcomes: Iterable[Outcome]) -> None:
    """Adds results to the answer to BatchCreateParticipants."""
    add = response.results.add
    for outcome in outcomes:
        if isinstance(outcome, Written):
            fill(add(result=_RESULT_NUMBERS[outcome.result]).participant, outcome.participant)
        else:
            add(status=status_from_error(outcome.error, limit=MAX_VIOLATION_BYTES))


def fill(message: participant_pb2.Participant, participant: Participant | ParticipantNames) -> None:
    """Sets the fields of an empty message, in place: one that is made by itself is copied into its response."""
    message.id = participant.id
    message.external_id = participant.external_id
    message.etag = etag(participant.id, participant.revision)
    if isinstance(participant, ParticipantNames):
        return
    message.status = _STATUS_NUMBERS[participant.status]
    _fill_profile(message, participant)
    # update() of a protobuf map takes longer.
    attributes = message.attributes
    for key, value in participant.attributes.items():
        attributes[key] = value
    message.tags.extend(participant.tags)
    if participant.program_ids:
        message.program_ids.extend(participant.program_ids)
    if participant.counters or participant.balances or participant.tiers:
        _fill_earned(message, participant)
    _set_timestamp(message.created_at, participant.created_at)
    _set_timestamp(message.updated_at, participant.updated_at)


def _fill_profile(message: participant_pb2.Participant, participant: Participant) -> None:
    if participant.display_name is not None:
        message.display_name = participant.display_name
    if participant.email is not None:
        message.email = participant.email
    if participant.first_name is not None:
        message.first_name = participant.first_name
    if participant.last_name is not None:
        message.last_name = participant.last_name
    if participant.phone is not None:
        message.phone = participant.phone


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
