"""`participants import`"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import click
import grpc
import uvloop
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub
from rich.console import Console

from server.config import ConfigurationError, Settings, read_settings
from server.importer.progress import Counts, Meter
from server.importer.rows import Row, comma_separated, json_lines
from server.importer.sender import REJECTED, Report, Sender
from server.quickstart import KEY_FILE

READERS = {"jsonl": json_lines, "csv": comma_separated}
# Looking at the progress of every row would cost more than reading it.
ROWS_AN_UPDATE = 200


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=str))
@click.option("--format", "kind", type=click.Choice(list(READERS)), help="By default what the file's name ends with.")
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Where rows that fail are written, with line and reason. By default FILE.rejects.jsonl.",
)
def import_file(file: str, kind: str | None, rejects: Path | None) -> None:
    """Upsert the rows of FILE (- is standard input) through the running service.

    FILE is JSON Lines, each line the body of a CreateParticipant, or CSV with a heading: the fields' names, tags
    separated by semicolons, and attributes.KEY for an attribute; an empty cell leaves the field as it is.

    An import may be interrupted and run again: what is there already is UNCHANGED. Exit status 1 when any row was
    rejected.
    """
    settings = read_settings(os.environ)
    reader = READERS[kind or _kind(file)]
    rejects = rejects or Path("rejects.jsonl" if file == "-" else f"{file}.rejects.jsonl")
    counts = Counts()
    with ExitStack() as stack:
        opened = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
        total = None if file == "-" else Path(file).stat().st_size
        meter = stack.enter_context(Meter(counts, total, Console(stderr=True)).shown())
        reject = _RejectsFile(rejects, stack)

        def report(row: Row, result: str, reason: str) -> None:
            counts.add(result)
            if result == REJECTED:
                reject.add(row, reason)

        try:
            uvloop.run(_send(settings, _metered(reader(opened), opened, meter), report))
        except KeyboardInterrupt:
            click.echo(f"interrupted: {counts}; run it again to go on")
            sys.exit(130)
    click.echo(f"{counts} ({counts.rate:,.0f} rows/s)")
    if counts[REJECTED]:
        click.echo(f"rejected rows, with line and reason, are in {rejects}", err=True)
        sys.exit(1)


class _RejectsFile:
    """Rows that failed, as JSON Lines. There is no file where none failed."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._path = path
        self._stack = stack
        self._file: IO[str] | None = None
        path.unlink(missing_ok=True)

    def add(self, row: Row, reason: str) -> None:
        if self._file is None:
            self._file = self._stack.enter_context(self._path.open("w", encoding="utf-8"))
        print(json.dumps({"line": row.line, "reason": reason, "row": row.text}, ensure_ascii=False), file=self._file)


def _metered(rows: Iterable[Row], file: IO[bytes], meter: Meter) -> Iterator[Row]:
    seekable = file.seekable()
    for number, row in enumerate(rows):
        if number % ROWS_AN_UPDATE == 0:
            meter.update(file.tell() if seekable else 0)
        yield row


async def _send(settings: Settings, rows: Iterable[Row], report: Report) -> None:
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(str(settings.grpc_address.reachable()), options=options) as channel:
        await Sender(ParticipantServiceStub(channel), _key(settings), report).send(rows)


def _key(settings: Settings) -> str:
    if settings.api_key:
        return settings.api_key
    development_key = settings.data_directory / KEY_FILE
    if settings.database_url is None and development_key.exists():
        return development_key.read_text().strip()
    raise ConfigurationError(
        "an import needs an API key: set PARTICIPANTS_API_KEY; `participants keys create` makes one"
    )


def _kind(file: str) -> str:
    suffix = Path(file).suffix.removeprefix(".").lower()
    kind = {"jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv"}.get(suffix)
    if kind is None:
        raise ConfigurationError(f"cannot tell the format of {file!r}; say --format jsonl or --format csv")
    return kind
