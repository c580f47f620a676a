"""The answer to a batch in pieces, which is the same as the whole."""

from __future__ import annotations

import asyncio
import json

import pytest
from participants.v1.participant_pb2 import Participant
from participants.v1.participant_service_pb2 import (
    BatchCreateParticipantsRequest,
    BatchCreateParticipantsResponse,
    CreateParticipantRequest,
    CreateParticipantResponse,
)

from server.api.batch_answers import MAX_FULL_BYTES, PART_BYTES, BatchAnswer, room_of
from server.api.buffers import MAX_BYTES, Buffers, Room
from server.api.conversion import batch_result, fill
from server.gateway.encoding import MessageEncoder
from server.participants.model import ParticipantNames, Result, Written

# As JSON six times as much.
LARGE = "\x01" * 64_000

Item = BatchCreateParticipantsResponse.Item


def _answer(count: int, text: str = "") -> tuple[BatchAnswer, BatchCreateParticipantsResponse]:
    """Returns an answer with so many results, and the same as one message."""
    participants = [ParticipantNames("0" * 36, f"{number}{text}", number) for number in range(count)]
    whole = BatchCreateParticipantsResponse()
    for participant in participants:
        fill(whole.results.add(result=CreateParticipantResponse.CREATED).participant, participant)
    pieces = [batch_result(Written(Result.CREATED, participant)) for participant in participants]
    return BatchAnswer(pieces, Room(Buffers())), whole


SIZES = pytest.mark.parametrize(
    ("count", "text"), [(0, ""), (1, ""), (3, ""), (3, LARGE), (40, LARGE), (1_000, ""), (1_000, "x" * 400)]
)


@SIZES
async def test_on_the_wire_the_pieces_are_the_whole(count: int, text: str) -> None:
    answer, whole = _answer(count, text)
    assert answer.size == len(whole.SerializeToString())
    assert await answer.joined() == whole.SerializeToString()
    assert _answer(count, text)[0].whole() == whole


async def test_while_a_large_answer_is_joined_others_have_the_event_loop() -> None:
    answer, _ = _answer(40, LARGE)
    joined = asyncio.ensure_future(answer.joined())
    turns_of_others = 0
    while not joined.done():
        await asyncio.sleep(0)
        turns_of_others += 1
    assert turns_of_others >= answer.size // PART_BYTES // 2


@SIZES
@pytest.mark.parametrize("with_empty", [True, False])
def test_in_json_the_pieces_are_the_whole(count: int, text: str, with_empty: bool) -> None:
    if count:
        answer, whole = _answer(count, text)
        encoder = MessageEncoder(whole.DESCRIPTOR, with_empty=with_empty)
        pieces = list(encoder.encode_in_pieces(answer.messages()))
        assert json.loads(b"".join(pieces)) == json.loads(encoder.encode(whole))
        # A character may take six in JSON.
        assert max(map(len, pieces)) < 6 * (PART_BYTES + 2 * len(LARGE))


def test_a_participant_of_the_largest_size_has_room() -> None:
    widest = "\N{GRINNING FACE}"
    largest = Participant(
        id="0" * 36,
        external_id=widest * 255,
        etag="0" * 27,
        attributes={f"{number:03}" + "k" * 125: "v" * 128 for number in range(256)},
        tags=[f"{number:03}" + "t" * 61 for number in range(256)],
        program_ids=["0" * 36] * 256,
        display_name=widest * 255,
        email=widest * 255,
        first_name=widest * 255,
        last_name=widest * 255,
        phone=widest * 50,
    )
    assert (
        len(BatchCreateParticipantsResponse(results=[Item(participant=largest)]).SerializeToString()) < MAX_FULL_BYTES
    )


def test_there_is_room_for_the_largest_batches_of_two_organizations() -> None:
    request = BatchCreateParticipantsRequest(requests=[CreateParticipantRequest()] * 1_000)
    buffers = Buffers(MAX_BYTES)
    assert buffers.try_acquire("one", room_of(request))
    assert buffers.try_acquire("another", room_of(request))
    assert room_of(request) < 100 << 20
