"""Personal fields are marked, so that what prints messages leaves them out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import FieldDescriptor
from participants.v1 import participant_pb2, participant_service_pb2

# What a caller writes of a person, or asks for; attributes and tags can hold anything.
PERSONAL = {
    "external_id", "external_id_prefix", "display_name", "email", "first_name", "last_name", "phone",
    "attributes", "remove_attributes", "tag", "tags", "add_tags", "remove_tags",
}  # fmt: skip


def fields() -> Iterator[FieldDescriptor]:
    for file in (participant_pb2.DESCRIPTOR, participant_service_pb2.DESCRIPTOR):
        for message in file.message_types_by_name.values():
            yield from message.fields


@pytest.mark.parametrize("field", list(fields()), ids=lambda field: field.full_name)
def test_personal_fields_are_marked_and_no_others(field: FieldDescriptor) -> None:
    assert field.GetOptions().debug_redact == (field.name in PERSONAL)
