"""How a system is measured: who sends its requests, and how it is made sure that they wrote what they should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.callers import Target
from tests.bench.load import Generator, Job
from tests.bench.measure import Measurement, Slot
from tests.bench.postgres import Database, participants_written_since, row_versions, set_as_requested, settle
from tests.bench.systems import pgbench
from tests.bench.systems.process import Server

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
    generator: Generator

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
