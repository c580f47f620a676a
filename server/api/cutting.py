"""Cuts messages short that hold more than they may, before they are parsed.

Two bytes on the wire may be an item, and an item that is a message takes hundreds once it is parsed: so four megabytes
could become several hundred, and take a second. Here the items stay bytes, which is done at once. With one item more
than it may have, a field is refused in the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from server.api.counts import count_limit

Cut = Callable[[bytes], bytes]

# An item takes so many bytes at the least: its field's number, and that it is empty.
_LEAST_ITEM_BYTES = 2


@cache
def cut(descriptor: Descriptor) -> Cut:
    """Returns what cuts serialized messages of a type short. It raises DecodeError for what is no message."""
    limits = [limit for limit in map(count_limit, descriptor.fields) if limit is not None]
    held = {field.name: cut(field.message_type) for field in descriptor.fields if _is_message_of_ours(field)}
    if not limits and not held:
        return bytes
    with_bytes = _with_bytes(descriptor, {*held, *(limit.field for limit in limits)})
    # What is no longer than this has no more items than it may, with those of what it holds.
    short = _LEAST_ITEM_BYTES * sum(limit.max_items for limit in limits)

    def cut_message(serialized: bytes) -> bytes:
        if len(serialized) <= short:
            return serialized
        message = with_bytes.FromString(serialized)
        is_cut = False
        for limit in limits:
            items = getattr(message, limit.field)
            if len(items) > limit.max_items:
                # Entries of a map may have one key, and would be one.
                items[:] = _entries(limit.max_items + 1) if limit.is_map else items[: limit.max_items + 1]
                is_cut = True
        for name, cut_item in held.items():
            items = getattr(message, name)
            for index, item in enumerate(items):
                shorter = cut_item(item)
                if len(shorter) < len(item):
                    items[index] = shorter
                    is_cut = True
        return bytes(message.SerializeToString()) if is_cut else serialized

    return cut_message


def _is_message_of_ours(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and not kind.GetOptions().map_entry and not kind.full_name.startswith("google.")


def _with_bytes(descriptor: Descriptor, names: Iterable[str]) -> Any:
    """Returns a type that differs: these of its fields are bytes, repeated, and all others are unknown, and so kept."""
    kind = descriptor_pb2.DescriptorProto(name="WithBytes")
    for name in names:
        kind.field.add(
            name=name,
            number=descriptor.fields_by_name[name].number,
            type=descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
            label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto(name="with_bytes.proto", syntax="proto3", message_type=[kind]))
    return GetMessageClass(pool.FindMessageTypeByName(kind.name))


def _entries(count: int) -> list[bytes]:
    """Returns so many entries of a map of texts, as they are on the wire, each with a key of its own."""
    keys = [str(number).encode() for number in range(count)]
    return [b"\x0a%c%b" % (len(key), key) for key in keys]
