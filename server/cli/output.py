"""Lists, readable for people as a table and for scripts as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def print_list(rows: Sequence[DataclassInstance], kind: type[DataclassInstance], *, as_json: bool) -> None:
    """Prints rows, all of one kind: a JSON array, or a table with a heading."""
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], default=_time, indent=2, ensure_ascii=False))
        return
    table = [[field.name.upper() for field in fields(kind)]]
    table += [[_cell(value) for value in asdict(row).values()] for row in rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    text = _time(value) if isinstance(value, datetime) else str(value)
    # A name is anybody's text: it must not move the cursor or start a new line.
    return "".join(character if character.isprintable() else "?" for character in text)
