"""The servicer's methods, where what they do is not seen from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from participants.v1.participant_service_pb2 import BatchCreateParticipantsRequest, CreateParticipantRequest

from server.api.call import Call
from server.api.servicer import SLICE, ParticipantServicer
from server.api.turns import Turns
from server.errors import NotFound
from server.participants.model import Rejected, Upsert
from server.participants.service import Participants


class Refusing:
    """A use case that refuses every upsert at once."""

    async def upsert_all(self, upserts: Sequence[Upsert | Rejected], deadline: float) -> Sequence[Rejected]:
        return [Rejected(NotFound("there is no such program", reason="PROGRAM_NOT_FOUND")) for _ in upserts]


async def test_a_batch_lets_other_calls_have_the_event_loop() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    slices = 5
    requests = [CreateParticipantRequest(external_id=str(number)) for number in range(slices * SLICE)]
    nothing = cast("Any", None)
    servicer = ParticipantServicer(cast("Participants", Refusing()), nothing, nothing, Turns())
    counting = asyncio.create_task(count())
    response = await servicer.BatchCreateParticipants(
        BatchCreateParticipantsRequest(requests=requests),
        Call("organization", deadline=0.0, metadata={}, given_request_id=None, turn=nothing),
    )
    counting.cancel()
    assert len(response.results) == slices * SLICE
    # Once for each slice of the requests, and for each of the answers.
    assert turns >= 2 * slices
