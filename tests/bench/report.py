"""What a run came to: the table of medians, and the ratios with their targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import orjson

from tests.bench.measure import Measurement

Rounds = Sequence[Measurement]


@dataclass(frozen=True)
class Results:
    """The measurements of all rounds, by system and number of callers."""

    machine: Mapping[str, str]
    titles: Mapping[str, str]
    measurements: Mapping[tuple[str, int], Rounds]

    def median(self, name: str, callers: int, value: Callable[[Measurement], float]) -> float:
        """Returns the median of a value over the rounds."""
        return median(value(measurement) for measurement in self.measurements[name, callers])

    def ratio(self, over: tuple[str, int], under: tuple[str, int], value: Callable[[Measurement], float]) -> float:
        """Returns the median of the ratios of each round: what disturbs a round disturbs both."""
        pairs = zip(self.measurements[over], self.measurements[under], strict=True)
        return median(value(a) / value(b) for a, b in pairs)


@dataclass(frozen=True)
class Goal:
    """A ratio that the service is to reach."""

    title: str
    over: tuple[str, int]
    under: tuple[str, int]
    value: Callable[[Measurement], float]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def target(self) -> str:
        return f"≥ {self.at_least:.2f}" if self.at_least is not None else f"≤ {self.at_most:.2f}"

    def is_reached(self, ratio: float) -> bool:
        return (self.at_least is None or ratio >= self.at_least) and (self.at_most is None or ratio <= self.at_most)


def rate(measurement: Measurement) -> float:
    return measurement.rate


def server_cpu(measurement: Measurement) -> float:
    return measurement.server_microseconds


def postgres_cpu(measurement: Measurement) -> float:
    return measurement.postgres_microseconds


def p50(measurement: Measurement) -> float:
    return measurement.p50


GOALS = [
    Goal("this service ÷ doing nothing, requests/s, 32 callers", ("ours", 32), ("nothing", 32), rate, at_least=0.85),
    Goal("this service ÷ doing nothing, requests/s, 128 callers", ("ours", 128), ("nothing", 128), rate, at_least=0.90),
    Goal(
        "this service ÷ doing nothing, server CPU a request, 32 callers",
        ("ours", 32),
        ("nothing", 32),
        server_cpu,
        at_most=1.20,
    ),
    Goal(
        "this service ÷ one statement a request, Postgres CPU a request, 32 callers",
        ("ours", 32),
        ("one_statement", 32),
        postgres_cpu,
        at_most=0.35,
    ),
    Goal("this service ÷ one statement a request, p50, 1 caller", ("ours", 1), ("one_statement", 1), p50, at_most=1.15),
    Goal("batch call ÷ pgbench with one row a statement, rows/s", ("batch", 4), ("pgbench", 32), rate, at_least=2.5),
    Goal("gateway ÷ FastAPI and asyncpg, requests/s, 32 callers", ("gateway", 32), ("fastapi", 32), rate, at_least=1.5),
    Goal("gateway ÷ Envoy, requests/s, 32 callers", ("gateway", 32), ("envoy", 32), rate, at_least=1.2),
    Goal("batches: unchanged ÷ changed, rows/s", ("batch_unchanged", 4), ("batch", 4), rate, at_least=1.5),
]

HEADINGS = ("system", "callers", "upserts/s", "p50 ms", "p99 ms", "server µs", "Postgres µs", "generator")


def as_text(results: Results) -> str:
    """Returns the tables for a terminal."""
    rows = [_row(results, name, callers) for name, callers in results.measurements]
    goals = [_goal_row(results, goal) for goal in _measured(results)]
    about = "\n".join(f"{name}: {value}" for name, value in results.machine.items())
    return "\n".join(
        [
            "",
            _aligned([HEADINGS, *rows]),
            "",
            "Medians. µs: processor time an upsert. generator: the share of a core that the callers took.",
            "",
            _aligned([("ratio", "target", "reached", ""), *goals]),
            "",
            about,
        ]
    )


def _measured(results: Results) -> list[Goal]:
    """Returns the goals of which both sides took part."""
    return [goal for goal in GOALS if goal.over in results.measurements and goal.under in results.measurements]


def _row(results: Results, name: str, callers: int) -> tuple[str, ...]:
    def median_of(value: Callable[[Measurement], float]) -> float:
        return results.median(name, callers, value)

    return (
        results.titles[name],
        f"{callers}",
        f"{median_of(rate):,.0f}",
        f"{median_of(p50) * 1e3:.2f}",
        f"{median_of(lambda measurement: measurement.p99) * 1e3:.2f}",
        f"{median_of(server_cpu):.0f}",
        f"{median_of(postgres_cpu):.0f}",
        f"{median_of(lambda measurement: measurement.generator_share):.0%}",
    )


def _goal_row(results: Results, goal: Goal) -> tuple[str, ...]:
    ratio = results.ratio(goal.over, goal.under, goal.value)
    return goal.title, goal.target, f"{ratio:.2f}", "yes" if goal.is_reached(ratio) else "no"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows as text: the first column to the left, all others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def as_json(results: Results) -> str:
    """Returns everything, with the figures of each round."""
    return orjson.dumps(
        {
            "machine": dict(results.machine),
            "ratios": [_goal_as_dict(results, goal) for goal in _measured(results)],
            "systems": [
                {
                    "name": name,
                    "title": results.titles[name],
                    "callers": callers,
                    "rounds": [_as_dict(measurement) for measurement in rounds],
                }
                for (name, callers), rounds in results.measurements.items()
            ],
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    ).decode()


def _goal_as_dict(results: Results, goal: Goal) -> dict[str, object]:
    ratio = results.ratio(goal.over, goal.under, goal.value)
    return {"title": goal.title, "target": goal.target, "ratio": round(ratio, 3), "reached": goal.is_reached(ratio)}


def _as_dict(measurement: Measurement) -> dict[str, float]:
    return {
        "upserts_per_second": round(measurement.rate, 1),
        "p50_milliseconds": round(measurement.p50 * 1e3, 3),
        "p99_milliseconds": round(measurement.p99 * 1e3, 3),
        "server_microseconds": round(measurement.server_microseconds, 1),
        "postgres_microseconds": round(measurement.postgres_microseconds, 1),
        "generator_share": round(measurement.generator_share, 3),
    }
