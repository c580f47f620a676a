"""The queries, one a .sql file beside this one."""

from __future__ import annotations

from importlib import resources


def read(name: str) -> bytes:
    """Returns the text of the query in NAME.sql."""
    return (resources.files(__name__) / f"{name}.sql").read_bytes()
