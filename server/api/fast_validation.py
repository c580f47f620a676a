"""Tells of most requests, at little cost, that they keep the rules in the .proto files.

protovalidate takes several times as long to find nothing wrong as protobuf takes to parse a request. So requests for
upserts are first looked at by what Python does fast; limits are read from the same options, and whatever is not plain
is left to protovalidate, which alone says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from buf.validate import validate_pb2
from participants.v1.participant_service_pb2 import CreateParticipantRequest

from server.participants.model import Status, Upsert

_FIELDS = CreateParticipantRequest.DESCRIPTOR.fields
_RULES = {field.name: field.GetOptions().Extensions[validate_pb2.field] for field in _FIELDS}
# The least of the limits that the fields looked at together have.
_MAX_LENGTH = min(
    *(_RULES[name].string.max_len for name in ("external_id", "display_name", "email", "first_name", "last_name")),
    _RULES["attributes"].map.keys.string.max_len,
    _RULES["tags"].repeated.items.string.max_len,
    _RULES["attributes"].map.values.string.max_len,
)
_MAX_PHONE_LENGTH = _RULES["phone"].string.max_len
_MAX_ATTRIBUTES = _RULES["attributes"].map.max_pairs
_MAX_VALUE_LENGTH = _RULES["attributes"].map.values.string.max_len
_MAX_TAGS = _RULES["tags"].repeated.max_items
# A request of no more bytes has neither a text that is too long nor too many items.
_SHORT = min(_MAX_LENGTH, _MAX_ATTRIBUTES, _MAX_TAGS)
_STATUSES = frozenset({None, *Status})
# Not all that protovalidate accepts, but nothing that it refuses: a label of a domain has at most 63 characters.
_is_plain_email = re.compile(r"(?=.{1,63}\Z)[A-Za-z0-9_.+-]+@[A-Za-z0-9]+(?:\.[A-Za-z0-9]+)?\.[A-Za-z0-9]+").fullmatch
_is_plain_uuid = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch


def is_short_and_plain(serialized: bytes) -> bool:
    """Returns whether a serialized request surely has no text that is too long, empty though sent, or holds U+0000, and
    not too many items. On the wire an empty text is a length of 0."""
    return len(serialized) <= _SHORT and b"\0" not in serialized


def has_too_many_items(request: CreateParticipantRequest) -> bool:
    """Returns whether the request is not worth a look at its items."""
    return len(request.tags) > _MAX_TAGS or len(request.attributes) > _MAX_ATTRIBUTES


def is_trivially_valid(upsert: Upsert, *, is_plain: bool) -> bool:
    """Returns whether the request that asks for this upsert surely keeps every rule. `is_plain` is what
    `is_short_and_plain` says of it."""
    email, phone, program_id = upsert.email, upsert.phone, upsert.program_id
    return (
        upsert.external_id != ""
        and (is_plain or _are_texts_valid(upsert))
        and (not phone or len(phone) <= _MAX_PHONE_LENGTH)
        and (not email or _is_plain_email(email) is not None)
        and (program_id is None or _is_plain_uuid(program_id) is not None)
        and upsert.status in _STATUSES
    )


def _are_texts_valid(upsert: Upsert) -> bool:
    """Returns whether the texts and items of an upsert keep the rules that all texts and items have."""
    attributes, tags = upsert.attributes, upsert.tags
    values = attributes.values()
    texts = [
        upsert.external_id,
        upsert.display_name or "",
        upsert.email or "",
        upsert.first_name or "",
        upsert.last_name or "",
        *attributes,
        *tags,
    ]
    text = "".join([*texts, upsert.phone or "", *values])
    return (
        "" not in attributes
        and "" not in tags
        and len(attributes) <= _MAX_ATTRIBUTES
        and len(tags) <= _MAX_TAGS
        # In most requests all of them together are shorter than any of them may be.
        and (len(text) <= _MAX_LENGTH or (_are_short(texts, _MAX_LENGTH) and _are_short(values, _MAX_VALUE_LENGTH)))
        and "\0" not in text
    )


def _are_short(texts: Collection[str], limit: int) -> bool:
    return max(map(len, texts), default=0) <= limit
