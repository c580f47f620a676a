"""Between the messages of the protos and the plain Python of the use case."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from participants.v1 import participant_pb2
from participants.v1 import participant_service_pb2 as messages

from server.participants.model import Outcome, Participant, Result, Status, Upsert

_STATUS_NAMES: dict[int, str | None] = {
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


def upsert_from_request(request: messages.CreateParticipantRequest, organization_id: str) -> Upsert:
    """Returns what a valid request asks to be written for an organization."""
    has = request.HasField
    attributes = request.attributes
    return Upsert(
        organization_id,
        request.external_id,
        request.display_name if has("display_name") else None,
        request.email if has("email") else None,
        request.first_name if has("first_name") else None,
        request.last_name if has("last_name") else None,
        request.phone if has("phone") else None,
        request.program_id if has("program_id") else None,
        _STATUS_NAMES[request.status],
        # dict() and items() of a protobuf map take twice as long.
        {key: attributes[key] for key in attributes},
        request.tags[:],
        request.ByteSize(),
    )


def create_response(outcome: Outcome) -> messages.CreateParticipantResponse:
    """Returns the answer to CreateParticipant."""
    return messages.CreateParticipantResponse(
        participant=_fields(outcome.participant), result=_RESULT_NUMBERS[outcome.result]
    )


def get_response(participant: Participant) -> messages.GetParticipantResponse:
    """Returns the answer to GetParticipant."""
    return messages.GetParticipantResponse(participant=_fields(participant))


def batch_item(outcome: Outcome) -> messages.BatchCreateParticipantsResponse.Item:
    """Returns an item of the answer to BatchCreateParticipants."""
    return messages.BatchCreateParticipantsResponse.Item(
        participant=_fields(outcome.participant), result=_RESULT_NUMBERS[outcome.result]
    )


def _fields(participant: Participant) -> Any:
    """Returns the fields of a Participant message; None leaves a field out, which is quicker than setting it empty.

    As a dictionary, which the types of messages do not know, they are built right where they belong; a message would
    be built first and then copied there.
    """
    return {
        "id": participant.id,
        "external_id": participant.external_id,
        "status": _STATUS_NUMBERS[participant.status],
        "display_name": participant.display_name,
        "email": participant.email,
        "first_name": participant.first_name,
        "last_name": participant.last_name,
        "phone": participant.phone,
        "attributes": participant.attributes or None,
        "tags": participant.tags or None,
        "program_ids": participant.program_ids or None,
        "counters": participant.counters or None,
        "balances": [asdict(balance) for balance in participant.balances] or None,
        "tiers": {key: asdict(tier) for key, tier in participant.tiers.items()} or None,
        "created_at": _timestamp(participant.created_at),
        "updated_at": _timestamp(participant.updated_at),
    }


def _timestamp(moment: datetime) -> dict[str, int]:
    # The fraction comes from the integer: a float of this size is not exact to the microsecond.
    return {"seconds": int(moment.timestamp()), "nanos": moment.microsecond * 1000}
