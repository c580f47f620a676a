"""JSON to messages, as proto3 JSON has it, strict about what is unknown, repeated or of the wrong type.

What this takes, `json_format.Parse` takes, and what comes out is equal (a property test holds that), at a fifth of the
time. What is wrong with a body is reported all at once, with field paths.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2

from server.api.conversion import item_status
from server.api.counts import count_limit
from server.errors import InvalidArgument
from server.gateway.json_text import as_object, parsed, repeated_keys
from server.gateway.scalars import Mismatch, Reader, read_text, value_reader
from server.gateway.violations import Violations, shown

# Sets one field of a message from a JSON value; `path` is where the value stands.
Setter = Callable[[Message, Any, str, Violations], None]


class MessageDecoder:
    """Decodes JSON objects into messages of one type."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._class: type[Message] = GetMessageClass(descriptor)
        # Filled when the first message comes: a type may hold itself.
        self._setters: dict[str, Setter] = {}
        self._descriptor = descriptor

    def decode(
        self,
        body: bytes,
        bound: Mapping[str, Any] | None = None,
        refused: dict[int, status_pb2.Status] | None = None,
    ) -> Message:
        """Returns the message, or raises InvalidArgument.

        `bound` are fields that stand elsewhere in the request. `refused` is told what is wrong with items of a batch,
        by their number; the message has an empty item in the place of each.
        """
        *_, message = self.steps(body, bound or {}, {} if refused is None else refused)
        assert message is not None
        return message

    def steps(
        self, body: bytes, bound: Mapping[str, Any], refused: dict[int, status_pb2.Status]
    ) -> Generator[Message | None]:
        """Does what `decode` does in steps, one an item of a batch; the last yields the message."""
        fields = parsed(body)
        violations = Violations()
        if bound:
            for name in bound.keys() & fields.keys():
                violations.add(name, "DUPLICATE_FIELD", "stands in the path, and so not in the body")
            fields |= bound
        message = self._decoded(fields, violations)
        if violations.batch is not None:
            for _ in violations.batch(refused):
                yield None
        yield message

    def from_fields(self, fields: Mapping[str, Any]) -> Message:
        """Returns the message that has these fields, by name and with values as JSON has them, or raises
        InvalidArgument."""
        return self._decoded(fields, Violations())

    def _decoded(self, fields: Mapping[str, Any], violations: Violations) -> Message:
        message = self.message(fields, "", violations)
        violations.raise_if_any()
        return message

    def message(self, value: Mapping[str, Any], prefix: str, violations: Violations) -> Message:
        """Returns the message of a JSON object that stands at `prefix`; what is wrong is added to `violations`."""
        message = self._class()
        setters = self._setters or self._fill()
        for name in repeated_keys(value):
            violations.add(prefix + shown(name), "DUPLICATE_FIELD", "stands twice in one object")
        for name, item in value.items():
            setter = setters.get(name)
            if setter is None:
                violations.add(prefix + shown(name), "UNKNOWN_FIELD", "there is no such field")
            elif item is not None:
                setter(message, item, prefix + name, violations)
        return message

    def _fill(self) -> dict[str, Setter]:
        self._setters = {field.json_name: _setter(field) for field in self._descriptor.fields}
        return self._setters


def _own_message(field: FieldDescriptor) -> Descriptor | None:
    """Returns the type of a field's messages where their JSON is an object of their fields."""
    kind = field.message_type
    return None if kind is None or kind.full_name.startswith("google.protobuf.") else kind


def _setter(field: FieldDescriptor) -> Setter:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _counted(field, dict, "an object", _map_setter(field.name, field.message_type))
    if field.is_repeated:
        return _counted(field, list, "an array", _repeated_setter(field))
    if field.containing_oneof is not None and not _is_optional(field):
        return _oneof_setter(field)
    return _singular_setter(field)


def _singular_setter(field: FieldDescriptor) -> Setter:
    name = field.name
    kind = _own_message(field)
    if kind is not None:
        decoder = MessageDecoder(kind)

        def set_message(message: Message, value: Any, path: str, violations: Violations) -> None:
            if isinstance(value, dict):
                getattr(message, name).CopyFrom(decoder.message(value, f"{path}.", violations))
            else:
                violations.add(path, "WRONG_TYPE", "must be an object")

        return set_message
    read = value_reader(field)
    is_message = field.message_type is not None

    def set_value(message: Message, value: Any, path: str, violations: Violations) -> None:
        try:
            if is_message:
                getattr(message, name).CopyFrom(read(value))
            else:
                setattr(message, name, read(value))
        except Mismatch as mismatch:
            violations.add(path, mismatch.reason, mismatch.message)

    return set_value


def _is_optional(field: FieldDescriptor) -> bool:
    # Of `optional` protoc makes a oneof with this name and one member.
    return field.containing_oneof is not None and field.containing_oneof.name == f"_{field.name}"


def _oneof_setter(field: FieldDescriptor) -> Setter:
    assert field.containing_oneof is not None
    oneof = field.containing_oneof.name
    set_value = _singular_setter(field)

    def set_member(message: Message, value: Any, path: str, violations: Violations) -> None:
        other = message.WhichOneof(oneof)
        if other is not None:
            violations.add(path, "DUPLICATE_FIELD", f"cannot be given beside {other}")
        else:
            set_value(message, value, path, violations)

    return set_member


def _counted(
    field: FieldDescriptor, kind: type[dict[str, Any] | list[Any]], expected: str, set_items: Setter
) -> Setter:
    """Returns a setter that counts the items before it looks at them."""
    limit = count_limit(field)
    max_items = limit.max_items if limit else None

    def set_counted(message: Message, value: Any, path: str, violations: Violations) -> None:
        if not isinstance(value, kind):
            violations.add(path, "WRONG_TYPE", f"must be {expected}")
        elif max_items is not None and limit is not None and len(value) > max_items:
            violations.add_violation(limit.violation(path))
        else:
            set_items(message, value, path, violations)

    return set_counted


def _map_setter(name: str, entry: Descriptor) -> Setter:
    key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
    read_key = _key_reader(key_field)
    is_text = _is_text(key_field) and _is_text(value_field)
    set_value = _map_value_setter(value_field)

    def set_map(message: Message, value: Any, path: str, violations: Violations) -> None:
        items = getattr(message, name)
        for key in repeated_keys(value):
            violations.add(_entry(path, key), "DUPLICATE_FIELD", "stands twice in one object")
        if is_text and _all_text(value) and _all_text(value.values()):
            # update() of a protobuf map takes longer.
            for key, item in value.items():
                items[key] = item
            return
        for key, item in value.items():
            where = _entry(path, key)
            try:
                set_value(items, read_key(key), item, where, violations)
            except Mismatch as mismatch:
                violations.add(where, mismatch.reason, mismatch.message)

    return set_map


def _entry(path: str, key: str) -> str:
    """Returns where the value of a map's key stands."""
    return f"{path}[{json.dumps(key, ensure_ascii=not _is_unicode(key))}]"


def _key_reader(field: FieldDescriptor) -> Reader:
    read = value_reader(field)
    if field.type != FieldDescriptor.TYPE_BOOL:
        return read

    def read_bool(key: str) -> bool:
        if key not in {"true", "false"}:
            raise Mismatch("must be true or false")
        return key == "true"

    return read_bool


def _map_value_setter(field: FieldDescriptor) -> Callable[[Any, Any, Any, str, Violations], None]:
    kind = _own_message(field)
    if kind is not None:
        decoder = MessageDecoder(kind)

        def set_message(items: Any, key: Any, value: Any, path: str, violations: Violations) -> None:
            if not isinstance(value, dict):
                raise Mismatch("must be an object")
            items[key].CopyFrom(decoder.message(value, f"{path}.", violations))

        return set_message
    read = value_reader(field)

    def set_value(items: Any, key: Any, value: Any, _path: str, _violations: Violations) -> None:
        if field.message_type is not None:
            items[key].CopyFrom(read(value))
        else:
            items[key] = read(value)

    return set_value


def _repeated_setter(field: FieldDescriptor) -> Setter:
    name = field.name
    kind = _own_message(field)
    if kind is not None:
        return (_batch_setter if _are_items_on_their_own(field) else _messages_setter)(name, kind)
    read = value_reader(field)
    is_text = _is_text(field)

    def set_values(message: Message, value: Any, path: str, violations: Violations) -> None:
        items = getattr(message, name)
        if is_text and _all_text(value):
            items.extend(value)
            return
        for index, item in enumerate(value):
            try:
                items.append(read(item))
            except Mismatch as mismatch:
                violations.add(f"{path}[{index}]", mismatch.reason, mismatch.message)

    return set_values


def _messages_setter(name: str, descriptor: Descriptor) -> Setter:
    decoder = MessageDecoder(descriptor)

    def set_messages(message: Message, value: Any, path: str, violations: Violations) -> None:
        items = getattr(message, name)
        for index, item in enumerate(value):
            if isinstance(item, dict):
                items.append(decoder.message(item, f"{path}[{index}].", violations))
            else:
                violations.add(f"{path}[{index}]", "WRONG_TYPE", "must be an object")

    return set_messages


def _are_items_on_their_own(field: FieldDescriptor) -> bool:
    """Tells whether the rules in the .proto files leave it to whoever takes the items to validate each."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    return rules.repeated.items.ignore == validate_pb2.IGNORE_ALWAYS


def _batch_setter(name: str, descriptor: Descriptor) -> Setter:
    decoder = MessageDecoder(descriptor)

    def set_batch(message: Message, value: Any, _path: str, violations: Violations) -> None:
        # Once nothing else is found to be wrong.
        violations.batch = functools.partial(_decode_items, decoder, getattr(message, name), value)

    return set_batch


def _decode_items(
    decoder: MessageDecoder, items: Any, values: list[Any], refused: dict[int, status_pb2.Status]
) -> Iterator[None]:
    for number, value in enumerate(values):
        try:
            items.append(decoder.from_fields(as_object(value, "the item")))
        except InvalidArgument as error:
            # At once: what is wrong with an item is many objects, and in these words few bytes.
            refused[number] = item_status(error)
            items.add()
        yield


def _is_text(field: FieldDescriptor) -> bool:
    return field.type == FieldDescriptor.TYPE_STRING


def _all_text(values: Iterable[Any]) -> bool:
    try:
        # Of all of them at once it takes far fewer steps to tell.
        return _is_unicode("".join(values))
    except TypeError:
        return False


def _is_unicode(value: str) -> bool:
    try:
        read_text(value)
    except Mismatch:
        return False
    return True
