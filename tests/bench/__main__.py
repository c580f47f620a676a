"""The run: every system at every number of callers, in turn, round after round."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from tests.bench import go_programs, postgres, workload
from tests.bench.chart import draw
from tests.bench.field import System
from tests.bench.go_callers import GoCallers
from tests.bench.lineup import NAMES, systems
from tests.bench.load import load_generator
from tests.bench.machine import machine
from tests.bench.measure import Slot
from tests.bench.progress import progress
from tests.bench.report import Results, as_json, as_text

ROUNDS, SLOT = 3, Slot(warm_up=0.7, seconds=2.2)
# To see where one stands, with few systems and callers; the figures are rough.
QUICK_ROUNDS, QUICK_SLOT = 3, Slot(warm_up=0.5, seconds=1.0)
DIRECTORY = Path(__file__).parent


def main() -> None:
    """Runs the benchmark. A run of another kind than the whole one writes no files."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds, for a rough idea")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=NAMES, default=NAMES, help="the systems to measure"
    )
    parser.add_argument("--callers", nargs="+", type=int, metavar="N", help="the numbers of callers to measure with")
    parser.add_argument("--go-callers", action="store_true", help="have gRPC calls made by callers in Go")
    options = parser.parse_args()
    rounds, slot = (QUICK_ROUNDS, QUICK_SLOT) if options.quick else (ROUNDS, SLOT)
    results = run(rounds, slot, options)
    print(as_text(results))
    if not (options.quick or options.only != NAMES or options.callers or options.go_callers):
        (DIRECTORY / "results.json").write_text(as_json(results))
        draw(results, DIRECTORY / "results.png")


def run(rounds: int, slot: Slot, options: argparse.Namespace) -> Results:
    """Measures systems, alternating, on one Postgres."""
    measurements = defaultdict(list)
    number = 1
    with postgres.postgres() as server, load_generator() as generator:
        database = postgres.new_database(server, "bench", workload.PARTICIPANTS)
        callers_in_go = GoCallers(go_programs.built("callers"), generator) if options.go_callers else None
        with systems(database, callers_in_go or generator, options.only) as field:
            chosen = [
                (system, callers)
                for system, callers in order(field)
                if options.callers is None or callers in options.callers
            ]
            for round_number in range(rounds):
                # Every other round runs backwards, so that whoever comes after a costly neighbour comes before it the
                # next time.
                for system, callers in chosen[::-1] if round_number % 2 else chosen:
                    progress(f"round {round_number + 1} of {rounds}: {system.title}, {callers} callers")
                    measurement, number = system.measure(callers, slot, number)
                    measurements[system.name, callers].append(measurement)
        titles = {system.name: system.title for system in field}
        return Results(machine(postgres.version(server)), titles, dict(measurements))


def order(field: list[System]) -> list[tuple[System, int]]:
    """Returns whom to measure one after the other, with how many callers."""
    numbers = sorted({callers for system in field for callers in system.callers})
    return [(system, callers) for callers in numbers for system in field if callers in system.callers]


if __name__ == "__main__":
    main()
