"""Counts are checked before items are looked at, and in protovalidate's words."""

from __future__ import annotations

import protovalidate
import pytest
from google.protobuf.message import Message
from participants.v1.participant_service_pb2 import BatchCreateParticipantsRequest, CreateParticipantRequest

from server.api.validation import validate
from server.errors import InvalidArgument

TOO_MANY = [
    CreateParticipantRequest(external_id="x", tags=["vip"] * 257),
    CreateParticipantRequest(external_id="x", attributes={str(number): "" for number in range(257)}),
    BatchCreateParticipantsRequest(requests=[CreateParticipantRequest()] * 1001),
]


@pytest.mark.parametrize("message", TOO_MANY, ids=["tags", "attributes", "requests"])
def test_too_many_items_are_told_in_the_words_of_protovalidate(message: Message) -> None:
    [violation] = protovalidate.Validator().collect_violations(message)
    with pytest.raises(InvalidArgument) as refused:
        validate(message)
    [told] = refused.value.violations
    assert (told.reason, told.message) == (violation.proto.rule_id.upper().replace(".", "_"), violation.proto.message)


def test_items_of_a_field_that_has_too_many_are_not_looked_at() -> None:
    with pytest.raises(InvalidArgument) as refused:
        validate(CreateParticipantRequest(tags=[""] * 1_000_000))
    assert [(told.field, told.reason) for told in refused.value.violations] == [
        ("tags", "REPEATED_MAX_ITEMS"),
        ("external_id", "STRING_MIN_LEN"),
    ]


def test_of_very_many_violations_most_are_counted() -> None:
    with pytest.raises(InvalidArgument) as refused:
        validate(CreateParticipantRequest(external_id="x", tags=[""] * 256))
    assert (len(refused.value.violations), refused.value.more_violations) == (100, 156)
