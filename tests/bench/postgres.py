"""The Postgres of a run: an embedded one of its own, with default durability, in a temporary directory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from server.postgres import administration
from server.postgres.embedded import embedded_postgres
from server.postgres.migrations import migrate
from tests.bench import workload

# pgbench has a connection for each of 128 callers, beside the pools of the servers.
MAX_CONNECTIONS = 300
ROWS_PER_INSERT = 250_000


@dataclass(frozen=True)
class Postgres:
    """A running Postgres. `postmaster` is the process that all its others descend from."""

    conninfo: str
    postmaster: int


@dataclass(frozen=True)
class Database:
    """A migrated database with an organization, a key of it, and participants."""

    conninfo: str
    organization_id: str
    key: str
    participants: int
    postmaster: int


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Runs a Postgres. All settings are its defaults, but for the number of connections."""
    with tempfile.TemporaryDirectory(prefix="participants-bench-") as name:
        directory = Path(name)
        with embedded_postgres(directory) as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET max_connections = {MAX_CONNECTIONS}".encode())
        with embedded_postgres(directory) as conninfo:
            postmaster = int((directory / "postgres" / "postmaster.pid").read_text().splitlines()[0])
            yield Postgres(conninfo, postmaster)


def new_database(postgres: Postgres, name: str, participants: int) -> Database:
    """Makes a database with that many participants."""
    with psycopg.connect(postgres.conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    conninfo = make_conninfo(postgres.conninfo, dbname=name)
    migrate(conninfo, report=lambda line: None)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        _, key = administration.create_key(connection, "bench", "bench", None)
        organization_id = administration.organization_id(connection, "bench")
        for first in range(0, participants, ROWS_PER_INSERT):
            _insert(connection, organization_id, first, min(first + ROWS_PER_INSERT, participants))
        connection.execute("VACUUM (ANALYZE) participants")
    return Database(conninfo, organization_id, key, participants, postgres.postmaster)


def _insert(connection: psycopg.Connection, organization_id: str, first: int, end: int) -> None:
    connection.execute(
        """
        INSERT INTO participants (
            organization_id, participant_id, external_id, status, display_name, email, first_name, last_name, phone,
            attributes, tags
        )
        SELECT
            %(organization_id)s, lpad(to_hex(n + 1), 32, '0')::uuid, 'user-' || lpad(n::text, 7, '0'), 'ACTIVE',
            %(display_name)s, %(email)s, %(first_name)s, %(last_name)s, %(phone)s,
            %(attributes)s::jsonb, %(tags)s::text[]
        FROM generate_series(%(first)s::int, %(end)s::int - 1) AS n
        """,
        {
            "organization_id": organization_id,
            "first": first,
            "end": end,
            "attributes": workload.initial_attributes(),
            "tags": workload.TAGS,
            **workload.PROFILE,
        },
    )


def settle(database: Database) -> None:
    """Gives every measurement the same start: no dead rows, and nothing that a checkpoint has yet to write."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("VACUUM participants")
        connection.execute("CHECKPOINT")


def set_as_requested(database: Database, first: int) -> None:
    """Makes every participant what the requests from `first` on would make of it."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(
            """
            UPDATE participants
            SET attributes = attributes || jsonb_build_object(%(changing)s::text, lpad(number::text, 10, '0'))
            FROM generate_series(%(first)s::bigint, %(first)s::bigint + %(participants)s - 1) AS number
            WHERE external_id = 'user-' || lpad((number * %(stride)s %% %(participants)s)::text, 7, '0')
            """,
            {
                "changing": workload.CHANGING,
                "first": first,
                "participants": database.participants,
                "stride": workload.STRIDE,
            },
        )


def participants_written_since(database: Database, number: int) -> int:
    """Returns how many participants have the value of request `number` or a later one."""
    with psycopg.connect(database.conninfo) as connection:
        row = connection.execute(
            "SELECT count(*) FROM participants WHERE (attributes ->> %s)::bigint >= %s", (workload.CHANGING, number)
        ).fetchone()
    assert row is not None
    return int(row[0])


def row_versions(database: Database) -> str:
    """Returns what changes as soon as any participant's row is written again, even with the same values."""
    with psycopg.connect(database.conninfo) as connection:
        row = connection.execute(
            "SELECT md5(string_agg(ctid::text || xmin::text, ' ' ORDER BY external_id)) FROM participants"
        ).fetchone()
    assert row is not None
    return str(row[0])


def version(postgres: Postgres) -> str:
    """Returns the version of Postgres, such as 18.1."""
    with psycopg.connect(postgres.conninfo) as connection:
        return connection.info.parameter_status("server_version") or "unknown"
