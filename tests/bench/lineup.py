"""The field: all systems, started together on one database and measured one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from server.rpc.server import SERVERS
from tests.bench.callers import Target
from tests.bench.load import Job, LoadGenerator
from tests.bench.measure import Measurement, Slot
from tests.bench.postgres import Database, participants_written_since, row_versions, set_as_requested, settle
from tests.bench.systems import pgbench
from tests.bench.systems.envoy import envoy
from tests.bench.systems.process import Server, running
from tests.support.process import Service, environment

CALLERS = (1, 32, 128)
BATCH_CALLERS = (4,)
BATCH_ITEMS = 1_000


# Measures a system with so many callers, from the request of this number on, and returns the next number too.
Measure = Callable[[int, Slot, int], tuple[Measurement, int]]


@dataclass(frozen=True)
class System:
    """One who takes part, and with how many callers."""

    name: str
    title: str
    callers: tuple[int, ...]
    measure: Measure


@dataclass(frozen=True)
class Field:
    """Makes systems on one database, called by one load generator."""

    database: Database
    generator: LoadGenerator

    def called(self, kind: str, server: Server, items: int = 1) -> Measure:
        """Returns how to measure a server whose requests the generator sends."""

        def measure(callers: int, slot: Slot, first: int) -> tuple[Measurement, int]:
            target = Target(server.address, self.database.key, callers, self.database.participants, items)
            job = Job(kind, target, first, slot, server.pids, self.database.postmaster)
            done = self.generator.run(job)
            return done.measurement, done.next

        return measure

    def pgbench(self, script: Callable[[int, int], str], rows_per_request: int = 1) -> Measure:
        """Returns how to measure pgbench with a script, which is made for the first number and the participants."""

        def measure(callers: int, slot: Slot, first: int) -> tuple[Measurement, int]:
            measurement = pgbench.measure(
                self.database,
                script(first, self.database.participants),
                callers,
                slot,
                rows_per_request,
            )
            return measurement, first + pgbench.NUMBERS

        return measure

    def writing(self, measure: Measure) -> Measure:
        """Returns the same, which makes sure that participants were written; some were perhaps written twice."""

        def checked(callers: int, slot: Slot, first: int) -> tuple[Measurement, int]:
            settle(self.database)
            measurement, following = measure(callers, slot, first)
            written = participants_written_since(self.database, first)
            if written < min(measurement.rows, self.database.participants) / 2:
                raise RuntimeError(f"{measurement.rows} upserts were answered, but only {written} participants changed")
            return measurement, following

        return checked

    def leaving_alone(self, measure: Measure) -> Measure:
        """Returns the same after every participant was made as the requests want it, and makes sure that none of
        them wrote a row."""

        def checked(callers: int, slot: Slot, first: int) -> tuple[Measurement, int]:
            set_as_requested(self.database, first)
            settle(self.database)
            before = row_versions(self.database)
            result = measure(callers, slot, first)
            if row_versions(self.database) != before:
                raise RuntimeError("requests that change nothing wrote rows")
            return result

        return checked


@contextmanager
def systems(database: Database, generator: LoadGenerator) -> Iterator[list[System]]:
    """Starts all systems. Those that are not measured are idle."""
    field = Field(database, generator)
    with ExitStack() as stack:
        nothing = stack.enter_context(running("tests.bench.systems.nothing", "1"))
        nothing_shared = stack.enter_context(running("tests.bench.systems.nothing", str(SERVERS)))
        one_statement = stack.enter_context(running("tests.bench.systems.one_statement", database.conninfo))
        fastapi = stack.enter_context(running("tests.bench.systems.fastapi_asyncpg", database.conninfo))
        ours, gateway = stack.enter_context(service(database))
        directory = Path(stack.enter_context(TemporaryDirectory()))
        transcoder = stack.enter_context(envoy(ours, directory))
        yield [
            System("nothing", "gRPC: grpcio, doing nothing", CALLERS, field.called("grpc", nothing)),
            System(
                "nothing_shared",
                f"gRPC: the same, {SERVERS} servers on a port",
                CALLERS,
                field.called("grpc", nothing_shared),
            ),
            System("ours", "gRPC: this service", CALLERS, field.writing(field.called("grpc", ours))),
            System(
                "one_statement",
                "gRPC: grpcio and psycopg, one statement a request",
                CALLERS,
                field.writing(field.called("grpc", one_statement)),
            ),
            System("gateway", "HTTP: this service", CALLERS, field.writing(field.called("http", gateway))),
            System("fastapi", "HTTP: FastAPI and asyncpg", CALLERS, field.writing(field.called("http", fastapi))),
            System(
                "envoy", "HTTP: Envoy before this service", CALLERS, field.writing(field.called("http", transcoder))
            ),
            System(
                "pgbench",
                "pgbench, one row a statement",
                CALLERS,
                field.writing(field.pgbench(pgbench.single_row_script)),
            ),
            System(
                "batch",
                "gRPC: this service, 1,000 upserts a call",
                BATCH_CALLERS,
                field.writing(field.called("batch", ours, BATCH_ITEMS)),
            ),
            System(
                "batch_unchanged",
                "gRPC: the same, changing nothing",
                BATCH_CALLERS,
                field.leaving_alone(field.called("batch_unchanged", ours, BATCH_ITEMS)),
            ),
            System(
                "pgbench_rows",
                "pgbench, 100 rows a statement",
                BATCH_CALLERS,
                field.writing(field.pgbench(pgbench.many_rows_script, pgbench.ROWS)),
            ),
        ]


@contextmanager
def service(database: Database) -> Iterator[tuple[Server, Server]]:
    """Runs this service as its users do, and yields its two clients: gRPC and HTTP."""
    process = Service(environment(DATABASE_URL=database.conninfo))
    try:
        yield Server(process.grpc_address, [process.pid]), Server(process.http_url.partition("//")[2], [process.pid])
    finally:
        process.stop()
