"""The statement that systems other than ours run for each request."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

# In psycopg's notation, with named parameters.
UPSERT = (Path(__file__).parent / "upsert.sql").read_text()
_PARAMETER = re.compile(r"%\((\w+)\)s")


def with_parameters(notation: Callable[[str], str]) -> str:
    """Returns the statement with each parameter written as `notation` has it."""
    return _PARAMETER.sub(lambda match: notation(match[1]), UPSERT)


def numbered() -> tuple[str, list[str]]:
    """Returns the statement with parameters $1, $2 and so on, and their names in that order."""
    names = list(dict.fromkeys(_PARAMETER.findall(UPSERT)))
    return with_parameters(lambda name: f"${names.index(name) + 1}"), names
