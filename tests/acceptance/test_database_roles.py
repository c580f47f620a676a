"""Two database roles: the owner migrates, the other serves; and what a command says that may not do its work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import PREFIX, fresh_database, new_tenant
from tests.support.clients import GrpcClient
from tests.support.process import Service, environment, refusal, run

ROLE = f"{PREFIX}_plain"
PORTS = {"PARTICIPANTS_GRPC_ADDRESS": "127.0.0.1:0", "PARTICIPANTS_HTTP_ADDRESS": "127.0.0.1:0"}


@pytest.fixture
def plain(postgres: str) -> Iterator[str]:
    """The password of ROLE, which may log in, and nothing else."""
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE \"{ROLE}\" LOGIN PASSWORD 'secret'".encode())
        try:
            yield "secret"
        finally:
            admin.execute(f'DROP ROLE "{ROLE}"'.encode())


@pytest.fixture
def empty(postgres: str, plain: str) -> Iterator[str]:
    """An empty database in which not everybody may make tables, as from Postgres 15 on; ROLE exists."""
    with fresh_database(postgres, f"{PREFIX}_roles") as conninfo:
        execute(conninfo, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        yield conninfo


@pytest.fixture
def migrated(plain: str, new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A database with the current schema, in which ROLE, which exists, was granted nothing."""
    with new_database() as conninfo:
        yield conninfo


def by_plain(conninfo: str) -> str:
    return make_conninfo(conninfo, user=ROLE, password="secret")


def execute(conninfo: str, statement: str) -> None:
    with psycopg.connect(conninfo, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        connection.execute(statement.encode())


def refused(conninfo: str, command: str) -> str:
    return refusal(run(*command.split(), env=environment(DATABASE_URL=conninfo, **PORTS)))


def succeeds(conninfo: str, command: str) -> str:
    completed = run(*command.split(), env=environment(DATABASE_URL=conninfo))
    assert completed.returncode == 0, completed
    return completed.stdout


def test_the_serving_role_serves_and_can_do_nothing_else(empty: str) -> None:
    assert ROLE in succeeds(empty, f"migrate --serving-role {ROLE}")
    execute(empty, "CREATE TABLE salaries (amount integer)")
    tenant = new_tenant(empty, "acme")
    service = Service(environment(DATABASE_URL=by_plain(empty), PARTICIPANTS_API_KEY="sk_fixed"))
    try:
        for key, program_id in ((tenant.key, tenant.program_id), ("sk_fixed", None)):
            client = GrpcClient(service.grpc_address, key)
            request = {"external_id": "user", "program_id": program_id} if program_id else {"external_id": "user"}
            created = client.create(request)
            assert (created.code, created.result) == ("OK", "CREATED")
            assert client.create({**request, "attributes": {"plan": "premium"}}).result == "UPDATED"
            assert client.get(created.participant["id"]).code == "OK"
            client.close()
    finally:
        assert service.stop() == 0
    assert '"last_used_at": null' not in succeeds(empty, "keys list --json")
    for statement in (
        "DROP TABLE participants",
        "ALTER TABLE participants ADD COLUMN salary integer",
        "TRUNCATE participants",
        "CREATE TABLE mine ()",
        "INSERT INTO api_keys SELECT * FROM api_keys",
        "UPDATE api_keys SET revoked_at = NULL",
        "SELECT * FROM audit_log",
        "DELETE FROM audit_log",
        "DELETE FROM organizations",
        "UPDATE alembic_version SET version_num = ''",
        "SELECT * FROM salaries",
        "SELECT * FROM pg_authid",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(by_plain(empty), statement)


def test_migrating_again_grants_again_and_a_role_that_does_not_exist_is_named(migrated: str) -> None:
    succeeds(migrated, f"migrate --serving-role {ROLE}")
    succeeds(migrated, f"migrate --serving-role {ROLE}")
    line = refusal_after_output(migrated, "migrate --serving-role nobody-of-this-name")
    assert "nobody-of-this-name" in line
    assert "CREATE ROLE" in line


def refusal_after_output(conninfo: str, command: str) -> str:
    completed = run(*command.split(), env=environment(DATABASE_URL=conninfo))
    assert completed.returncode == 1, completed
    (line,) = completed.stderr.splitlines()
    return line


def test_a_role_that_may_not_create_is_told_so(empty: str) -> None:
    line = refused(by_plain(empty), "migrate")
    assert "permission denied for schema public" in line
    assert "Database roles" in line


@pytest.mark.parametrize("command", ["serve", "keys list", "keys create --organization acme", "programs list"])
def test_a_role_that_was_granted_nothing_is_told_so(migrated: str, command: str) -> None:
    line = refused(by_plain(migrated), command)
    assert "permission denied for table" in line
    assert "Database roles" in line


def test_a_serving_role_that_lacks_something_is_told_what(migrated: str) -> None:
    succeeds(migrated, f"migrate --serving-role {ROLE}")
    execute(migrated, f'REVOKE UPDATE ON enrollments FROM "{ROLE}"')
    line = refused(by_plain(migrated), "serve")
    assert "UPDATE on enrollments" in line
    assert f"participants migrate --serving-role {ROLE}" in line


def test_a_search_path_that_names_no_schema_is_told_so(empty: str) -> None:
    line = refused(make_conninfo(empty, options="-c search_path=nowhere"), "migrate")
    assert "CREATE SCHEMA" in line
    assert "search_path" in line


@pytest.mark.parametrize(
    "command",
    ["keys create --organization acme", "programs create --organization acme gold", "keys revoke 0123456789abcdef"],
)
def test_a_read_only_database_is_told_so(database: str, command: str) -> None:
    new_tenant(database, "acme")
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{admin.info.dbname}" SET default_transaction_read_only = on'.encode())
    line = refused(database, command)
    assert "read-only" in line
    assert "primary" in line


def test_a_migration_of_a_read_only_database_is_told_so(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{admin.info.dbname}" SET default_transaction_read_only = on'.encode())
    assert "read-only" in refused(empty, "migrate")
