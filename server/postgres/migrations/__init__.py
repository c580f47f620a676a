"""The schema: Alembic runs the migrations in `versions`, and each is a plain SQL file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from server.config import ConfigurationError
from server.postgres.session import connect

# Any number will do, as long as every `migrate` takes the same one.
MIGRATION_LOCK = 7_064_201_138


def migrate(conninfo: str, report: Callable[[str], None]) -> None:
    """Brings the schema up to date. Two at once are safe: the second waits for the first and then does nothing."""
    with connect(conninfo) as lock:
        lock.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        before = _applied(conninfo)
        with _driver_errors():
            command.upgrade(_configuration(conninfo), "head")
    pending = [script.doc for script in _scripts().iterate_revisions("head", before or "base")]
    for name in reversed(pending):
        report(f"applied {name}")
    if not pending:
        report("the schema is up to date")


def is_current(conninfo: str) -> bool:
    """Tells whether every migration of this version of the service has been applied.

    Raises ConfigurationError when one has been applied that this version does not know.
    """
    return _applied(conninfo) == _scripts().get_current_head()


def _applied(conninfo: str) -> str | None:
    # Connected here, so that a database that cannot be reached is psycopg's error and not SQLAlchemy's.
    with connect(conninfo) as opened, _driver_errors():
        engine = create_engine("postgresql+psycopg://", creator=lambda: opened, poolclass=NullPool)
        with engine.connect() as connection:
            applied = MigrationContext.configure(connection).get_current_revision()
    if applied is not None and applied not in {script.revision for script in _scripts().walk_revisions()}:
        raise ConfigurationError(
            f"the database's schema {applied} is newer than this version of the service; run a newer version"
        )
    return applied


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Raises the driver's errors as they are, without SQLAlchemy's wrapping, which quotes the statement."""
    try:
        yield
    except DBAPIError as error:
        if error.orig is None:
            raise
        raise error.orig from None


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).parent))


def _configuration(conninfo: str) -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    configuration.attributes["conninfo"] = conninfo
    return configuration
