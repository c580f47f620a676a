"""Which database a command works on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from server.config import ConfigurationError, Settings, read_settings
from server.postgres.embedded import embedded_postgres
from server.postgres.migrations import is_current, migrate
from server.postgres.session import connect


@contextmanager
def conninfo_of(settings: Settings) -> Iterator[str]:
    """Yields how to connect to the database, whatever its schema. The embedded one is started."""
    if settings.database_url is not None:
        yield settings.database_url
    else:
        with embedded_postgres(settings.data_directory) as conninfo:
            yield conninfo


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Yields how to connect to a database whose schema is current.

    The embedded one is migrated where that is needed; any other must have been.
    """
    with conninfo_of(settings) as conninfo:
        if not is_current(conninfo):
            if settings.database_url is not None:
                raise ConfigurationError(
                    "the database's schema is not the one this version needs; run: participants migrate"
                )
            migrate(conninfo, report=lambda _: None)
        yield conninfo


@contextmanager
def connection() -> Iterator[psycopg.Connection[Any]]:
    """Yields a connection, in autocommit, for an operator's command."""
    with database(read_settings(os.environ)) as conninfo, connect(conninfo) as opened:
        yield opened
