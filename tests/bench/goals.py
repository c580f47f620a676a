"""The ratios that the service is to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.measure import Measurement

Value = Callable[[Measurement], float]


def rate(measurement: Measurement) -> float:
    return measurement.rate


def p50(measurement: Measurement) -> float:
    return measurement.p50


def p99(measurement: Measurement) -> float:
    return measurement.p99


def server_cpu(measurement: Measurement) -> float:
    return measurement.server_microseconds


def postgres_cpu(measurement: Measurement) -> float:
    return measurement.postgres_microseconds


def cpu(measurement: Measurement) -> float:
    return measurement.server_microseconds + measurement.postgres_microseconds


@dataclass(frozen=True)
class Figure:
    """A value of a system at a number of callers."""

    system: str
    callers: int
    value: Value


@dataclass(frozen=True)
class Goal:
    """A ratio of two figures, and its target."""

    title: str
    over: Figure
    under: Figure
    at_least: float | None = None
    at_most: float | None = None

    @property
    def target(self) -> str:
        return f"≥ {self.at_least:.2f}" if self.at_least is not None else f"≤ {self.at_most:.2f}"

    def is_reached(self, ratio: float) -> bool:
        return (self.at_least is None or ratio >= self.at_least) and (self.at_most is None or ratio <= self.at_most)


def _against(
    system: str,
    title: str,
    value: Value,
    callers: int,
    *,
    ours: str = "ours",
    at_least: float | None = None,
    at_most: float | None = None,
) -> Goal:
    """Returns a goal of one value, ours over that of another system with as many callers."""
    what = f"{title}, {callers} caller{'s' * (callers > 1)}"
    return Goal(what, Figure(ours, callers, value), Figure(system, callers, value), at_least, at_most)


def _spread(callers: int, at_most: float) -> Goal:
    ours = "ours", callers
    return Goal(f"this service, p99 ÷ p50, {callers} callers", Figure(*ours, p99), Figure(*ours, p50), at_most=at_most)


def _bulk(title: str, over: tuple[str, int], under: tuple[str, int], at_least: float) -> Goal:
    return Goal(f"{title}, rows/s", Figure(*over, rate), Figure(*under, rate), at_least)


GOALS = [
    _against("one_statement", "p50 ÷ one statement a request (Python)", p50, 1, at_most=1.05),
    _against("go", "p50 ÷ Go", p50, 1, at_most=1.35),
    *(_against("go", "p50 ÷ Go", p50, callers, at_most=1.40) for callers in (2, 3, 4)),
    *(_against("go", "p50 ÷ Go", p50, callers, at_most=1.30) for callers in (8, 16)),
    _against("go", "requests/s ÷ Go", rate, 32, at_least=0.95),
    _against("go", "requests/s ÷ Go", rate, 128, at_least=1.30),
    _against("go", "processor, server and Postgres, ÷ Go", cpu, 32, at_most=0.95),
    _against("nothing", "processor, server and Postgres, ÷ doing nothing", cpu, 32, at_most=1.25),
    _against("nothing", "server's processor ÷ doing nothing", server_cpu, 32, at_most=1.20),
    _against("nothing", "requests/s ÷ doing nothing", rate, 32, at_least=0.85),
    _against("nothing", "requests/s ÷ doing nothing", rate, 128, at_least=0.90),
    _against("one_statement", "Postgres' processor ÷ one statement a request", postgres_cpu, 32, at_most=0.35),
    _spread(32, at_most=1.8),
    _spread(128, at_most=2.5),
    _against("fastapi", "gateway ÷ FastAPI and asyncpg, requests/s", rate, 32, ours="gateway", at_least=1.5),
    _against("envoy", "gateway ÷ Envoy, requests/s", rate, 32, ours="gateway", at_least=1.2),
    _bulk("batch ÷ pgbench with 100 rows a statement", ("batch", 4), ("pgbench_rows", 4), at_least=0.55),
    _bulk("batch ÷ pgbench with one row a statement", ("batch", 4), ("pgbench", 32), at_least=2.5),
    _bulk("batch: identifiers ÷ in full", ("batch_basic", 4), ("batch", 4), at_least=1.4),
    _bulk("batch: unchanged ÷ changed", ("batch_unchanged", 4), ("batch", 4), at_least=1.3),
]
