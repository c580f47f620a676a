"""How far a run is."""

from __future__ import annotations

import sys
import time


def progress(line: str) -> None:
    """Says it on standard error, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr)
