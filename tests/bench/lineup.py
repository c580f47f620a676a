"""The field: all systems, started on one database and measured one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import go_programs
from tests.bench.field import Field, Measure, System
from tests.bench.load import Generator
from tests.bench.postgres import Database
from tests.bench.progress import progress
from tests.bench.systems import pgbench
from tests.bench.systems.envoy import envoy
from tests.bench.systems.process import Server, running, running_program, running_service
from tests.bench.systems.statement import numbered

CALLERS = (1, 32, 128)
# Most services see a few calls at a time: there a call cannot share what it costs.
FEW_TO_MANY = (1, 2, 3, 4, 8, 16, 32, 128)
BATCH_CALLERS = (4,)
BATCH_ITEMS = 1_000
# Of grpcio on one port: each takes calls in one by one.
SERVERS = 16


class Servers:
    """The servers on one database, each started when it is first asked for and stopped with `stack`."""

    def __init__(self, database: Database, stack: ExitStack) -> None:
        self._database = database
        self._stack = stack

    @cached_property
    def nothing(self) -> Server:
        return self._stack.enter_context(running("tests.bench.systems.nothing", "1"))

    @cached_property
    def nothing_shared(self) -> Server:
        return self._stack.enter_context(running("tests.bench.systems.nothing", str(SERVERS), tuned=True))

    @cached_property
    def one_statement(self) -> Server:
        return self._stack.enter_context(running("tests.bench.systems.one_statement", self._database.conninfo))

    @cached_property
    def go(self) -> Server:
        sql, _ = numbered()
        return self._stack.enter_context(running_program([go_programs.built("server"), self._database.conninfo, sql]))

    @cached_property
    def fastapi(self) -> Server:
        return self._stack.enter_context(running("tests.bench.systems.fastapi_asyncpg", self._database.conninfo))

    @cached_property
    def ours(self) -> tuple[Server, Server]:
        """Returns this service by gRPC and by HTTP."""
        return self._stack.enter_context(running_service(self._database.conninfo))

    @cached_property
    def envoy(self) -> Server:
        directory = Path(self._stack.enter_context(TemporaryDirectory()))
        return self._stack.enter_context(envoy(self.ours[0], directory))


@dataclass(frozen=True)
class Entry:
    """Someone who may take part. `measure` starts what it needs."""

    name: str
    title: str
    callers: tuple[int, ...]
    measure: Callable[[Field, Servers], Measure]


LINEUP = (
    Entry("nothing", "gRPC: grpcio, doing nothing", FEW_TO_MANY, lambda field, on: field.called("grpc", on.nothing)),
    Entry(
        "nothing_shared",
        f"gRPC: the same, {SERVERS} servers on a port, tuned",
        CALLERS,
        lambda field, on: field.called("grpc", on.nothing_shared),
    ),
    Entry(
        "ours",
        "gRPC: this service",
        FEW_TO_MANY,
        lambda field, on: field.writing(field.called("grpc", on.ours[0])),
    ),
    Entry(
        "go",
        "gRPC: Go, grpc-go and pgx, one statement a request",
        FEW_TO_MANY,
        lambda field, on: field.writing(field.called("grpc", on.go)),
    ),
    Entry(
        "one_statement",
        "gRPC: grpcio and psycopg, one statement a request",
        FEW_TO_MANY,
        lambda field, on: field.writing(field.called("grpc", on.one_statement)),
    ),
    Entry("gateway", "HTTP: this service", CALLERS, lambda field, on: field.writing(field.called("http", on.ours[1]))),
    Entry(
        "fastapi",
        "HTTP: FastAPI and asyncpg",
        CALLERS,
        lambda field, on: field.writing(field.called("http", on.fastapi)),
    ),
    Entry(
        "envoy",
        "HTTP: Envoy before this service",
        CALLERS,
        lambda field, on: field.writing(field.called("http", on.envoy)),
    ),
    Entry(
        "pgbench",
        "pgbench, one row a statement",
        CALLERS,
        lambda field, on: field.writing(field.pgbench(pgbench.single_row_script)),
    ),
    Entry(
        "batch",
        "gRPC: this service, 1,000 upserts a call",
        BATCH_CALLERS,
        lambda field, on: field.writing(field.called("batch", on.ours[0], BATCH_ITEMS)),
    ),
    Entry(
        "batch_basic",
        "gRPC: the same, answered by identifiers",
        BATCH_CALLERS,
        lambda field, on: field.writing(field.called("batch_basic", on.ours[0], BATCH_ITEMS)),
    ),
    Entry(
        "batch_unchanged",
        "gRPC: the same in full, changing nothing",
        BATCH_CALLERS,
        lambda field, on: field.leaving_alone(field.called("batch_unchanged", on.ours[0], BATCH_ITEMS)),
    ),
    Entry(
        "pgbench_rows",
        "pgbench, 100 rows a statement",
        BATCH_CALLERS,
        lambda field, on: field.writing(field.pgbench(pgbench.many_rows_script, pgbench.ROWS)),
    ),
)
NAMES = tuple(entry.name for entry in LINEUP)


@contextmanager
def systems(database: Database, generator: Generator, only: Sequence[str] = NAMES) -> Iterator[list[System]]:
    """Starts the systems with these names. Those that are not measured are idle."""
    field = Field(database, generator)
    with ExitStack() as stack:
        servers = Servers(database, stack)
        yield [
            System(entry.name, entry.title, entry.callers, entry.measure(field, servers))
            for entry in LINEUP
            if entry.name in only and _is_possible(entry)
        ]


def _is_possible(entry: Entry) -> bool:
    missing = go_programs.missing() if entry.name == "go" else []
    if missing:
        progress(f"left out, {entry.title}: no {', '.join(missing)} here (Debian: {go_programs.PACKAGES})")
    return not missing
