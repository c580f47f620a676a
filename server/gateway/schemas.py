"""Messages to JSON Schema (2020-12, as OpenAPI 3.1 has it): what `decoding` takes and what `encoding` writes.

Where proto3 JSON takes a value in several forms, such as an enum by its number, the schema has the one that is written.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from buf.validate import validate_pb2
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from server.gateway.comments import Comments

Schema = dict[str, Any]

_SCALARS: dict[int, Schema] = {
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    # JavaScript's numbers do not hold all of these.
    FieldDescriptor.CPPTYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "string", "format": "uint64"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
}
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Any": {"type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"]},
}


class Schemas:
    """The schemas of messages, each once. `components` are those that are referred to, by name."""

    def __init__(self, comments: Comments) -> None:
        self._comments = comments
        self.components: dict[str, Schema] = {}

    def request(self, message: Descriptor, bound: Collection[str] = ()) -> Schema:
        """Returns the schema of a request's body without the fields that stand in the path."""
        return self._reference(message, _short_name(message), bound, is_request=True)

    def response(self, message: Descriptor, *, with_empty: bool = True) -> Schema:
        """Returns the schema of an answer; `with_empty` is that of MessageEncoder."""
        name = _short_name(message) + ("" if with_empty else ".Basic")
        return self._reference(message, name, is_request=False, with_empty=with_empty)

    def field(self, field: FieldDescriptor, *, is_request: bool = True, with_empty: bool = True) -> Schema:
        """Returns the schema of a field's values, with the limits that its rules set."""
        rules = field.GetOptions().Extensions[validate_pb2.field]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            schema: Schema = {
                "type": "object",
                "additionalProperties": self._value(value, rules.map.values, is_request, with_empty),
            }
            if rules.map.HasField("keys"):
                schema["propertyNames"] = _limited({"type": "string"}, rules.map.keys)
            return schema | _limits(rules.map, max_pairs="maxProperties")
        if field.is_repeated:
            items = self._value(field, rules.repeated.items, is_request, with_empty)
            return {"type": "array", "items": items} | _limits(rules.repeated, max_items="maxItems")
        return self._value(field, rules, is_request, with_empty)

    def _value(
        self, field: FieldDescriptor, rules: validate_pb2.FieldRules, is_request: bool, with_empty: bool
    ) -> Schema:
        if field.enum_type is not None:
            return {"type": "string", "enum": _names(field.enum_type)}
        if field.message_type is None:
            return _limited(dict(_SCALARS[field.cpp_type]), rules)
        known = _WELL_KNOWN.get(field.message_type.full_name)
        if known is not None:
            return dict(known)
        if is_request:
            return self.request(field.message_type)
        return self.response(field.message_type, with_empty=with_empty)

    def _reference(
        self,
        message: Descriptor,
        name: str,
        bound: Collection[str] = (),
        *,
        is_request: bool,
        with_empty: bool = True,
    ) -> Schema:
        if name not in self.components:
            schema = self.components[name] = {}
            # Filled behind its name: a type may hold itself.
            schema.update(self._message(message, bound, is_request, with_empty))
        return {"$ref": f"#/components/schemas/{name}"}

    def _message(self, message: Descriptor, bound: Collection[str], is_request: bool, with_empty: bool) -> Schema:
        fields = [field for field in message.fields if field.name not in bound]
        required = [
            field.name
            for field in fields
            if (is_required(field) if is_request else with_empty and not field.has_presence)
        ]
        schema: Schema = {
            "type": "object",
            **self._comments.description(message),
            "properties": {
                field.name: self.field(field, is_request=is_request, with_empty=with_empty)
                | self._comments.description(field)
                for field in fields
            },
        }
        if required:
            schema["required"] = required
        if is_request:
            schema["additionalProperties"] = False
        return schema


def is_required(field: FieldDescriptor) -> bool:
    """Returns whether a request must have the field (AIP-203)."""
    return field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def _short_name(message: Descriptor) -> str:
    """Returns the name under which callers know a message: without the package, if it is ours."""
    return message.full_name.removeprefix("participants.v1.")


def _names(enum: EnumDescriptor) -> list[str]:
    # What is unspecified is left out in JSON, or never sent.
    return [value.name for value in enum.values if value.number]


def _limited(schema: Schema, rules: validate_pb2.FieldRules) -> Schema:
    """Returns the schema of a scalar with its rules, as far as JSON Schema has words for them."""
    kind = rules.WhichOneof("type")
    if kind == "string":
        schema |= _limits(rules.string, min_len="minLength", max_len="maxLength")
        if rules.string.uuid:
            schema["format"] = "uuid"
        if rules.string.not_contains == "\0":
            schema["pattern"] = r"^[^\u0000]*$"
        if "in" in {field.name for field, _ in rules.string.ListFields()}:
            schema["enum"] = [value for value in getattr(rules.string, "in") if value]
    elif kind == "int32":
        schema |= _limits(rules.int32, gte="minimum", lte="maximum")
    if any("isEmail()" in rule.expression for rule in rules.cel):
        schema["format"] = "email"
    return schema


def _limits(rules: Any, **words: str) -> Schema:
    return {word: getattr(rules, rule) for rule, word in words.items() if rules.HasField(rule)}
