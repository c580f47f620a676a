"""Messages to JSON: proto3 JSON with snake_case names, empty fields included.

What comes out is what `json_format.MessageToDict` makes with `always_print_fields_with_no_presence` and
`preserving_proto_field_name` (a property test holds that), at a tenth of the time.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any

import orjson
from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

Encoder = Callable[[Any], Any]

# JavaScript's numbers do not hold all of these.
_AS_TEXT = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MessageEncoder:
    """Encodes messages of one type. `with_empty` False leaves out what is empty."""

    def __init__(self, descriptor: Descriptor, *, with_empty: bool = True) -> None:
        self._fields = [
            (field.name, _field_encoder(field, with_empty=with_empty), field.has_presence)
            for field in descriptor.fields
        ]
        self.value = self._value if with_empty else self._value_without_empty

    def encode(self, message: Message) -> bytes:
        """Returns the message as JSON."""
        return orjson.dumps(self.value(message))

    def encode_in_pieces(self, messages: Iterable[Message]) -> Iterator[bytes]:
        """Yields the JSON of a message that has one field, a repeated one, and that comes in pieces, of which each is
        the message with some of the items."""
        (name, _, _), *_ = self._fields
        before = opening = b'{"%b":[' % name.encode()
        for message in messages:
            items = self.encode(message)[len(opening) : -2]
            yield before + items
            before = b","
        yield b"]}"

    def _value(self, message: Message) -> dict[str, Any]:
        """Returns the message as what JSON is made from, in the order of the fields."""
        return {
            name: getattr(message, name) if encoder is _same else encoder(getattr(message, name))
            for name, encoder, may_be_absent in self._fields
            if not may_be_absent or message.HasField(name)
        }

    def _value_without_empty(self, message: Message) -> dict[str, Any]:
        present = {field.name for field, _ in message.ListFields()}
        return {name: encoder(getattr(message, name)) for name, encoder, _ in self._fields if name in present}


def _field_encoder(field: FieldDescriptor, *, with_empty: bool) -> Encoder:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key = _key_encoder(field.message_type.fields_by_name["key"])
        item = _value_encoder(field.message_type.fields_by_name["value"], with_empty=with_empty)
        if key is _same and item is _same:
            return dict
        return lambda values: {key(name): item(values[name]) for name in values}
    item = _value_encoder(field, with_empty=with_empty)
    if field.is_repeated:
        return list if item is _same else lambda values: [item(value) for value in values]
    return item


def _key_encoder(field: FieldDescriptor) -> Encoder:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return _same
        case FieldDescriptor.TYPE_BOOL:
            return lambda key: "true" if key else "false"
        case _:
            return str


def _value_encoder(field: FieldDescriptor, *, with_empty: bool) -> Encoder:
    if field.enum_type is not None:
        names = {value.number: value.name for value in field.enum_type.values}
        return lambda number: names.get(number, number)
    if field.message_type is not None:
        return _message_encoder(field.message_type, with_empty=with_empty)
    if field.cpp_type in _AS_TEXT:
        return str
    return _ENCODERS.get(field.type, _same)


def _message_encoder(descriptor: Descriptor, *, with_empty: bool) -> Encoder:
    if descriptor.full_name == "google.protobuf.Timestamp":
        return _timestamp
    if descriptor.full_name == "google.protobuf.Any":
        return _any
    if descriptor.full_name.startswith("google.protobuf."):
        return lambda message: json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=with_empty
        )
    # Made when the first message comes: a type may hold itself.
    made: list[MessageEncoder] = []

    def encode(message: Message) -> dict[str, Any]:
        if not made:
            made.append(MessageEncoder(descriptor, with_empty=with_empty))
        return made[0].value(message)

    return encode


def _any(packed: Any) -> dict[str, Any]:
    """Returns what is packed, whose type the process knows, with the type's name in front."""
    kind = descriptor_pool.Default().FindMessageTypeByName(packed.TypeName())
    message = GetMessageClass(kind)()
    packed.Unpack(message)
    return {"@type": packed.type_url, **_any_encoder(kind)(message)}


@cache
def _any_encoder(kind: Descriptor) -> Encoder:
    return _message_encoder(kind, with_empty=True)


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _single_precision(value: float) -> float | str:
    """Returns the shortest number that is this one in single precision."""
    exact = struct.pack("f", value)
    shorter = (float(f"{value:.{digits}g}") for digits in range(6, 9))
    return _number(next((number for number in shorter if _packed(number) == exact), value))


def _packed(number: float) -> bytes:
    try:
        return struct.pack("f", number)
    except OverflowError:
        return b""


def _bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


_ENCODERS: dict[int, Encoder] = {
    FieldDescriptor.TYPE_BYTES: _bytes,
    FieldDescriptor.TYPE_DOUBLE: _number,
    FieldDescriptor.TYPE_FLOAT: _single_precision,
}


def _same(value: Any) -> Any:
    return value


def _timestamp(timestamp: Any) -> str:
    """Returns RFC 3339 in UTC, with as many digits of the second as are needed: none, 3, 6 or 9."""
    nanos, moment = timestamp.nanos, _second(timestamp.seconds)
    if nanos == 0:
        return f"{moment}Z"
    if nanos % 1_000_000 == 0:
        return f"{moment}.{nanos // 1_000_000:03}Z"
    if nanos % 1_000 == 0:
        return f"{moment}.{nanos // 1_000:06}Z"
    return f"{moment}.{nanos:09}Z"


# What has been written lately has the same few.
@lru_cache(1024)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]
