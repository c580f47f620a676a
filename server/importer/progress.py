"""How far an import is: a bar on a terminal, a line now and then elsewhere, and the counts in the end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

LINE_EVERY = 5.0


class Counts:
    """What became of the rows so far, and since when. `results` are the names to tell of, in their order."""

    def __init__(self, *results: str) -> None:
        self._results = results
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
        return ", ".join(f"{name.lower()} {self._counts[name]:,}" for name in self._results)


class Meter:
    """Shows progress on standard error."""

    def __init__(self, counts: Counts, total: int | None) -> None:
        """`total` is the file's size in bytes, None when it cannot be known."""
        self._counts = counts
        self._position = 0
        self._next_line = time.monotonic() + LINE_EVERY
        self._bar: Any = (
            click.progressbar(length=total, item_show_func=lambda _: str(self), file=sys.stderr)
            if total is not None and sys.stderr.isatty()
            else None
        )

    @contextmanager
    def shown(self) -> Iterator[Meter]:
        """Shows the bar while the body runs."""
        if self._bar is None:
            yield self
        else:
            with self._bar:
                yield self

    def update(self, position: int) -> None:
        """Tells how many bytes of the file have been read."""
        if self._bar is not None:
            self._bar.update(position - self._position)
            self._position = position
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY
            click.echo(str(self), err=True)

    def __str__(self) -> str:
        return f"{self._counts.rows:,} rows, {self._counts.rate:,.0f} rows/s"
