"""Has Alembic run migrations: each is a plain SQL file, and what it says itself in the module of the same name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import errors
from sqlalchemy.exc import DBAPIError

from server.config import ConfigurationError

# How often to try anew when a table was in use, and for how long; in seconds.
PAUSE = 0.5
PATIENCE = 60.0

_HERE = Path(__file__).parent


def upgrade(conninfo: str) -> None:
    """Runs the migrations that are pending. Raises ConfigurationError when others use a table that is to change."""
    deadline = time.monotonic() + PATIENCE
    while not _is_upgraded(conninfo):
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"nothing was migrated: for {PATIENCE:.0f} s others held a table that is to change; "
                "end the long transactions in pg_stat_activity, and run it again"
            )
        time.sleep(PAUSE)


def described(revision: str) -> str:
    """Returns what a migration says that it does."""
    return str(ScriptDirectory(str(_HERE)).get_revision(revision).doc)


def configuration(conninfo: str) -> Config:
    """Returns what Alembic is told: where the migrations are, and on which database to run them."""
    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    config.attributes["conninfo"] = conninfo
    return config


def _is_upgraded(conninfo: str) -> bool:
    """Runs what is pending, in one transaction, unless others hold a table that is to change."""
    try:
        with _driver_errors():
            command.upgrade(configuration(conninfo), "head")
    except (errors.LockNotAvailable, errors.DeadlockDetected):
        return False
    return True


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Raises the driver's errors as they are, without SQLAlchemy's wrapping, which quotes the statement."""
    try:
        yield
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg.Error):
            raise
        raise error.orig from None
