"""The ParticipantService: each method turns a message into a use case and its outcome into a message.

The methods are given a `Call` in place of grpc's context, so that the gateway can call them without a socket; what
calls them is the interceptor, which has authenticated the caller.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from google.protobuf.empty_pb2 import Empty
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceServicer

from server.api.batch_answers import BatchAnswer, room_of
from server.api.buffers import Buffers, Room
from server.api.call import Call
from server.api.changes import update_from_request, update_from_status_request
from server.api.conversion import answer, batch_result, create_response, upsert_from_request
from server.api.listing import list_response, listing_from_request
from server.api.turns import Turns
from server.api.validation import validate
from server.errors import Internal, ServiceError
from server.participants.changes import Changes
from server.participants.model import Outcome, Participant, Rejected, Upsert
from server.participants.reading import Reading
from server.participants.service import Participants

logger = logging.getLogger(__name__)

# A batch lets other calls have the event loop each time it has converted so many items, and sooner while several
# organizations call.
SLICE, SLICE_AMONG_OTHERS = 100, 25

# A fault of ours with one item must spoil no other.
_FAULT = "an item of a batch failed, request id %s"

SERVICE = messages.DESCRIPTOR.services_by_name["ParticipantService"]


class ParticipantServicer(ParticipantServiceServicer):
    """Answers for `participants.v1.ParticipantService`."""

    # A page of a list can take Postgres a hundred times as long as an upsert does. So of the `lists_at_once` each
    # organization has at most as many as are left free, and of the database's connections some are left for the others.

    # The overrides that mypy is told to let pass take a Call where the generated class has grpc's context.

    def __init__(
        self,
        participants: Participants,
        reading: Reading,
        changes: Changes,
        turns: Turns,
        buffers: Buffers,
        *,
        lists_at_once: int,
    ) -> None:
        self._participants = participants
        self._reading = reading
        self._changes = changes
        self._turns = turns
        self._buffers = buffers
        self._lists = Buffers(lists_at_once, "lists")

    async def CreateParticipant(  # type: ignore[override]
        self, request: messages.CreateParticipantRequest, call: Call
    ) -> messages.CreateParticipantResponse:
        upsert = upsert_from_request(request, call.organization_id)
        return create_response(await self._participants.upsert(upsert, call.deadline, call.turn.end))

    async def GetParticipant(  # type: ignore[override]
        self, request: messages.GetParticipantRequest, call: Call
    ) -> messages.GetParticipantResponse:
        validate(request)
        participant = await self._reading.get(call.organization_id, request.id, call.deadline)
        return answer(messages.GetParticipantResponse(), participant)

    async def LookupParticipant(  # type: ignore[override]
        self, request: messages.LookupParticipantRequest, call: Call
    ) -> messages.LookupParticipantResponse:
        validate(request)
        participant = await self._reading.lookup(call.organization_id, request.external_id, call.deadline)
        return answer(messages.LookupParticipantResponse(), participant)

    async def ListParticipants(  # type: ignore[override]
        self, request: messages.ListParticipantsRequest, call: Call
    ) -> messages.ListParticipantsResponse:
        validate(request)
        listing = listing_from_request(request, call.organization_id)
        room = Room(self._lists)
        await room.acquire(call.organization_id, 1, call.deadline)
        try:
            page = await self._reading.list(listing, call.deadline)
        finally:
            room.release()
        return list_response(listing, page)

    async def UpdateParticipant(  # type: ignore[override]
        self, request: messages.UpdateParticipantRequest, call: Call
    ) -> messages.UpdateParticipantResponse:
        validate(request)
        update = update_from_request(request, call.organization_id)
        return answer(messages.UpdateParticipantResponse(), await self._changes.update(update, call.deadline))

    async def SetParticipantStatus(  # type: ignore[override]
        self, request: messages.SetParticipantStatusRequest, call: Call
    ) -> messages.SetParticipantStatusResponse:
        validate(request)
        update = update_from_status_request(request, call.organization_id)
        return answer(messages.SetParticipantStatusResponse(), await self._changes.update(update, call.deadline))

    async def EnrollParticipant(  # type: ignore[override]
        self, request: messages.EnrollParticipantRequest, call: Call
    ) -> messages.EnrollParticipantResponse:
        return answer(messages.EnrollParticipantResponse(), await self._set_enrollment(request, call, active=True))

    async def UnenrollParticipant(  # type: ignore[override]
        self, request: messages.UnenrollParticipantRequest, call: Call
    ) -> messages.UnenrollParticipantResponse:
        return answer(messages.UnenrollParticipantResponse(), await self._set_enrollment(request, call, active=False))

    async def DeleteParticipant(  # type: ignore[override]
        self, request: messages.DeleteParticipantRequest, call: Call
    ) -> Empty:
        validate(request)
        await self._changes.delete(call.organization_id, request.id.lower(), request.etag, call.deadline)
        return Empty()

    async def BatchCreateParticipants(  # type: ignore[override]
        self, request: messages.BatchCreateParticipantsRequest, call: Call
    ) -> BatchAnswer:
        validate(request)
        call.turn.keep()
        room = Room(self._buffers)
        # Before anything is written: what was written is answered.
        await room.acquire(call.organization_id, room_of(request), call.deadline)
        try:
            answer = await self._batch_answer(request, call, room)
        except BaseException:
            room.release()
            raise
        room.resize(answer.size)
        return answer

    async def _batch_answer(
        self, request: messages.BatchCreateParticipantsRequest, call: Call, room: Room
    ) -> BatchAnswer:
        whole = request.view != messages.BatchCreateParticipantsRequest.BASIC
        items: list[Upsert | bytes] = []
        for number, item in enumerate(request.requests):
            refusal = call.refused.get(number)
            items.append(_upsert_or_result(item, call, whole=whole) if refusal is None else batch_result(refusal))
            # To say all that is wrong with an item takes as long as many that are fine.
            if number % self._slice == 0 or isinstance(items[-1], bytes):
                await asyncio.sleep(0)
        results = await self._participants.upsert_all(items, call.deadline, partial(_result, call))
        return BatchAnswer(results, room)

    @property
    def _slice(self) -> int:
        return SLICE_AMONG_OTHERS if self._turns.crowded else SLICE

    async def _set_enrollment(
        self,
        request: messages.EnrollParticipantRequest | messages.UnenrollParticipantRequest,
        call: Call,
        *,
        active: bool,
    ) -> Participant:
        validate(request)
        return await self._changes.set_enrollment(
            call.organization_id, request.id, request.program_id, call.deadline, active=active
        )


def _upsert_or_result(request: messages.CreateParticipantRequest, call: Call, *, whole: bool) -> Upsert | bytes:
    try:
        return upsert_from_request(request, call.organization_id, whole=whole)
    except ServiceError as error:
        return _result(call, Rejected(error))
    except Exception:
        logger.exception(_FAULT, call.request_id)
        return _result(call, Rejected(Internal()))


def _result(call: Call, outcome: Outcome) -> bytes:
    """Returns the result of an item; raises nothing. An outcome may be many objects, and this is few bytes."""
    try:
        return batch_result(Rejected(_told(outcome.error, call)) if isinstance(outcome, Rejected) else outcome)
    except Exception:
        logger.exception(_FAULT, call.request_id)
        return batch_result(Rejected(Internal(call.request_id)))


def _told(error: ServiceError, call: Call) -> ServiceError:
    """Returns an error as the caller gets it: a fault names the request's id."""
    return Internal(call.request_id) if isinstance(error, Internal) else error
