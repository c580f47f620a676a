"""Reads JSON Lines and CSV, one row at a time, whatever the size of the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

from participants.v1.participant_service_pb2 import CreateParticipantRequest

from server.config import ConfigurationError
from server.errors import InvalidArgument
from server.gateway.decoding import MessageDecoder

# The gateway takes no larger request either.
MAX_ROW_BYTES = 1 << 20
TAG_SEPARATOR = ";"
ATTRIBUTE_PREFIX = "attributes."

_decoder = MessageDecoder(CreateParticipantRequest.DESCRIPTOR)


@dataclass(slots=True)
class Row:
    """One row: the line it ends on, its text, and its request, or a problem that keeps it from being sent."""

    line: int
    text: str
    request: CreateParticipantRequest = field(default_factory=CreateParticipantRequest)
    problem: str = ""


Reader = Callable[[IO[bytes]], Iterator[Row]]


def json_lines(file: IO[bytes]) -> Iterator[Row]:
    """Reads one JSON object a line, each the body of a CreateParticipant over HTTP. Empty lines are passed over."""
    for number, (line, complete) in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        row = Row(number, line.decode(errors="replace").rstrip("\r\n"))
        if complete:
            _decode(row, partial(_decoder.decode, line))
        else:
            row.problem = f"the line is longer than {MAX_ROW_BYTES} bytes"
        yield row


def _lines(file: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yields lines and whether each is whole: what is beyond MAX_ROW_BYTES is dropped, so memory stays flat."""
    while line := file.readline(MAX_ROW_BYTES + 1):
        complete = line.endswith(b"\n") or len(line) <= MAX_ROW_BYTES
        rest = line
        while not rest.endswith(b"\n") and (rest := file.readline(MAX_ROW_BYTES)):
            pass
        yield (line, True) if complete else (line[:200], False)


def comma_separated(file: IO[bytes]) -> Iterator[Row]:
    """Reads CSV in UTF-8 with a heading. The columns are the fields of CreateParticipantRequest, `tags` separated by
    semicolons, and `attributes.KEY` for an attribute. An empty cell leaves the field as it is.

    Raises ConfigurationError when the heading cannot be used.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    # What is no UTF-8 comes out as lone surrogates, which the decoder reports with the field's name.
    lines = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(lines, strict=True)
    heading = _heading(reader)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(reader.line_num, "", problem=f"no CSV: {error}")
            continue
        if cells:
            yield _csv_row(reader.line_num, heading, cells)


def _heading(reader: Iterator[list[str]]) -> Sequence[str]:
    heading = [name.strip() for name in next(reader, [])]
    known = set(CreateParticipantRequest.DESCRIPTOR.fields_by_name) - {"attributes"}
    unknown = [name for name in heading if name not in known and not name.startswith(ATTRIBUTE_PREFIX)]
    if unknown:
        raise ConfigurationError(
            f"the CSV heading has a column {unknown[0]!r}; columns are {', '.join(sorted(known))}, attributes.KEY"
        )
    if "external_id" not in heading or len(set(heading)) < len(heading):
        raise ConfigurationError("the CSV heading must have a column external_id, and none twice")
    return heading


def _csv_row(line: int, heading: Sequence[str], cells: Sequence[str]) -> Row:
    row = Row(line, ",".join(cells).encode(errors="replace").decode())
    if len(cells) != len(heading):
        row.problem = f"the row has {len(cells)} cells and the heading {len(heading)}"
    else:
        _decode(row, partial(_decoder.from_fields, _fields(heading, cells)))
    return row


def _fields(heading: Sequence[str], cells: Sequence[str]) -> Mapping[str, Any]:
    fields: dict[str, Any] = {}
    attributes = {}
    for name, cell in zip(heading, cells, strict=True):
        if not cell:
            continue
        if name.startswith(ATTRIBUTE_PREFIX):
            attributes[name.removeprefix(ATTRIBUTE_PREFIX)] = cell
        elif name == "tags":
            fields[name] = [tag.strip() for tag in cell.split(TAG_SEPARATOR) if tag.strip()]
        else:
            fields[name] = cell
    return {**fields, "attributes": attributes} if attributes else fields


def _decode(row: Row, decode: Callable[[], Any]) -> None:
    try:
        row.request = decode()
    except InvalidArgument as error:
        row.problem = error.message
