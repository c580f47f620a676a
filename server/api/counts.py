"""Counts what repeated fields and maps hold, before anything looks at their items.

protovalidate looks at every item of a field that has too many: a message of a few megabytes takes it half a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from server.errors import FieldViolation


@dataclass(frozen=True, slots=True)
class CountLimit:
    """The most items that the rules in the .proto files let a field have."""

    field: str
    max_items: int
    is_map: bool

    def violation(self, path: str) -> FieldViolation:
        """Returns what protovalidate says of too many items."""
        if self.is_map:
            return FieldViolation(path, "MAP_MAX_PAIRS", f"map must be at most {self.max_items} entries")
        return FieldViolation(path, "REPEATED_MAX_ITEMS", f"must contain no more than {self.max_items} item(s)")


def count_limit(field: FieldDescriptor) -> CountLimit | None:
    """Returns the limit of a field, or None where there is none."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if rules.repeated.HasField("max_items"):
        return CountLimit(field.name, rules.repeated.max_items, is_map=False)
    if rules.map.HasField("max_pairs"):
        return CountLimit(field.name, rules.map.max_pairs, is_map=True)
    return None


def excess(message: Message, prefix: str = "") -> Iterator[tuple[Message, CountLimit, str]]:
    """Yields the fields that have too many items: the message that a field is of, its limit and its path."""
    limits, children = _plan(message.DESCRIPTOR)
    for limit in limits:
        if len(getattr(message, limit.field)) > limit.max_items:
            yield message, limit, prefix + limit.field
    for name, is_repeated in children:
        if is_repeated:
            for index, item in enumerate(getattr(message, name)):
                yield from excess(item, f"{prefix}{name}[{index}].")
        elif message.HasField(name):
            yield from excess(getattr(message, name), f"{prefix}{name}.")


@cache
def _plan(descriptor: Descriptor) -> tuple[list[CountLimit], list[tuple[str, bool]]]:
    """Returns the limits of a message's fields, and the fields that are messages with fields of their own."""
    limits = [limit for limit in map(count_limit, descriptor.fields) if limit is not None]
    children = [(field.name, field.is_repeated) for field in descriptor.fields if _has_rules(field)]
    return limits, children


def _has_rules(field: FieldDescriptor) -> bool:
    if field.message_type is None or field.message_type.GetOptions().map_entry:
        return False
    rules = field.GetOptions().Extensions[validate_pb2.field]
    ignored = rules.ignore, rules.repeated.items.ignore
    return validate_pb2.IGNORE_ALWAYS not in ignored and not field.message_type.full_name.startswith("google.")
