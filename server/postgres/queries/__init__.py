"""The queries of requests, one a .sql file beside this one. Every connection has them all prepared."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Query:
    """A query by the name it is prepared under, with $1 and so on for its parameters."""

    name: bytes
    text: bytes


def _read(name: str) -> Query:
    return Query(name.encode(), (resources.files(__name__) / f"{name}.sql").read_bytes())


UPSERT = _read("upsert")
GET = _read("get")
FIND_KEYS = _read("find_keys")
ALL = (UPSERT, GET, FIND_KEYS)
