"""Checks messages against the rules in the .proto files, and says what is wrong."""

from __future__ import annotations

import json

import protovalidate
from google.protobuf.message import Message

from server.api.counts import excess
from server.errors import MAX_VIOLATIONS, FieldViolation, InvalidArgument

_validator = protovalidate.Validator()


def validate(message: Message) -> None:
    """Raises InvalidArgument with every violation at once. Of a field that has too many items that alone is said."""
    too_many: list[FieldViolation] = []
    if any(excess(message)):
        message, too_many = _without_excess(message)
    violations = _validator.collect_violations(message)
    if too_many or violations:
        listed = [_field_violation(violation) for violation in violations[:MAX_VIOLATIONS]]
        raise InvalidArgument((*too_many, *listed), more=len(violations) - len(listed))


def _without_excess(message: Message) -> tuple[Message, list[FieldViolation]]:
    rest = type(message)()
    rest.CopyFrom(message)
    violations = []
    for owner, limit, path in list(excess(rest)):
        owner.ClearField(limit.field)
        violations.append(limit.violation(path))
    return rest, violations


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
