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
def database(settings: Settings) -> Iterator[str]:
    """Yields how to connect to a database whose schema is current.

    The embedded one is started, and migrated where that is needed; any other must have been migrated.
    """
    if settings.database_url is None:
        with embedded_postgres(settings.data_directory) as conninfo:
            if not is_current(conninfo):
                migrate(conninfo, report=lambda _: None)
            yield conninfo
    else:
        if not is_current(settings.database_url):
            raise ConfigurationError(
                "the database's schema is not the one this version needs; run: participants migrate"
            )
        yield settings.database_url


@contextmanager
def connection() -> Iterator[psycopg.Connection[Any]]:
    """Yields a connection, in autocommit, for an operator's command."""
    with database(read_settings(os.environ)) as conninfo, connect(conninfo) as opened:
        yield opened
