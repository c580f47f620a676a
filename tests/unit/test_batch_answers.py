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
)

from server.api.batch_answers import MAX_FULL_BYTES, BatchAnswer, room_of
from server.api.buffers import MAX_BYTES, Buffers, Room
from server.gateway.encoding import MessageEncoder

Item = BatchCreateParticipantsResponse.Item


def _answer(sizes: list[int], attribute: str = "") -> tuple[BatchAnswer, BatchCreateParticipantsResponse]:
    """Returns an answer in pieces with so many results each, and the same as one message."""
    answer, whole = BatchAnswer(Room(Buffers())), BatchCreateParticipantsResponse()
    for size in sizes:
        items = [
            Item(participant=Participant(external_id=f"{number} of {size}", attributes={"key": attribute}))
            for number in range(size)
        ]
        answer.add(BatchCreateParticipantsResponse(results=items))
        whole.results.extend(items)
    return answer, whole


@pytest.mark.parametrize("sizes", [[], [1], [2, 3, 1]])
async def test_on_the_wire_the_pieces_are_the_whole(sizes: list[int]) -> None:
    answer, whole = _answer(sizes)
    assert answer.size == len(whole.SerializeToString())
    assert await answer.joined() == whole.SerializeToString()
    assert _answer(sizes)[0].whole() == whole


async def test_between_large_pieces_others_have_the_event_loop() -> None:
    answer, whole = _answer([2] * 10, "x" * 50_000)
    joined = asyncio.ensure_future(answer.joined())
    turns_of_others = 0
    while not joined.done():
        await asyncio.sleep(0)
        turns_of_others += 1
    assert turns_of_others >= 10
    assert await joined == whole.SerializeToString()


@pytest.mark.parametrize("sizes", [[1], [2, 3, 1]])
@pytest.mark.parametrize("with_empty", [True, False])
def test_in_json_the_pieces_are_the_whole(sizes: list[int], with_empty: bool) -> None:
    answer, whole = _answer(sizes)
    encoder = MessageEncoder(whole.DESCRIPTOR, with_empty=with_empty)
    pieces = b"".join(encoder.encode_in_pieces(answer.messages()))
    assert json.loads(pieces) == json.loads(encoder.encode(whole))


def test_of_large_items_few_are_encoded_at_once() -> None:
    answer, whole = _answer([25, 1, 24], "\x01" * 64_000)
    encoder = MessageEncoder(whole.DESCRIPTOR)
    pieces = list(encoder.encode_in_pieces(answer.messages()))
    assert max(map(len, pieces)) < 2 << 20
    assert json.loads(b"".join(pieces)) == json.loads(encoder.encode(whole))


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
