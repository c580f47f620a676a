"""Writes a .proto file from its descriptor, for the one import whose source no installed package carries.

It knows what such a file of rules has: messages, enums and extensions, none of them nested, in proto2. A test holds
that what is written compiles to the same descriptor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FieldOptions,
    FileDescriptorProto,
)

# The greatest numbers of a field and of an enum's value.
_MAX = {2**29 - 1, 2**31 - 1}


def render(file: FileDescriptorProto, comment: str) -> str:
    """Returns the text of a .proto file that starts with a comment, and compiles to this descriptor."""
    lines = [
        *(f"// {line}".rstrip() for line in comment.splitlines()),
        'syntax = "proto2";',
        f"package {file.package};",
    ]
    lines += [f'import "{name}";' for name in file.dependency]
    for option, value in file.options.ListFields():
        lines.append(f"option {option.name} = {json.dumps(value)};")
    for extension in file.extension:
        lines += [f"extend {extension.extendee} {{", f"  {_label(extension)} {_field(extension)}", "}"]
    for message in file.message_type:
        lines += _message(message)
    for enum in file.enum_type:
        lines += _enum(enum)
    return "\n".join(lines) + "\n"


def _message(message: DescriptorProto) -> Iterator[str]:
    yield f"message {message.name} {{"
    yield from _reserved(message.reserved_name, ((each.start, each.end - 1) for each in message.reserved_range))
    yield from (f"  extensions {_range(each.start, each.end - 1)};" for each in message.extension_range)
    for oneof, fields in groupby(
        message.field, lambda field: field.oneof_index if field.HasField("oneof_index") else None
    ):
        if oneof is None:
            yield from (f"  {_label(field)} {_field(field)}" for field in fields)
        else:
            yield from (
                f"  oneof {message.oneof_decl[oneof].name} {{",
                *(f"    {_field(field)}" for field in fields),
                "  }",
            )
    yield "}"


def _enum(enum: EnumDescriptorProto) -> Iterator[str]:
    yield f"enum {enum.name} {{"
    yield from _reserved(enum.reserved_name, ((each.start, each.end) for each in enum.reserved_range))
    yield from (f"  {value.name} = {value.number};" for value in enum.value)
    yield "}"


def _reserved(names: Sequence[str], ranges: Iterable[tuple[int, int]]) -> Iterator[str]:
    yield from (f'  reserved "{name}";' for name in names)
    yield from (f"  reserved {_range(first, last)};" for first, last in ranges)


def _range(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"{first} to {'max' if last in _MAX else last}"


def _label(field: FieldDescriptorProto) -> str:
    return FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower()


def _field(field: FieldDescriptorProto) -> str:
    kind = field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return f"{kind} {field.name} = {field.number}{_options(field.options)};"


def _options(options: FieldOptions) -> str:
    values = [
        f"({option.full_name}) = {{{text_format.MessageToString(value, as_utf8=True, as_one_line=True)}}}"
        if option.is_extension
        else f"{option.name} = {json.dumps(value)}"
        for option, value in options.ListFields()
    ]
    return f" [{', '.join(values)}]" if values else ""
