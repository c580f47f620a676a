"""Between the messages of the protos and the plain Python of the use case."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from participants.v1 import participant_pb2, participant_service_pb2

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
    Result.CREATED.value: participant_service_pb2.CreateParticipantResponse.CREATED,
    Result.UPDATED.value: participant_service_pb2.CreateParticipantResponse.UPDATED,
    Result.UNCHANGED.value: participant_service_pb2.CreateParticipantResponse.UNCHANGED,
}


def upsert_from_request(
    request: participant_service_pb2.CreateParticipantRequest, organization_id: str
) -> Upsert:
    """Returns what a valid request asks to be written for an organization."""
    has = request.HasField
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
        dict(request.attributes),
        list(request.tags),
        request.ByteSize(),
    )


def response_from_outcome(outcome: Outcome) -> participant_service_pb2.CreateParticipantResponse:
    """Returns the answer to CreateParticipant."""
    return participant_service_pb2.CreateParticipantResponse(
        participant=message_from_participant(outcome.participant), result=_RESULT_NUMBERS[outcome.result]
    )


def message_from_participant(participant: Participant) -> participant_pb2.Participant:
    """Returns a participant as callers see it."""
    return participant_pb2.Participant(
        id=participant.id,
        external_id=participant.external_id,
        status=_STATUS_NUMBERS[participant.status],
        display_name=participant.display_name,
        email=participant.email,
        first_name=participant.first_name,
        last_name=participant.last_name,
        phone=participant.phone,
        attributes=participant.attributes,
        tags=participant.tags,
        program_ids=participant.program_ids,
        counters=participant.counters,
        balances=[
            participant_pb2.Participant.Balance(
                asset_id=balance.asset_id,
                available=balance.available,
                held=balance.held,
                deferred=balance.deferred,
            )
            for balance in participant.balances
        ],
        tiers={
            key: participant_pb2.Participant.Tier(level=tier.level, rank=tier.rank)
            for key, tier in participant.tiers.items()
        },
        created_at=_timestamp(participant.created_at.timestamp(), participant.created_at.microsecond),
        updated_at=_timestamp(participant.updated_at.timestamp(), participant.updated_at.microsecond),
    )


def _timestamp(seconds: float, microseconds: int) -> Timestamp:
    # The fraction comes from the integer: a float of this size is not exact to the microsecond.
    return Timestamp(seconds=int(seconds), nanos=microseconds * 1000)
