"""Fields of every type are read and written as json_format has it, whatever messages the protos will have."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, timestamp_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from server.errors import InvalidArgument
from server.gateway.decoding import MessageDecoder
from server.gateway.encoding import MessageEncoder
from server.gateway.parameters import Parameters
from tests.support.clients import JSON_OPTIONS

Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "text": Field.TYPE_STRING,
    "octets": Field.TYPE_BYTES,
    "flag": Field.TYPE_BOOL,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "uint32": Field.TYPE_UINT32,
    "uint64": Field.TYPE_UINT64,
    "sint32": Field.TYPE_SINT32,
    "fixed64": Field.TYPE_FIXED64,
    "float": Field.TYPE_FLOAT,
    "double": Field.TYPE_DOUBLE,
}
KEYS = ["text", "flag", "int32", "int64", "uint64"]
NAMED = {"color": ".test.Color", "at": ".google.protobuf.Timestamp", "nested": ".test.Everything"}


def everything() -> Any:
    """Returns a message with singular, optional and repeated fields, maps and a oneof of all those types."""
    file = descriptor_pb2.FileDescriptorProto(
        name="test/everything.proto", package="test", syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    color = file.enum_type.add(name="Color")
    for number, name in enumerate(["COLOR_UNSPECIFIED", "RED", "GREEN"]):
        color.value.add(name=name, number=number)
    message = file.message_type.add(name="Everything")

    def add(name: str, kind: str, label: Any = Field.LABEL_OPTIONAL) -> Any:
        field = message.field.add(name=name, json_name=name, number=len(message.field) + 1, label=label)
        set_type(field, kind)
        return field

    for kind in [*SCALARS, *NAMED]:
        add(kind, kind)
        add(f"repeated_{kind}", kind, Field.LABEL_REPEATED)
    message.oneof_decl.add(name="choice")
    for kind in ("text", "int64", "nested"):
        add(f"chosen_{kind}", kind).oneof_index = 0
    for kind in [*SCALARS, "color"]:
        field = add(f"optional_{kind}", kind)
        field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
        message.oneof_decl.add(name=f"_optional_{kind}")
    for key, kind in [*((key, "text") for key in KEYS), *(("text", kind) for kind in [*SCALARS, *NAMED])]:
        name = f"{key}_to_{kind}"
        entry_name = "".join(part.title() for part in name.split("_")) + "Entry"
        if any(nested.name == entry_name for nested in message.nested_type):
            continue
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        set_type(entry.field.add(name="key", json_name="key", number=1, label=Field.LABEL_OPTIONAL), key)
        set_type(entry.field.add(name="value", json_name="value", number=2, label=Field.LABEL_OPTIONAL), kind)
        field = message.field.add(name=name, json_name=name, number=len(message.field) + 1, label=Field.LABEL_REPEATED)
        field.type, field.type_name = Field.TYPE_MESSAGE, f".test.Everything.{entry_name}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("test.Everything"))


def set_type(field: Any, kind: str) -> None:
    if kind in SCALARS:
        field.type = SCALARS[kind]
    else:
        field.type, field.type_name = (Field.TYPE_ENUM if kind == "color" else Field.TYPE_MESSAGE), NAMED[kind]


Everything = everything()
DESCRIPTOR: Any = Everything.DESCRIPTOR
FIELDS = DESCRIPTOR.fields_by_name

# What some field takes, and much that is next to it.
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**31 - 1, -(2**31) - 1, 2**32, 2**63, 2**64 - 1, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1.0, 1e5, 3.5e38, 3.4028235e38, 1e-50]),
    st.text(max_size=6),
    st.integers(-(2**65), 2**65).map(str),
    st.sampled_from(
        ["true", "false", "RED", "red", "1", "01", "1.0", "1.5", "1e3", "-0", " 1", "1_0", "NaN", "Infinity"]
    ),
    st.sampled_from(["QQ==", "QQ", "Q", "-_-_", "+/+/", "QQ=", "Q Q="]),
    st.sampled_from(
        ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00+02:00", "2026-02-30T00:00:00Z"]
    ),
)
nested_values = st.recursive(
    values,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FIELDS, "1", "true", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(list(FIELDS)), nested_values, max_size=3)


@given(objects)
def test_what_decodes_is_what_json_format_would_have_decoded(value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    try:
        decoded = MessageDecoder(DESCRIPTOR).decode(body)
    except InvalidArgument:
        return
    assert same(decoded, json_format.Parse(body, Everything()))


def same(one: Message, other: Message) -> bool:
    # NaN is not equal to itself.
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


@given(st.data())
def test_whatever_a_message_holds_comes_back(data: st.DataObject) -> None:
    """What json_format writes of a message, we read, and write in the same way."""
    message = Everything()
    for name in data.draw(st.lists(st.sampled_from(list(FIELDS)), max_size=4)):
        try:
            json_format.ParseDict({name: data.draw(nested_values)}, message)
        except (json_format.ParseError, OverflowError, ValueError, TypeError, AttributeError):
            continue
    written = json_format.MessageToJson(message, **JSON_OPTIONS)
    encoded = MessageEncoder(DESCRIPTOR).encode(message)
    assert json.loads(encoded) == json.loads(written)
    assert same(MessageDecoder(DESCRIPTOR).decode(encoded), message)
    brief = MessageEncoder(DESCRIPTOR, with_empty=False).encode(message)
    assert same(MessageDecoder(DESCRIPTOR).decode(brief), message)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, 0.1, 1e-45, 3.4e38, 16777216.0])
@pytest.mark.parametrize("name", ["float", "double"])
def test_numbers_of_every_kind_come_back(name: str, number: float) -> None:
    message = Everything(**{name: number})
    encoded = MessageEncoder(DESCRIPTOR).encode(message)
    assert same(MessageDecoder(DESCRIPTOR).decode(encoded), message)


class TestParameters:
    """Query parameters are bound to fields."""

    @pytest.mark.parametrize(
        ("query", "fields"),
        [
            ("", {}),
            ("text=a+b%20c%26%3d%2F", {"text": "a b c&=/"}),
            ("text=", {"text": ""}),
            ("&", {}),
            ("&text=a&&int32=5&", {"text": "a", "int32": 5}),
            ("at=2026-01-31T12:00:00%2B02:00", {"at": "2026-01-31T12:00:00+02:00"}),
            ("text", {"text": ""}),
            ("text=%C3%A9", {"text": "\u00e9"}),
            ("flag=true&int32=-5&uint64=18446744073709551615", {"flag": True, "int32": -5, "uint64": str(2**64 - 1)}),
            ("double=1.5e3&color=RED", {"double": 1500.0, "color": 1}),
            ("color=2", {"color": 2}),
            ("at=2026-01-31T12%3A00%3A00Z", {"at": "2026-01-31T12:00:00Z"}),
            ("repeated_text=a&repeated_text=b", {"repeated_text": ["a", "b"]}),
            ("text=" + "a" * 16_379, {"text": "a" * 16_379}),
            ("&".join(["repeated_text=a"] * 64), {"repeated_text": ["a"] * 64}),
            ("repeated_int32=1&text=x&repeated_int32=2", {"repeated_int32": [1, 2], "text": "x"}),
        ],
    )
    def test_they_mean_what_json_would_mean(self, query: str, fields: dict[str, Any]) -> None:
        read = Parameters(DESCRIPTOR, []).read(query.encode())
        assert MessageDecoder(DESCRIPTOR).from_fields(read) == json_format.ParseDict(fields, Everything())

    @pytest.mark.parametrize(
        ("query", "violation"),
        [
            ("unknown=1", ("unknown", "UNKNOWN_PARAMETER")),
            ("nested=1", ("nested", "UNKNOWN_PARAMETER")),
            ("nested.text=1", ("nested.text", "UNKNOWN_PARAMETER")),
            ("text_to_text=1", ("text_to_text", "UNKNOWN_PARAMETER")),
            ("double=1", ("double", "UNKNOWN_PARAMETER")),
            ("=", ("", "UNKNOWN_PARAMETER")),
            ("text=a&text=a", ("text", "DUPLICATE_PARAMETER")),
            ("flag=1", ("flag", "WRONG_TYPE")),
            ("flag=", ("flag", "WRONG_TYPE")),
            ("int32=1.5", ("int32", "WRONG_TYPE")),
            ("int32=+1", ("int32", "WRONG_TYPE")),
            ("color=PINK", ("color", "WRONG_TYPE")),
            ("at=yesterday", ("at", "WRONG_TYPE")),
            ("at=2026-01-31T12:00:00+02:00", ("at", "WRONG_TYPE")),
            ("repeated_int32=1&repeated_int32=x", ("repeated_int32[1]", "WRONG_TYPE")),
            ("text=%FF", ("text", "INVALID_UNICODE")),
            ("&".join(["unknown=1"] * 65), ("", "QUERY_TOO_LONG")),
            ("text=" + "a" * 16_380, ("", "QUERY_TOO_LONG")),
        ],
    )
    def test_what_means_nothing_is_refused_by_name(self, query: str, violation: tuple[str, str]) -> None:
        with pytest.raises(InvalidArgument) as refused:
            MessageDecoder(DESCRIPTOR).from_fields(Parameters(DESCRIPTOR, ["double"]).read(query.encode()))
        assert {(told.field, told.reason) for told in refused.value.violations} == {violation}

    def test_of_an_offset_that_is_not_encoded_it_is_said_how_to_write_it(self) -> None:
        with pytest.raises(InvalidArgument, match="%2B"):
            Parameters(DESCRIPTOR, []).read(b"at=2026-01-31T12:00:00+02:00")
