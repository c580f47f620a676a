"""What a run came to: the table of medians, and the ratios with their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import orjson

from tests.bench.goals import GOALS, Figure, Goal, Value, p50, p99, postgres_cpu, rate, server_cpu
from tests.bench.measure import Measurement

Rounds = Sequence[Measurement]


@dataclass(frozen=True)
class Results:
    """The measurements of all rounds, by system and number of callers."""

    machine: Mapping[str, str]
    titles: Mapping[str, str]
    measurements: Mapping[tuple[str, int], Rounds]

    def median(self, name: str, callers: int, value: Value) -> float:
        """Returns the median of a value over the rounds."""
        return median(value(measurement) for measurement in self.measurements[name, callers])

    def has(self, figure: Figure) -> bool:
        return (figure.system, figure.callers) in self.measurements

    def ratio(self, goal: Goal) -> float:
        """Returns the median of the ratios of each round: what disturbs a round disturbs both."""
        pairs = zip(self._values(goal.over), self._values(goal.under), strict=True)
        return median(a / b for a, b in pairs)

    def _values(self, figure: Figure) -> list[float]:
        return [figure.value(measurement) for measurement in self.measurements[figure.system, figure.callers]]


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
    return [goal for goal in GOALS if results.has(goal.over) and results.has(goal.under)]


def _row(results: Results, name: str, callers: int) -> tuple[str, ...]:
    def median_of(value: Value) -> float:
        return results.median(name, callers, value)

    return (
        results.titles[name],
        f"{callers}",
        f"{median_of(rate):,.0f}",
        f"{median_of(p50) * 1e3:.2f}",
        f"{median_of(p99) * 1e3:.2f}",
        f"{median_of(server_cpu):.0f}",
        f"{median_of(postgres_cpu):.0f}",
        f"{median_of(lambda measurement: measurement.generator_share):.0%}",
    )


def _goal_row(results: Results, goal: Goal) -> tuple[str, ...]:
    ratio = results.ratio(goal)
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
    ratio = results.ratio(goal)
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
