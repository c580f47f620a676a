"""The service behind PgBouncer in transaction mode: served where it can be, and refused in one line where it cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import PREFIX, new_tenant
from tests.support import pgbouncer as installed
from tests.support.clients import GrpcClient
from tests.support.pgbouncer import pgbouncer
from tests.support.process import Service, environment, refusal, run

VERSION = installed.version()
MODERN = VERSION >= installed.KEEPS_PREPARED_STATEMENTS

pytestmark = pytest.mark.skipif(not VERSION, reason="PgBouncer is not installed")
needs_modern = pytest.mark.skipif(not MODERN, reason=f"PgBouncer {VERSION} cannot keep prepared statements")

ROLE = f"{PREFIX}_pooled"
OPTIONS = {"ignore_startup_parameters": "options"}
# What PgBouncer itself sets for each of its clients.
TRACKED = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "standard_conforming_strings",
    "TimeZone",
]


@pytest.fixture
def pooled(database: str) -> Iterator[str]:
    """How a role of the test's own connects to a migrated database."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE \"{ROLE}\" LOGIN PASSWORD 'secret' SUPERUSER".encode())
        try:
            yield make_conninfo(database, user=ROLE, password="secret")
        finally:
            admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", (ROLE,)
            ).fetchall()
            admin.execute(f'DROP OWNED BY "{ROLE}"'.encode())
            admin.execute(f'DROP ROLE "{ROLE}"'.encode())


def refused(conninfo: str) -> str:
    return refusal(run("serve", env=environment(DATABASE_URL=conninfo, PARTICIPANTS_GRPC_ADDRESS="127.0.0.1:0")))


def test_one_that_takes_no_options_is_refused_with_what_to_set(pooled: str) -> None:
    with pgbouncer(pooled) as conninfo:
        assert "ignore_startup_parameters = options" in refused(conninfo)


def test_one_that_loses_prepared_statements_is_refused(pooled: str) -> None:
    with_settings_on_role(pooled)
    unable = {"max_prepared_statements": "0"} if MODERN else {}
    with pgbouncer(pooled, **OPTIONS, **unable) as conninfo:
        line = refused(conninfo)
        assert "1.22" in line
        assert "max_prepared_statements" in line


def with_settings_on_role(pooled: str) -> None:
    """Does what the line says that one is refused with that drops settings."""
    with pgbouncer(pooled, **OPTIONS) as conninfo:
        line = refused(conninfo)
    statements = re.findall(r"ALTER ROLE [^;]+;", line)
    assert statements, line
    with psycopg.connect(pooled, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@needs_modern
def test_behind_one_that_keeps_them_it_serves_and_leaves_nothing_to_other_clients(pooled: str) -> None:
    with_settings_on_role(pooled)
    with pgbouncer(pooled, **OPTIONS, max_prepared_statements="50") as conninfo:
        tenant = new_tenant(pooled, "acme")
        service = Service(environment(DATABASE_URL=conninfo))
        client = GrpcClient(service.grpc_address, tenant.key)
        try:
            with ThreadPoolExecutor(16) as callers:
                requests = [{"external_id": f"user-{n % 100}", "attributes": {str(n): "x"}} for n in range(400)]
                replies = list(callers.map(client.create, requests))
            assert {reply.code for reply in replies} == {"OK"}
            assert client.get(replies[0].participant["id"]).code == "OK"
            assert service.errors.count("WARNING") == 0
            # While the service holds its connections to the pooler, as another of the pooler's clients sees them.
            with psycopg.connect(conninfo, autocommit=True) as other:
                left = other.execute(
                    """
                    SELECT 'a setting', name FROM pg_settings WHERE source = 'session' AND name <> ALL (%s)
                    UNION ALL SELECT 'a statement', name FROM pg_prepared_statements WHERE name NOT LIKE 'PGBOUNCER%%'
                    UNION ALL SELECT 'a lock', locktype FROM pg_locks JOIN pg_database AS d ON d.oid = database
                    WHERE locktype = 'advisory' AND datname = current_database()
                    """,
                    (TRACKED,),
                ).fetchall()
            assert left == []
        finally:
            client.close()
            assert service.stop() == 0
