"""The ParticipantService: each method turns a message into a use case and its outcome into a message.

The methods are given a `Call` in place of grpc's context, so that the gateway can call them without a socket; what
calls them is the pipeline, which has authenticated the caller and validated the request.
"""

from __future__ import annotations

from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceServicer

from server.errors import ServiceError
from server.participants.model import Outcome, Upsert
from server.participants.service import Participants
from server.rpc.conversion import batch_item, create_response, get_response, upsert_from_request
from server.rpc.pipeline import Call
from server.rpc.status import status_from_error
from server.rpc.validation import validate


class ParticipantServicer(ParticipantServiceServicer):
    """Answers for `participants.v1.ParticipantService`."""

    # The overrides that mypy is told to let pass take a Call where the generated class has grpc's context.

    def __init__(self, participants: Participants) -> None:
        self._participants = participants

    async def CreateParticipant(  # type: ignore[override]
        self, request: messages.CreateParticipantRequest, call: Call
    ) -> messages.CreateParticipantResponse:
        upsert = upsert_from_request(request, call.organization_id)
        return create_response(await self._participants.upsert(upsert, call.deadline))

    async def GetParticipant(  # type: ignore[override]
        self, request: messages.GetParticipantRequest, call: Call
    ) -> messages.GetParticipantResponse:
        participant = await self._participants.get(call.organization_id, request.id, call.deadline)
        return get_response(participant)

    async def BatchCreateParticipants(  # type: ignore[override]
        self, request: messages.BatchCreateParticipantsRequest, call: Call
    ) -> messages.BatchCreateParticipantsResponse:
        upserts = [_upsert_or_error(item, call.organization_id) for item in request.requests]
        outcomes = await self._participants.upsert_all(upserts, call.deadline)
        return messages.BatchCreateParticipantsResponse(results=[_item(outcome) for outcome in outcomes])


def _upsert_or_error(request: messages.CreateParticipantRequest, organization_id: str) -> Upsert | ServiceError:
    try:
        validate(request)
    except ServiceError as error:
        return error
    return upsert_from_request(request, organization_id)


def _item(outcome: Outcome | ServiceError) -> messages.BatchCreateParticipantsResponse.Item:
    if isinstance(outcome, ServiceError):
        return messages.BatchCreateParticipantsResponse.Item(status=status_from_error(outcome))
    return batch_item(outcome)
