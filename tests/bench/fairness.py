"""Whether one organization can take the service from another: how long four callers wait while another organization
floods the service with calls and batches, and how long they wait alone, alternating."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

import psycopg

from server.postgres import administration
from tests.bench import postgres, workload
from tests.bench.callers import Target
from tests.bench.load import Done, Job, LoadGenerator, load_generator
from tests.bench.measure import Measurement, Slot
from tests.bench.postgres import Database
from tests.bench.progress import progress
from tests.bench.systems.process import Server, running_service

CALLERS = 4
FLOOD_CALLERS, FLOOD_BATCH_CALLERS, FLOOD_BATCH_ITEMS = 512, 4, 1_000
ROUNDS, SLOT = 3, Slot(warm_up=1.0, seconds=4.0)
# The flood is there before the measurement begins, and after it has ended.
FLOOD_SLOT = Slot(warm_up=0.0, seconds=SLOT.warm_up + SLOT.seconds + 1.0)
TARGETS = {"p50": 3.0, "p99": 5.0}


@dataclass(frozen=True)
class Flood:
    """The organization that floods: its key, and who plays its callers. Being refused does not stop them."""

    database: Database
    server: Server
    key: str
    callers: LoadGenerator
    batch_callers: LoadGenerator

    @contextmanager
    def pouring(self) -> Iterator[tuple[Future[Done], Future[Done]]]:
        """Floods the service; leaving waits for the end."""
        with ThreadPoolExecutor(2) as threads:
            yield (
                threads.submit(self.callers.run, self._job("grpc", FLOOD_CALLERS, 1)),
                threads.submit(
                    self.batch_callers.run, self._job("batch_basic", FLOOD_BATCH_CALLERS, FLOOD_BATCH_ITEMS)
                ),
            )

    def _job(self, kind: str, callers: int, items: int) -> Job:
        target = Target(self.server.address, self.key, callers, items=items, may_be_refused=True)
        return Job(kind, target, 1, FLOOD_SLOT, self.server.pids, self.database.postmaster)


def main() -> None:
    """Prints what the four callers wait with and without the flood. A call of theirs that is refused ends the run."""
    alone, beside = [], []
    with ExitStack() as stack:
        database = postgres.new_database(stack.enter_context(postgres.postgres()), "bench", workload.PARTICIPANTS)
        server, _ = stack.enter_context(running_service(database.conninfo))
        polite, *generators = (stack.enter_context(load_generator()) for _ in range(3))
        flood = Flood(database, server, _other_key(database), *generators)
        target = Target(server.address, database.key, CALLERS, database.participants)
        number = 1
        for round_number in range(ROUNDS):
            progress(f"round {round_number + 1} of {ROUNDS}")
            done = polite.run(Job("grpc", target, number, SLOT, server.pids, database.postmaster))
            alone.append(done.measurement)
            with flood.pouring() as floods:
                done = polite.run(Job("grpc", target, done.next, SLOT, server.pids, database.postmaster))
                beside.append(done.measurement)
            number = done.next
            calls, batches = (future.result() for future in floods)
            progress(f"alone: {_described(alone[-1])}; beside the flood: {_described(beside[-1])}")
            progress(
                f"the flood: {calls.measurement.rate:,.0f} calls/s, {calls.refused:,} refused; "
                f"{batches.measurement.rate:,.0f} items/s, {batches.refused:,} batches refused in part or whole"
            )
    for name, at_most in TARGETS.items():
        before, during = ([getattr(measurement, name) for measurement in series] for series in (alone, beside))
        ratio = median(b / a for a, b in zip(before, during, strict=True))
        print(
            f"{name}, {CALLERS} callers: {median(before) * 1e3:.2f} ms alone, {median(during) * 1e3:.2f} ms beside a "
            f"flood of {FLOOD_CALLERS} callers and {FLOOD_BATCH_CALLERS} callers with batches: {ratio:.2f} times "
            f"(target: at most {at_most:.0f})"
        )
    print("refused: 0")


def _other_key(database: Database) -> str:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        _, key = administration.create_key(connection, "flood", "bench", None)
    return key


def _described(measurement: Measurement) -> str:
    return f"p50 {measurement.p50 * 1e3:.2f} ms, p99 {measurement.p99 * 1e3:.2f} ms"


if __name__ == "__main__":
    main()
