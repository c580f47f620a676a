"""What every system is asked: upserts of a filled participant, each of which changes one attribute.

Requests are made from a template by filling in fixed-width digits, so that making one costs the load generator next
to nothing. `number` counts the requests of a run; it decides which participant is meant and what value it gets.
"""

from __future__ import annotations

from typing import Any

import orjson
from google.protobuf import json_format
from participants.v1.participant_service_pb2 import BatchCreateParticipantsRequest, CreateParticipantRequest

PARTICIPANTS = 10_000
# Coprime with every number of participants used, so that consecutive requests are for participants far apart, and
# any PARTICIPANTS consecutive requests are for different ones.
STRIDE = 7_919

_INDEX, _VISITS = "<INDEX>", "<VISITS__>"
# The attribute that every request changes.
CHANGING = "visits"
PROFILE = {
    "display_name": "Jane Doe",
    "email": "jane.doe@example.com",
    "first_name": "Jane",
    "last_name": "Doe",
    "phone": "+15551234567",
}
ATTRIBUTES = {"plan": "premium", "region": "us-east"}
TAGS = ["vip", "newsletter"]


def fields(external_id: str, visits: str) -> dict[str, Any]:
    """Returns the fields of a request as JSON has them."""
    return {"external_id": external_id, **PROFILE, "attributes": {**ATTRIBUTES, CHANGING: visits}, "tags": TAGS}


def _template(example: bytes) -> bytes:
    return example.replace(b"%", b"%%").replace(_INDEX.encode(), b"%07d").replace(_VISITS.encode(), b"%010d")


_EXAMPLE = fields(f"user-{_INDEX}", _VISITS)
_MESSAGE = json_format.ParseDict(_EXAMPLE, CreateParticipantRequest())
_BATCH = BatchCreateParticipantsRequest(requests=[_MESSAGE])
_JSON = _template(orjson.dumps(_EXAMPLE))
_PROTOBUF = _template(_MESSAGE.SerializeToString(deterministic=True))
_BATCH_ITEM = _template(_BATCH.SerializeToString(deterministic=True))
# Added to a serialized batch, asks for identifiers in place of participants.
BASIC_VIEW = BatchCreateParticipantsRequest(view=BatchCreateParticipantsRequest.BASIC).SerializeToString()


def index(number: int, participants: int = PARTICIPANTS) -> int:
    """Returns which participant a request is for."""
    return number * STRIDE % participants


def protobuf(number: int, participants: int = PARTICIPANTS) -> bytes:
    """Returns a serialized CreateParticipantRequest."""
    return _PROTOBUF % (index(number, participants), number)


def json(number: int, participants: int = PARTICIPANTS) -> bytes:
    """Returns the same request as JSON."""
    return _JSON % (index(number, participants), number)


def batch(first: int, items: int) -> bytes:
    """Returns a serialized BatchCreateParticipantsRequest of consecutive requests."""
    return b"".join(_BATCH_ITEM % (index(number), number) for number in range(first, first + items))


def initial_attributes() -> str:
    """Returns the attributes, as JSON, of a participant that no request has changed yet."""
    return orjson.dumps({**ATTRIBUTES, CHANGING: f"{0:010d}"}).decode()
