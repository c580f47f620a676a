"""How far an import is: a bar on a terminal, a line now and then elsewhere, and the counts in the end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY = 5.0


class Counts:
    """What became of the rows so far, and since when."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._started = time.monotonic()

    def add(self, result: str) -> None:
        self._counts[result] += 1

    def __getitem__(self, result: str) -> int:
        return self._counts[result]

    @property
    def rows(self) -> int:
        return self._counts.total()

    @property
    def rate(self) -> float:
        """Rows a second, over the whole time."""
        return self.rows / max(time.monotonic() - self._started, 1e-6)

    def __str__(self) -> str:
        names = ("CREATED", "UPDATED", "UNCHANGED", "REJECTED")
        return ", ".join(f"{name.lower()} {self._counts[name]:,}" for name in names)


class Meter:
    """Shows progress. `total` is the file's size in bytes, None when it cannot be known."""

    def __init__(self, counts: Counts, total: int | None, console: Console) -> None:
        self._counts = counts
        self._console = console
        self._next_line = time.monotonic() + LINE_EVERY
        self._bar = Progress(
            BarColumn(),
            TextColumn("{task.fields[rows]} rows"),
            TextColumn("{task.fields[rate]} rows/s"),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("import", total=total, rows="0", rate="0")

    @contextmanager
    def shown(self) -> Iterator[Meter]:
        """Shows the bar while the body runs."""
        with self._bar:
            yield self

    def update(self, position: int) -> None:
        """Tells how many bytes of the file have been read."""
        rows, rate = f"{self._counts.rows:,}", f"{self._counts.rate:,.0f}"
        if self._console.is_terminal:
            self._bar.update(self._task, completed=position, rows=rows, rate=rate)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY
            print(f"{rows} rows, {rate} rows/s", file=sys.stderr, flush=True)
