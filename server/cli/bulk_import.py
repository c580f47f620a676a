"""`participants import`"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import click
import uvloop
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

from server.cli.file_parameters import COLUMN, DELIMITER, ENCODING
from server.cli.service import api_key, connected_channel
from server.config import Settings, read_settings
from server.errors import CommandError
from server.importer.check import VALID, check
from server.importer.delimited import DelimitedFile
from server.importer.lines import ADVICE, Lines
from server.importer.progress import Counts, Meter
from server.importer.rejects import RejectsFile, check_rejects_path
from server.importer.rows import Row, json_rows
from server.importer.sender import REJECTED, Report, Sender

KINDS = {"jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv", "tsv": "csv"}
# Looking at the progress of every row would cost more than reading it.
ROWS_AN_UPDATE = 200


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=str))
@click.option(
    "--format", "kind", type=click.Choice(["jsonl", "csv"]), help="By default what the file's name ends with."
)
@click.option(
    "--delimiter", type=DELIMITER, help="What separates cells: a character, or tab. By default the heading shows it."
)
@click.option(
    "--encoding",
    type=ENCODING,
    help="Such as cp1252 or utf-16. By default UTF-8, or what the file's byte order mark says.",
)
@click.option(
    "--map",
    "names",
    type=COLUMN,
    multiple=True,
    metavar="COLUMN=FIELD",
    help="The field that a column is; nothing after the = leaves the column out. May be repeated.",
)
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where rows that fail are written. By default FILE.rejects.csv or FILE.rejects.jsonl.",
)
@click.option("--dry-run", is_flag=True, help="Check every row by the service's rules, and send nothing.")
def import_file(
    *,
    file: str,
    kind: str | None,
    delimiter: str | None,
    encoding: str | None,
    names: tuple[tuple[str, str], ...],
    rejects: Path | None,
    dry_run: bool,
) -> None:
    """Upsert the rows of FILE (- is standard input) through the running service.

    FILE is JSON Lines, each line the body of a CreateParticipant, or CSV with a heading: the fields' names, tags
    separated by semicolons, and attributes.KEY for an attribute; an empty cell leaves the field as it is. Other
    headings are mapped: --map "Customer ID=external_id" --map "Plan=attributes.plan" --map "Notes=".

    Rows go to the service at PARTICIPANTS_GRPC_ADDRESS, in the organization of the key that is sent:
    PARTICIPANTS_API_KEY or, where that is unset, the development key.

    Rows that fail are written to the rejects file as they were, heading included, so that it can be mended and
    imported; REJECTS.reasons.jsonl has the line and the reason of each, in the same order. A rejects file that is
    there already is kept as REJECTS.old; when no row fails, nothing is written.

    An import may be interrupted and run again: what is there already is UNCHANGED. Exit status 1 when any row was
    rejected.
    """
    settings = read_settings(os.environ)
    kind = kind or _kind(file)
    if kind != "csv" and (delimiter or names):
        raise click.UsageError("--delimiter and --map are for CSV")
    counts = Counts(VALID, REJECTED) if dry_run else Counts("CREATED", "UPDATED", "UNCHANGED", REJECTED)
    with ExitStack() as stack:
        opened = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
        path = rejects or _rejects_path(file, kind)
        check_rejects_path(path, opened)
        lines = Lines(opened, encoding)
        rows, heading = _rows(lines, kind, delimiter, dict(names))
        rejected = stack.enter_context(RejectsFile(path, heading))
        meter = stack.enter_context(Meter(counts, None if file == "-" else Path(file).stat().st_size).shown())

        def report(row: Row, result: str, reason: str) -> None:
            counts.add(result)
            if result == REJECTED:
                rejected.add(row, reason)

        try:
            metered = _metered(rows, opened, meter)
            if dry_run:
                check(metered, report)
            else:
                uvloop.run(_send(settings, metered, report))
        except KeyboardInterrupt:
            click.echo(f"interrupted: {counts}; run it again to go on")
            sys.exit(130)
    click.echo(f"{counts} ({counts.rate:,.0f} rows/s){'; nothing was sent' if dry_run else ''}")
    if lines.undecodable:
        click.echo(f"not {lines.encoding.upper()}: {lines.undecodable:,} lines; {ADVICE}", err=True)
    if rejected.first is not None:
        line, reason = rejected.first
        click.echo(f"the first row that failed, line {line}: {reason}", err=True)
        click.echo(f"rejected rows are in {path}, their lines and reasons in {rejected.reasons}", err=True)
        sys.exit(1)


def _kind(file: str) -> str:
    kind = KINDS.get(Path(file).suffix.removeprefix(".").lower())
    if kind is None:
        raise CommandError(f"cannot tell the format of {file!r}; say --format jsonl or --format csv")
    return kind


def _rejects_path(file: str, kind: str) -> Path:
    if file == "-":
        return Path(f"rejects.{kind}")
    suffix = Path(file).suffix
    return Path(file).with_suffix(f".rejects{suffix}" if suffix else f".rejects.{kind}")


def _rows(lines: Lines, kind: str, delimiter: str | None, names: Mapping[str, str]) -> tuple[Iterable[Row], bytes]:
    """Returns the rows, and what a file of some of them has to start with."""
    if kind == "jsonl":
        return json_rows(lines), lines.mark
    rows = DelimitedFile(lines, delimiter, names)
    return rows, lines.mark + rows.heading


def _metered(rows: Iterable[Row], file: IO[bytes], meter: Meter) -> Iterator[Row]:
    seekable = file.seekable()
    for number, row in enumerate(rows):
        if number % ROWS_AN_UPDATE == 0:
            meter.update(file.tell() if seekable else 0)
        yield row


async def _send(settings: Settings, rows: Iterable[Row], report: Report) -> None:
    async with connected_channel(settings) as channel:
        await Sender(ParticipantServiceStub(channel), api_key(settings), report).send(rows)
