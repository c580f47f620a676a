"""The schema, and whether it has what this version needs. Alembic runs the migrations in `versions`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

from psycopg import errors

from server.postgres.migrations.compatibility import check_served
from server.postgres.server_check import check_server
from server.postgres.session import connect

# Any number will do, as long as every `migrate` takes the same one.
MIGRATION_LOCK = 7_064_201_138
# How often to ask whether another `migrate` has ended; in seconds.
PAUSE = 0.5


def migrate(conninfo: str, report: Callable[[str], None]) -> None:
    """Brings the schema up to date. Two at once are safe: the second waits for the first and then does nothing.

    A schema that is newer stays as it is. Raises ConfigurationError when this version does not work on it, or not on
    this Postgres, or when others use a table all the time that is to change.
    """
    with _alone(conninfo):
        before = _applied(conninfo)
        if _is_newer(before):
            check_served(conninfo, before, known())
            report("the schema is newer than this version of the service, which works on it")
            return
        pending = [revision for revision in known() if before is None or revision > before]
        if not pending:
            report("the schema is up to date")
            return
        # Here alone: to import Alembic takes as long as all that serving imports.
        from server.postgres.migrations.upgrade import described, upgrade  # noqa: PLC0415

        upgrade(conninfo)
    for revision in pending:
        report(f"applied {described(revision)}")


def is_current(conninfo: str) -> bool:
    """Tells whether the schema has all that this version of the service needs.

    Raises ConfigurationError when it is newer, and this version does not work on it, or not on this Postgres.
    """
    applied = _applied(conninfo)
    if _is_newer(applied):
        check_served(conninfo, applied, known())
        return True
    return applied == known()[-1]


def known() -> list[str]:
    """Returns the migrations of this version of the service, in order: each is a module named NNNN_name."""
    return sorted(file.name.partition("_")[0] for file in (Path(__file__).parent / "versions").glob("[0-9]*.py"))


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


def _applied(conninfo: str) -> str | None:
    """Returns the newest migration that has been applied. Raises ConfigurationError where none can be."""
    with connect(conninfo) as connection:
        check_server(connection)
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except errors.UndefinedTable:
            return None
    return None if row is None else str(row[0])


def _is_newer(applied: str | None) -> TypeGuard[str]:
    return applied is not None and applied not in known()
