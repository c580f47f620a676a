"""The chart of a run: requests a second, and where the processor time of a request goes."""

from __future__ import annotations

from pathlib import Path

from tests.bench.report import Results


def draw(results: Results, file: Path) -> None:
    """Writes the chart as a PNG."""
