"""Query parameters to the fields of a request."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import unquote_plus

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from server.errors import FieldViolation, InvalidArgument
from server.gateway.violations import Violations, shown

# More than any request takes. To look at each of thousands takes long.
MAX_PARAMETERS = 64
MAX_QUERY_BYTES = 16 << 10

_BOOLEANS = {"true": True, "false": False}


class Parameters:
    """The fields of a request that may stand in the query: all that are no messages of our own and not bound by the
    path or the body (google.api.HttpRule)."""

    def __init__(self, request: Descriptor, bound: Collection[str]) -> None:
        self._fields = {
            field.name: field for field in request.fields if field.name not in bound and _may_stand_in_a_query(field)
        }

    @property
    def fields(self) -> Collection[FieldDescriptor]:
        """The fields, in their order."""
        return self._fields.values()

    def read(self, query: bytes) -> dict[str, Any]:
        """Returns the fields in a query string, by name and with values as JSON has them. Raises InvalidArgument."""
        if not query:
            return {}
        if len(query) > MAX_QUERY_BYTES or query.count(b"&") >= MAX_PARAMETERS:
            raise _too_long()
        fields: dict[str, Any] = {}
        violations = Violations()
        for part in filter(None, query.decode("latin-1").split("&")):
            encoded_name, _, encoded_value = part.partition("=")
            name = _decoded(encoded_name)
            field = self._fields.get(name)
            if field is None:
                violations.add(shown(name), "UNKNOWN_PARAMETER", "there is no such query parameter here")
            elif field.is_repeated:
                fields.setdefault(name, []).append(_json_value(field, _decoded(encoded_value)))
            elif name in fields:
                violations.add(name, "DUPLICATE_PARAMETER", "stands twice in the query")
            elif field.message_type is not None and "+" in encoded_value:
                # None of these has a space, but times have offsets.
                violations.add(name, "WRONG_TYPE", "holds a space, as + means in a query: write %2B for +")
            else:
                fields[name] = _json_value(field, _decoded(encoded_value))
        violations.raise_if_any()
        return fields


def _may_stand_in_a_query(field: FieldDescriptor) -> bool:
    return field.message_type is None or field.message_type.full_name in {
        "google.protobuf.Timestamp",
        "google.protobuf.Duration",
        "google.protobuf.FieldMask",
    }


def _too_long() -> InvalidArgument:
    message = f"a query may have at most {MAX_PARAMETERS} parameters and {MAX_QUERY_BYTES} bytes"
    return InvalidArgument((FieldViolation("", "QUERY_TOO_LONG", message),))


def _decoded(text: str) -> str:
    # Bytes that are no UTF-8 become lone surrogates, which no field takes.
    return unquote_plus(text, errors="surrogateescape")


def _json_value(field: FieldDescriptor, text: str) -> Any:
    """Returns what JSON would have for a parameter. What is none is refused where the JSON would be."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _BOOLEANS.get(text, text)
    if field.enum_type is not None and text.removeprefix("-").isdecimal() and len(text) <= 11:
        return int(text)
    return text
