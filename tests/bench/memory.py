"""Whether the service's memory stays the same: after 1 million requests and after 100 thousand."""

from __future__ import annotations

import psutil

from tests.bench import postgres, workload
from tests.bench.field import Field
from tests.bench.load import load_generator
from tests.bench.measure import Slot
from tests.bench.progress import progress
from tests.bench.systems.process import running_service

EARLY, LATE = 100_000, 1_000_000
CALLERS = 32
SLOT = Slot(warm_up=0.0, seconds=5.0)
TARGET = 1.05


def main() -> None:
    """Prints the resident memory at both moments, and their ratio."""
    with postgres.postgres() as server, load_generator() as generator:
        database = postgres.new_database(server, "bench", workload.PARTICIPANTS)
        with running_service(database.conninfo) as (ours, _):
            measure = Field(database, generator).called("grpc", ours)
            number, resident = 1, {}
            for goal in (EARLY, LATE):
                while number < goal:
                    _, number = measure(CALLERS, SLOT, number)
                    progress(f"{number:,} requests")
                resident[goal] = psutil.Process(ours.pids[0]).memory_info().rss
    for goal, size in resident.items():
        print(f"after {goal:,} requests: {size / 2**20:.1f} MiB")
    print(f"ratio: {resident[LATE] / resident[EARLY]:.3f} (target: at most {TARGET:.2f})")


if __name__ == "__main__":
    main()
