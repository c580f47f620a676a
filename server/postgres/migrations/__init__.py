"""The schema: Alembic runs the migrations in `versions`, and each is a plain SQL file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import errors
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from server.config import ConfigurationError
from server.postgres.migrations.compatibility import check_served
from server.postgres.session import connect

# Any number will do, as long as every `migrate` takes the same one.
MIGRATION_LOCK = 7_064_201_138
# How often to ask whether another `migrate` has ended, and to try anew when a table was in use; in seconds.
PAUSE = 0.5
# How long to go on trying; in seconds.
PATIENCE = 60.0


def migrate(conninfo: str, report: Callable[[str], None]) -> None:
    """Brings the schema up to date. Two at once are safe: the second waits for the first and then does nothing.

    A schema that is newer stays as it is. Raises ConfigurationError when this version does not work on it, or when
    others use a table all the time that is to change.
    """
    with _alone(conninfo):
        before = _applied(conninfo)
        if _is_newer(before):
            check_served(conninfo, before, _known())
            report("the schema is newer than this version of the service, which works on it")
            return
        _upgrade(conninfo)
    pending = [script.doc for script in _scripts().iterate_revisions("head", before or "base")]
    for name in reversed(pending):
        report(f"applied {name}")
    if not pending:
        report("the schema is up to date")


def is_current(conninfo: str) -> bool:
    """Tells whether the schema has all that this version of the service needs.

    Raises ConfigurationError when it is newer, and this version does not work on it.
    """
    applied = _applied(conninfo)
    if _is_newer(applied):
        check_served(conninfo, applied, _known())
        return True
    return applied == _scripts().get_current_head()


@contextmanager
def _alone(conninfo: str) -> Iterator[None]:
    """Waits until no other `migrate` is at work, and keeps others waiting.

    The lock is a transaction's: a session's would stay with whichever server connection a pooler had at hand. It is
    asked for again and again: a statement that waited would keep CREATE INDEX CONCURRENTLY waiting for itself.
    """
    with connect(conninfo) as connection:
        while True:
            with connection.transaction():
                if connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (MIGRATION_LOCK,)).fetchone() == (True,):
                    connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                    yield
                    return
            time.sleep(PAUSE)


def _upgrade(conninfo: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with _driver_errors():
                command.upgrade(_configuration(conninfo), "head")
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"nothing was migrated: for {PATIENCE:.0f} s others held a table that is to change; "
                    "end the long transactions in pg_stat_activity, and run it again"
                ) from None
            time.sleep(PAUSE)
        else:
            return


def _applied(conninfo: str) -> str | None:
    """Returns the newest migration that has been applied."""
    # Connected here, so that a database that cannot be reached is psycopg's error and not SQLAlchemy's.
    with connect(conninfo) as opened, _driver_errors():
        engine = create_engine("postgresql+psycopg://", creator=lambda: opened, poolclass=NullPool)
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Raises the driver's errors as they are, without SQLAlchemy's wrapping, which quotes the statement."""
    try:
        yield
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg.Error):
            raise
        raise error.orig from None


def _is_newer(applied: str | None) -> TypeGuard[str]:
    return applied is not None and applied not in _known()


def _known() -> set[str]:
    return {script.revision for script in _scripts().walk_revisions()}


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).parent))


def _configuration(conninfo: str) -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    configuration.attributes["conninfo"] = conninfo
    return configuration
