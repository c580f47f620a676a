"""Alembic's entry: runs the pending migrations in one transaction, on a connection of psycopg's."""

from __future__ import annotations

import psycopg
from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from server.postgres.session import connection_options

conninfo = context.config.attributes["conninfo"]
engine = create_engine(
    "postgresql+psycopg://",
    creator=lambda: psycopg.connect(conninfo, **{**connection_options(), "autocommit": False}),
    poolclass=NullPool,
)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
