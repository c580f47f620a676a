"""Whether this version of the service works on a schema that is newer than it knows: the migrations say so."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import version

import psycopg

from server.config import ConfigurationError
from server.postgres.session import connect


def check_served(conninfo: str, applied: str, known: Collection[str]) -> None:
    """Raises ConfigurationError unless all migrations beside the known ones say that this version works on them."""
    ours = version("participants-server")
    needed = {revision: oldest for revision, oldest in _oldest_services(conninfo).items() if revision not in known}
    if applied not in needed:
        raise ConfigurationError(
            f"the database's schema {applied} is newer than this version of the service, {ours}; run a newer version"
        )
    oldest = max(needed.values(), key=_numbers)
    if _numbers(ours) < _numbers(oldest):
        raise ConfigurationError(
            f"the database's schema {applied} is newer than this version of the service, {ours}, can work on; "
            f"run version {oldest} or newer"
        )


def _oldest_services(conninfo: str) -> dict[str, str]:
    """Returns by migration the oldest version of the service that works on it."""
    try:
        with connect(conninfo) as connection:
            return dict(connection.execute("SELECT revision, oldest_service FROM schema_compatibility").fetchall())
    except psycopg.errors.UndefinedTable:
        return {}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))
