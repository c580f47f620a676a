"""A password that is rotated under the running service: the file that holds it is read for every new connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import new_tenant
from tests.support.clients import GrpcClient
from tests.support.own_postgres import OwnPostgres
from tests.support.process import Service, environment, eventually
from tests.support.seed import Seed

ROLE = "rotated"


@pytest.fixture(scope="module")
def postgres_with_passwords(seed: Seed) -> Iterator[str]:
    """How to connect as an administrator to a Postgres that asks ROLE for its password."""
    with seed.planted() as directory:
        postgres = OwnPostgres(directory)
        rules = directory / "postgres" / "pg_hba.conf"
        rules.write_text(f"local all {ROLE} scram-sha-256\n{rules.read_text()}")
        with psycopg.connect(postgres.conninfo, autocommit=True) as admin:
            admin.execute("SELECT pg_reload_conf()")
            admin.execute(f"CREATE ROLE {ROLE} LOGIN SUPERUSER".encode())
        yield postgres.conninfo
        postgres.stop()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_rotated_password_needs_no_restart(postgres_with_passwords: str, tmp_path: Path, workers: str) -> None:
    conninfo = postgres_with_passwords
    tenant = new_tenant(conninfo, f"acme with {workers}")
    with psycopg.connect(conninfo, autocommit=True) as admin:
        admin.execute(f"ALTER ROLE {ROLE} PASSWORD 'old-secret'".encode())
    file = tmp_path / "url"
    file.write_text(f"{make_conninfo(conninfo, user=ROLE, password='old-secret')}\n")
    service = Service(environment(DATABASE_URL_FILE=str(file), PARTICIPANTS_WORKERS=workers))
    client = GrpcClient(service.grpc_address, tenant.key)
    try:
        assert client.create({"external_id": "before"}).code == "OK"
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute(f"ALTER ROLE {ROLE} PASSWORD 'new-secret'".encode())
            file.write_text(make_conninfo(conninfo, user=ROLE, password="new-secret"))
            admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", (ROLE,)
            ).fetchall()
        eventually(lambda: client.create({"external_id": "after"}).code == "OK")
        assert "old-secret" not in service.errors
        assert "new-secret" not in service.errors
    finally:
        client.close()
        assert service.stop() == 0
