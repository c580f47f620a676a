"""CSV as spreadsheets and CRMs write it: commas, semicolons or tabs, and headings in anybody's words."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from participants.v1.participant_service_pb2 import CreateParticipantRequest

from server.errors import CommandError
from server.importer.lines import Line, Lines
from server.importer.rows import MAX_ROW_BYTES, Row, new_row, request_from_fields

DELIMITERS = (",", ";", "\t", "|")
TAG_SEPARATOR = ";"
ATTRIBUTE_PREFIX = "attributes."
FIELDS = tuple(name for name in CreateParticipantRequest.DESCRIPTOR.fields_by_name if name != "attributes")


class DelimitedFile:
    """The rows of a CSV file, and `heading`, the bytes of its first row."""

    def __init__(self, lines: Lines, delimiter: str | None, names: Mapping[str, str]) -> None:
        """`names` maps headings to fields; a heading mapped to nothing is left out.

        Raises CommandError when the heading cannot be used.
        """
        csv.field_size_limit(MAX_ROW_BYTES)
        source = iter(lines)
        first = next(source, Line(1, b"", ""))
        if first.problem:
            raise CommandError(first.problem)
        if "\0" in first.text:
            raise CommandError(
                f"not {lines.encoding.upper()}, line 1; UTF-16 looks like this: say --encoding utf-16-le"
            )
        self._records = _Records(chain([first], source), delimiter or _delimiter(first.text))
        _, self.heading, _, cells = next(self._records, (1, b"", "", []))
        self._columns = _columns(cells, names)

    def __iter__(self) -> Iterator[Row]:
        for number, raw, problem, cells in self._records:
            if cells or problem:
                yield new_row(number, raw, problem or self._misshaped(cells), partial(self._request, cells))

    def _misshaped(self, cells: Sequence[str]) -> str:
        if len(cells) != len(self._columns):
            return f"the row has {len(cells)} cells and the heading {len(self._columns)}"
        # Spreadsheets write empty columns without a name, which are no harm.
        if any(cell and name == "" for name, cell in zip(self._columns, cells, strict=True)):
            return "a cell stands in a column without a heading"
        return ""

    def _request(self, cells: Sequence[str]) -> CreateParticipantRequest:
        fields: dict[str, Any] = {}
        attributes = {}
        for name, cell in zip(self._columns, cells, strict=True):
            if not cell or name is None:
                continue
            if name.startswith(ATTRIBUTE_PREFIX):
                attributes[name.removeprefix(ATTRIBUTE_PREFIX)] = cell
            elif name == "tags":
                fields[name] = [tag.strip() for tag in cell.split(TAG_SEPARATOR) if tag.strip()]
            else:
                fields[name] = cell
        if attributes:
            fields["attributes"] = attributes
        return request_from_fields(fields)


class _Records:
    """Iterates over CSV records: the line each starts on, its bytes, a problem or "", and its cells.

    A record may span lines; its bytes are those of all lines that were read for it.
    """

    def __init__(self, lines: Iterator[Line], delimiter: str) -> None:
        self._lines = lines
        self._read: list[Line] = []
        self._reader = csv.reader(self._texts(), delimiter=delimiter, strict=True)

    def _texts(self) -> Iterator[str]:
        for line in self._lines:
            self._read.append(line)
            yield line.text

    def __iter__(self) -> Iterator[tuple[int, bytes, str, list[str]]]:
        return self

    def __next__(self) -> tuple[int, bytes, str, list[str]]:
        self._read.clear()
        problem, cells = "", []
        try:
            cells = next(self._reader)
        except csv.Error as error:
            problem = f"not CSV: {error}"
        problem = next((line.problem for line in self._read if line.problem), problem)
        return self._read[0].number, b"".join(line.raw for line in self._read), problem, cells


def _delimiter(heading: str) -> str:
    """Returns the character that stands most often in the heading outside of quotes."""
    bare = re.sub(r'"(?:[^"]|"")*"', "", heading)
    return max(DELIMITERS, key=bare.count)


def _columns(heading: Sequence[str], names: Mapping[str, str]) -> Sequence[str | None]:
    """Returns the fields that the columns are: None for one that is left out, "" for one without a name."""
    heading = [name.strip() for name in heading]
    missing = [name for name in names if name not in heading]
    if missing:
        raise CommandError(f"--map names a column {missing[0]!r}; the heading has {_listed(heading)}")
    columns = [(names[name] or None) if name in names else name for name in heading]
    unknown = [name for name, column in zip(heading, columns, strict=True) if not _is_field(column)]
    if unknown:
        name = unknown[0]
        raise CommandError(
            f"the heading has columns that are no fields: {_listed(unknown)}; for each say --map '{name}=FIELD', "
            f"or --map '{name}=' to leave it out; fields are {', '.join(FIELDS)}, attributes.KEY"
        )
    used = [column for column in columns if column]
    if "external_id" not in used:
        raise CommandError("no column is the external_id; name it so, or say --map 'COLUMN=external_id'")
    if len(set(used)) < len(used):
        twice = next(column for column in used if used.count(column) > 1)
        raise CommandError(
            f"the heading has the field {twice!r} twice; rename a column, or leave it out by --map 'NAME='"
        )
    return columns


def _is_field(column: str | None) -> bool:
    if column is None or column in {"", *FIELDS}:
        return True
    return column.startswith(ATTRIBUTE_PREFIX) and column != ATTRIBUTE_PREFIX


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
