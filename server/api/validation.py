"""Checks messages against the rules in the .proto files, and says in the contract's words what is wrong."""

from __future__ import annotations

import json

import protovalidate
from google.protobuf.message import Message

from server.errors import FieldViolation, InvalidArgument

_validator = protovalidate.Validator()


def validate(message: Message) -> None:
    """Raises InvalidArgument with every violation at once."""
    violations = _validator.collect_violations(message)
    if violations:
        raise InvalidArgument(tuple(_field_violation(violation) for violation in violations))


def _field_violation(violation: protovalidate.Violation) -> FieldViolation:
    proto = violation.proto
    path = "".join(_path_element(element) for element in proto.field.elements) if proto.field else ""
    # The rule against U+0000 quotes the character itself.
    message = proto.message.replace("\0", "U+0000")
    return FieldViolation(
        field=path.removeprefix("."),
        reason=proto.rule_id.upper().replace(".", "_"),
        message=f"key {message}" if proto.for_key else message,
    )


def _path_element(element: protovalidate.FieldPathElementPb) -> str:
    subscript = element.subscript
    if subscript is None:
        return f".{element.field_name}"
    value = json.dumps(subscript.value, ensure_ascii=False) if isinstance(subscript.value, str) else subscript.value
    return f".{element.field_name}[{value}]"
