"""What a Postgres must be, whatever is in the database: new enough, and encoded in UTF-8."""

from __future__ import annotations

from typing import Any

import psycopg

from server.config import ConfigurationError

OLDEST_VERSION = 14


def check_server(connection: psycopg.Connection[Any]) -> None:
    """Raises ConfigurationError where the service cannot work on this database. Asks nothing: the server said it all
    when it was connected to."""
    info = connection.info
    version = info.server_version // 10_000
    if version < OLDEST_VERSION:
        raise ConfigurationError(f"the database is Postgres {version}; the service needs {OLDEST_VERSION} or newer")
    encoding = info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the database is encoded in {encoding}, and the service needs UTF8; use one that was made with: "
            "CREATE DATABASE participants TEMPLATE template0 ENCODING 'UTF8'"
        )
