"""Reading files to import: whatever is in them, each row comes with its bytes, so that it can be given back."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.importer.delimited import DelimitedFile
from server.importer.lines import Lines
from server.importer.rows import json_rows

ENCODINGS = ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "cp1252"]
# What decides where a record ends, and little else.
TEXT = st.text(alphabet='a1é€",;\t \r\n', max_size=60)


def opened(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(content))


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=TEXT)
def test_a_row_of_csv_has_its_bytes(encoding: str, text: str) -> None:
    heading, body = "external_id,email\r\n".encode(encoding), text.encode(encoding)
    file = DelimitedFile(Lines(opened(heading + body), encoding), ",", {})
    assert file.heading == heading
    assert_in_order([row.raw for row in file], body)


@given(body=st.binary(max_size=60))
def test_a_row_that_is_no_text_has_its_bytes(body: bytes) -> None:
    heading = b"external_id,email\n"
    file = DelimitedFile(Lines(opened(heading + body), None), ",", {})
    assert_in_order([row.raw for row in file], body)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=TEXT)
def test_a_line_of_json_has_its_bytes(encoding: str, text: str) -> None:
    body = text.encode(encoding)
    rows = list(json_rows(Lines(opened(body), encoding)))
    assert_in_order([row.raw for row in rows], body)
    lines = [text.encode(encoding) for text in text.split("\n") if text.strip()]
    assert [row.raw.removesuffix("\n".encode(encoding)) for row in rows] == lines


def assert_in_order(rows: list[bytes], body: bytes) -> None:
    """Asserts that the rows are the body, but for lines that hold nothing."""
    position = 0
    for row in rows:
        found = body.index(row, position)
        assert not body[position:found].strip(b"\r\n\t \0")
        position = found + len(row)
    assert not body[position:].strip(b"\r\n\t \0")
