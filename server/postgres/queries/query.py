"""A query, and the .sql files that queries are read from."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Query:
    """A query by the name it is prepared under, with $1 and so on for its parameters."""

    name: bytes
    text: bytes


def text_of(name: str) -> str:
    """Returns the text of a .sql file beside this one."""
    return (resources.files(__package__) / f"{name}.sql").read_text()
