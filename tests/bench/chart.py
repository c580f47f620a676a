"""The chart of a run: upserts a second, what of the processors each of them took, and how long few callers wait."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench.goals import p50, postgres_cpu, rate, server_cpu
from tests.bench.report import Results

SHADES = {1: "#b7cde4", 32: "#5b8fc7", 128: "#1f4e86"}
SERVER, POSTGRES, BULK = "#1f4e86", "#e0913a", "#5b8fc7"
# Above the bars, where it hides none.
LEGEND: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 3, "frameon": False}
# With how many callers processor time is shown.
CPU_CALLERS = 32
# Who is shown with how many callers, where most services are called.
LINES = {"ours": "#1f4e86", "go": "#e0913a", "one_statement": "#6aa84f", "nothing": "#999999"}
FEW = (1, 2, 3, 4, 8, 16, 32)


def draw(results: Results, file: Path) -> None:
    """Writes the chart as a PNG."""
    mpl.use("Agg")
    single = list(dict.fromkeys(name for name, callers in results.measurements if callers == CPU_CALLERS))
    bulk = [slot for slot in results.measurements if slot[0] not in single] + [("pgbench", CPU_CALLERS)]
    figure = Figure(figsize=(13, 10), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[len(single), len(bulk) + 2])
    rates, cpu, bulk_rates, latencies = (figure.add_subplot(grid[row, column]) for row in (0, 1) for column in (0, 1))
    _draw_rates(rates, results, single)
    _draw_cpu(cpu, results, single)
    _draw_bulk(bulk_rates, results, bulk)
    _draw_latencies(latencies, results)
    figure.suptitle("Durable upserts: this service and its peers on one Postgres", fontsize=15, weight="bold")
    figure.supxlabel(fill("Medians of rounds. " + "; ".join(results.machine.values()), 150), fontsize=9, color="#555")
    figure.savefig(file, dpi=110)


def _draw_rates(axes: Axes, results: Results, names: list[str]) -> None:
    height = 0.8 / len(SHADES)
    for place, (callers, shade) in enumerate(SHADES.items()):
        values = [results.median(name, callers, rate) for name in names]
        positions = [row + (place - 1) * height for row in range(len(names))]
        bars = axes.barh(positions, values, height, color=shade, label=f"{callers} caller{'s' * (callers > 1)}")
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    axes.legend(**LEGEND)
    _finish(axes, [results.titles[name] for name in names], "requests a second (more is better)")


def _draw_cpu(axes: Axes, results: Results, names: list[str]) -> None:
    server = [results.median(name, CPU_CALLERS, server_cpu) for name in names]
    postgres = [results.median(name, CPU_CALLERS, postgres_cpu) for name in names]
    rows = range(len(names))
    for values, lefts, color, label in ((server, 0, SERVER, "server"), (postgres, server, POSTGRES, "Postgres")):
        bars = axes.barh(rows, values, 0.6, left=lefts, color=color, label=label)
        labels = [f"{value:,.0f}" if value >= 0.04 * max(server) else "" for value in values]
        axes.bar_label(bars, labels, label_type="center", color="white", fontsize=9)
    axes.legend(**LEGEND)
    _finish(axes, [], f"µs of processor time a request, {CPU_CALLERS} callers (less is better)")


def _draw_bulk(axes: Axes, results: Results, slots: list[tuple[str, int]]) -> None:
    bars = axes.barh(range(len(slots)), [results.median(*slot, rate) for slot in slots], 0.6, color=BULK)
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=9)
    names = [f"{results.titles[name]} ({callers} callers)" for name, callers in slots]
    _finish(axes, names, "in bulk: rows a second (more is better)")


def _draw_latencies(axes: Axes, results: Results) -> None:
    for name, color in LINES.items():
        callers = [callers for callers in FEW if (name, callers) in results.measurements]
        values = [results.median(name, number, p50) * 1e3 for number in callers]
        if callers:
            axes.plot(callers, values, color=color, marker="o", label=results.titles[name])
    axes.set_xscale("log", base=2)
    axes.set_xticks(FEW, [str(callers) for callers in FEW])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("callers: ms until half of the calls are answered (less is better)")
    axes.yaxis.grid(visible=True, color="#ddd")
    axes.legend(frameon=False)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _finish(axes: Axes, names: list[str], label: str) -> None:
    axes.set_yticks(range(len(names)), [fill(name, 28) for name in names])
    axes.set_xlabel(label)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.xaxis.grid(visible=True, color="#ddd")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
