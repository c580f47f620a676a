"""Lists, readable for people as a table and for scripts as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def print_list(rows: Sequence[DataclassInstance], kind: type[DataclassInstance], *, as_json: bool) -> None:
    """Prints rows, all of one kind: a JSON array, or a table with a heading."""
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_table([[field.name.upper() for field in fields(kind)], *(list(asdict(row).values()) for row in rows)])


def print_json(value: Any) -> None:
    """Prints a value that JSON has, or that holds times."""
    click.echo(json.dumps(value, default=_time, indent=2, ensure_ascii=False))


def print_table(rows: Iterable[Sequence[Any]]) -> None:
    """Prints rows of equally many values, each column as wide as it must be."""
    table = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _cell(value: Any) -> str:
    if value in (None, "", [], {}):
        return "-"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    text = _time(value) if isinstance(value, datetime) else str(value)
    # A name is anybody's text: it must not move the cursor or start a new line.
    return "".join(character if character.isprintable() else "?" for character in text)
