"""Whether the service keeps its pace as its table grows: requests a second with 5 million participants and with 10
thousand, alternating. Requests are spread over all participants."""

from __future__ import annotations

from statistics import median

from tests.bench import postgres
from tests.bench.field import Field
from tests.bench.load import load_generator
from tests.bench.measure import Slot
from tests.bench.progress import progress
from tests.bench.systems.process import running_service

SIZES = (10_000, 5_000_000)
CALLERS = 32
ROUNDS, SLOT = 5, Slot(warm_up=5.0, seconds=15.0)
TARGET = 0.85


def main() -> None:
    """Prints the rate with each number of participants, and the median of their ratios."""
    rates: dict[int, list[float]] = {size: [] for size in SIZES}
    with postgres.postgres() as server, load_generator() as generator:
        databases = []
        for size in SIZES:
            progress(f"creating {size:,} participants")
            databases.append(postgres.new_database(server, f"bench_{size}", size))
        number = 1
        for round_number in range(ROUNDS):
            for database in databases:
                field = Field(database, generator)
                with running_service(database.conninfo) as (ours, _):
                    measure = field.writing(field.called("grpc", ours))
                    measurement, number = measure(CALLERS, SLOT, number)
                rates[database.participants].append(measurement.rate)
                progress(f"round {round_number + 1} of {ROUNDS}: {database.participants:,}: {measurement.rate:,.0f}/s")
    small, large = (rates[size] for size in SIZES)
    for size in SIZES:
        print(f"{size:>10,} participants: {median(rates[size]):,.0f} requests/s, {CALLERS} callers")
    ratio = median(b / a for a, b in zip(small, large, strict=True))
    print(f"ratio: {ratio:.2f} (target: at least {TARGET:.2f})")


if __name__ == "__main__":
    main()
