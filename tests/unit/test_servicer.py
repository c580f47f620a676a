"""The servicer's methods, where what they do is not seen from outside."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

from participants.v1.participant_service_pb2 import (
    BatchCreateParticipantsRequest,
    CreateParticipantRequest,
    ListParticipantsRequest,
)

from server.api.buffers import Buffers
from server.api.call import Call
from server.api.servicer import SLICE, ParticipantServicer
from server.api.turns import BATCH, Turn, Turns
from server.errors import NotFound
from server.participants.listing import Listing, Page
from server.participants.model import Outcome, Rejected, Upsert
from server.participants.reading import Reading
from server.participants.service import Participants


class Refusing:
    """A use case that refuses every upsert at once."""

    async def upsert_all(
        self, upserts: Sequence[Upsert | bytes], deadline: float, keep: Callable[[Outcome], bytes]
    ) -> Sequence[bytes]:
        return [keep(Rejected(NotFound("there is no such program", reason="PROGRAM_NOT_FOUND"))) for _ in upserts]


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
    turn = (all_turns := Turns()).try_begin("organization", BATCH)
    assert turn is not None
    servicer = ParticipantServicer(
        cast("Participants", Refusing()), nothing, nothing, all_turns, Buffers(), lists_at_once=2
    )
    counting = asyncio.create_task(count())
    response = await servicer.BatchCreateParticipants(
        BatchCreateParticipantsRequest(requests=requests),
        Call("organization", deadline=0.0, metadata={}, given_request_id=None, turn=turn),
    )
    counting.cancel()
    assert len(response.whole().results) == slices * SLICE
    assert turns >= slices


class Slow:
    """A use case whose lists never come. `begun` is how many each organization has begun."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()

    async def list(self, listing: Listing, deadline: float) -> Page:
        self.begun[listing.filters.organization_id] += 1
        await asyncio.sleep(math.inf)
        raise AssertionError("it came")


async def test_lists_of_one_organization_leave_room_for_those_of_others() -> None:
    nothing = cast("Any", None)
    slow = Slow()
    servicer = ParticipantServicer(nothing, cast("Reading", slow), nothing, Turns(), Buffers(), lists_at_once=8)
    turn = cast("Turn", None)
    lists = [
        asyncio.create_task(
            servicer.ListParticipants(ListParticipantsRequest(), Call(organization, math.inf, {}, None, turn))
        )
        for organization in [*["many"] * 20, *["few"] * 2, "one"]
    ]
    await asyncio.sleep(0.01)
    assert slow.begun == {"many": 4, "few": 2, "one": 1}
    for each in lists:
        each.cancel()
    await asyncio.wait(lists)
