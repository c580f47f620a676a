"""Alembic's entry: runs the pending migrations in one transaction, on a connection of psycopg's."""

from __future__ import annotations

import psycopg
from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from server.postgres.session import connection_options

# Shorter than a request waits for a lock: whoever comes after a migration that waits, waits behind it.
LOCK_TIMEOUT = "100ms"


def _connect() -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(context.config.attributes["conninfo"], **{**connection_options(), "autocommit": False})


engine = create_engine("postgresql+psycopg://", creator=_connect, poolclass=NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        context.run_migrations()
