"""JSON values to the values of fields, as proto3 JSON has them."""

from __future__ import annotations

import base64
import binascii
import contextlib
import math
import re
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

# Returns the value for a field, or raises Mismatch.
Reader = Callable[[Any], Any]

_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64),
}
_MAX_FLOAT = (2 - 2**-23) * 2.0**127
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,19})", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}", re.ASCII)


class Mismatch(Exception):
    """A value that a field cannot have: an UPPER_SNAKE_CASE reason and a sentence."""

    def __init__(self, message: str, reason: str = "WRONG_TYPE") -> None:
        self.message = message
        self.reason = reason


def value_reader(field: FieldDescriptor) -> Reader:
    """Returns what reads the values of a field, of each item where it is repeated; not of messages of our own."""
    if field.enum_type is not None:
        return _enum_reader(field.enum_type)
    if field.message_type is not None:
        return _well_known_reader(GetMessageClass(field.message_type))
    if field.cpp_type in _BITS:
        return _integer_reader(*_BITS[field.cpp_type])
    return _READERS[field.type]


def read_text(value: Any) -> str:
    """Returns a string that is text."""
    if not isinstance(value, str):
        raise Mismatch("must be a string")
    # Nearly all strings are ASCII, which a string knows of itself.
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Mismatch("holds a lone surrogate, which is no character", "INVALID_UNICODE") from None
    return value


def _read_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Mismatch("must be true or false")
    return value


def _read_bytes(value: Any) -> bytes:
    if isinstance(value, str) and _BASE64.fullmatch(value):
        digits = value.rstrip("=").replace("+", "-").replace("/", "_")
        with contextlib.suppress(binascii.Error):
            return base64.urlsafe_b64decode(digits + "=" * (-len(digits) % 4))
    raise Mismatch("must be bytes in base64")


def _integer_reader(least: int, beyond: int) -> Reader:
    def read(value: Any) -> int:
        is_written_otherwise = (isinstance(value, str) and _INTEGER.fullmatch(value)) or (
            isinstance(value, float) and value.is_integer()
        )
        value = int(value) if is_written_otherwise else value
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < beyond:
            raise Mismatch(f"must be an integer from {least} to {beyond - 1}")
        return value

    return read


def _read_double(value: Any) -> float:
    if isinstance(value, str) and value in {"NaN", "Infinity", "-Infinity"}:
        return float(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    if not isinstance(value, float) or not math.isfinite(value):
        raise Mismatch("must be a number")
    return value


def _read_float(value: Any) -> float:
    number = _read_double(value)
    if math.isfinite(number) and abs(number) > _MAX_FLOAT:
        raise Mismatch("must be a number of single precision")
    return number


_READERS: dict[int, Reader] = {
    FieldDescriptor.TYPE_STRING: read_text,
    FieldDescriptor.TYPE_BYTES: _read_bytes,
    FieldDescriptor.TYPE_BOOL: _read_bool,
    FieldDescriptor.TYPE_FLOAT: _read_float,
    FieldDescriptor.TYPE_DOUBLE: _read_double,
}


def _enum_reader(enum: EnumDescriptor) -> Reader:
    numbers = {value.name: value.number for value in enum.values}
    names = ", ".join(value.name for value in enum.values if value.number)

    def read(value: Any) -> int:
        if isinstance(value, str) and value in numbers:
            return numbers[value]
        # By its number, known or not.
        if isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31:
            return value
        raise Mismatch(f"must be one of {names}")

    return read


def _well_known_reader(kind: type[Message]) -> Reader:
    expected = {
        "google.protobuf.Timestamp": "a time in RFC 3339, such as 2026-01-31T12:00:00Z",
        "google.protobuf.Duration": "seconds, such as 1.5s",
    }.get(kind.DESCRIPTOR.full_name, f"a {kind.DESCRIPTOR.full_name} in JSON")

    def read(value: Any) -> Message:
        try:
            return json_format.ParseDict(value, kind())
        except (json_format.ParseError, ValueError, TypeError, AttributeError, OverflowError):
            raise Mismatch(f"must be {expected}") from None

    return read
