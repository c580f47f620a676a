"""Messages are cut short that hold more than they may, and no others; what is wrong with them stays wrong."""

import pytest
from google.protobuf.message import Message
from participants.v1 import participant_service_pb2 as messages

from server.api.cutting import cut
from server.api.validation import validate
from server.errors import InvalidArgument

Batch = messages.BatchCreateParticipantsRequest
Create = messages.CreateParticipantRequest


def _after(message: Message) -> Message:
    return type(message).FromString(cut(message.DESCRIPTOR)(message.SerializeToString()))


def _full(external_id: str) -> messages.CreateParticipantRequest:
    return Create(
        external_id=external_id,
        email="ada@example.com",
        attributes={f"{number}": "value" for number in range(256)},
        tags=[f"{number}" for number in range(256)],
    )


@pytest.mark.parametrize(
    "message",
    [
        Create(external_id="short"),
        _full("full"),
        Batch(requests=[_full(f"{number}") for number in range(20)], view=Batch.BASIC),
        Batch(requests=[Create(external_id=f"{number}") for number in range(1_000)]),
        messages.GetParticipantRequest(id="x" * 4_000),
    ],
    ids=["short", "full", "full items", "full batch", "nothing to count"],
)
def test_what_keeps_the_limits_is_not_touched(message: Message) -> None:
    serialized = message.SerializeToString()
    assert cut(message.DESCRIPTOR)(serialized) is serialized


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Create(external_id="x", tags=["t"] * 100_000), "REPEATED_MAX_ITEMS"),
        (Create(external_id="x", attributes={f"{number}": "" for number in range(10_000)}), "MAP_MAX_PAIRS"),
        (Batch(requests=[Create()] * 100_000), "REPEATED_MAX_ITEMS"),
    ],
    ids=["tags", "attributes", "requests"],
)
def test_what_does_not_is_short_and_refused_as_before(message: Message, reason: str) -> None:
    shorter = _after(message)
    assert shorter.ByteSize() < message.ByteSize() / 10
    refusals = []
    for each in (message, shorter):
        with pytest.raises(InvalidArgument) as raised:
            validate(each)
        refusals.append(raised.value.violations)
    assert refusals[0] == refusals[1]
    assert refusals[1][0].reason == reason


def test_one_entry_sent_again_and_again_is_too_many() -> None:
    entry = Create(attributes={"key": "value"}).SerializeToString()
    shorter = Create.FromString(cut(Create.DESCRIPTOR)(entry * 1_000))
    assert len(shorter.attributes) == 257


def test_an_item_is_cut_alone_and_all_else_is_kept() -> None:
    bad = Create(external_id="bad", email="ada@example.com", tags=["t"] * 5_000)
    shorter = _after(Batch(requests=[_full("good"), bad, _full("last")], view=Batch.FULL))
    assert isinstance(shorter, Batch)
    assert shorter.view == Batch.FULL
    good, cut_short, last = shorter.requests
    assert (good, last) == (_full("good"), _full("last"))
    assert (cut_short.external_id, cut_short.email, len(cut_short.tags)) == ("bad", "ada@example.com", 257)
