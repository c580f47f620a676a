"""Rows of a file, whatever its format and its size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from participants.v1.participant_service_pb2 import CreateParticipantRequest

from server.errors import InvalidArgument
from server.gateway.decoding import MessageDecoder
from server.importer.lines import Lines

# The gateway takes no larger request either, and a batch must fit in a message of 4 MiB.
MAX_ROW_BYTES = 1 << 20

_decoder = MessageDecoder(CreateParticipantRequest.DESCRIPTOR)


@dataclass(slots=True)
class Row:
    """One row: the line it starts on, its bytes as they are in the file, and its request, or a problem that keeps it
    from being sent."""

    line: int
    raw: bytes
    request: CreateParticipantRequest = field(default_factory=CreateParticipantRequest)
    problem: str = ""


def json_rows(lines: Lines) -> Iterator[Row]:
    """Reads one JSON object a line, each the body of a CreateParticipant over HTTP. Empty lines are passed over."""
    for line in lines:
        if line.text.strip():
            yield new_row(line.number, line.raw, line.problem, partial(_decoder.decode, line.text.encode()))


def new_row(line: int, raw: bytes, problem: str, decode: Callable[[], Any]) -> Row:
    """Returns a row, decoded where nothing is wrong with it already."""
    row = Row(line, raw, problem=problem)
    if not problem and len(raw) <= MAX_ROW_BYTES:
        try:
            row.request = decode()
        except InvalidArgument as error:
            row.problem = error.message
    # In other encodings than UTF-8 a row may grow.
    if max(len(raw), row.request.ByteSize()) > MAX_ROW_BYTES:
        row.problem = f"the row is longer than {MAX_ROW_BYTES} bytes"
    return row


def request_from_fields(fields: dict[str, Any]) -> CreateParticipantRequest:
    """Returns the request with these fields, as JSON has them. Raises InvalidArgument."""
    return cast("CreateParticipantRequest", _decoder.from_fields(fields))
