"""A database on which the service could not keep its promises: refused in one line, or used so that it can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from server.config import ConfigurationError
from server.postgres import server_check
from server.postgres.migrations import migrate
from tests.conftest import PREFIX, fresh_database, new_tenant
from tests.support.clients import GrpcClient
from tests.support.process import Service, environment, refusal, run

PORTS = {"PARTICIPANTS_GRPC_ADDRESS": "127.0.0.1:0", "PARTICIPANTS_HTTP_ADDRESS": "127.0.0.1:0"}
NAME = "Zoë Žižek"


@contextmanager
def encoded(postgres: str, encoding: str) -> Iterator[str]:
    """Makes an empty database whose text is encoded so."""
    options = f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    with fresh_database(postgres, f"{PREFIX}_{encoding}".lower(), "template0", options) as conninfo:
        yield conninfo


def refused(command: str, conninfo: str) -> str:
    return refusal(run(*command.split(), env=environment(DATABASE_URL=conninfo, **PORTS)))


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
@pytest.mark.parametrize("command", ["migrate", "serve", "keys list"])
def test_another_encoding_than_utf_8_is_refused_with_what_to_do(postgres: str, encoding: str, command: str) -> None:
    with encoded(postgres, encoding) as conninfo:
        line = refused(command, conninfo)
    assert encoding in line
    assert "CREATE DATABASE" in line
    assert "ENCODING 'UTF8'" in line


def test_a_server_that_is_too_old_is_refused(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_check, "OLDEST_VERSION", 1_000)
    with (
        fresh_database(postgres, f"{PREFIX}_old") as conninfo,
        pytest.raises(ConfigurationError, match="1000 or newer"),
    ):
        migrate(conninfo, report=print)


@pytest.mark.parametrize("by", ["url", "environment"])
def test_text_is_sent_in_utf_8_whatever_encoding_clients_are_told_to_have(database: str, by: str) -> None:
    tenant = new_tenant(database, "acme")
    url = make_conninfo(database, client_encoding="LATIN1") if by == "url" else database
    variables = {} if by == "url" else {"PGCLIENTENCODING": "LATIN1"}
    service = Service(environment(DATABASE_URL=url, **variables))
    try:
        client = GrpcClient(service.grpc_address, tenant.key)
        created = client.create({"external_id": NAME, "display_name": NAME})
        assert created.participant.get("display_name") == NAME
        client.close()
    finally:
        service.stop()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT external_id, display_name FROM participants").fetchall() == [(NAME, NAME)]


@pytest.mark.parametrize("whose", ["DATABASE", "ROLE"])
def test_commits_that_a_crash_would_lose_are_refused_with_what_to_do(postgres: str, database: str, whose: str) -> None:
    role = f"{PREFIX}_careless"
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'secret' SUPERUSER".encode())
        try:
            name = role if whose == "ROLE" else admin.info.dbname
            admin.execute(f'ALTER {whose} "{name}" SET synchronous_commit = off'.encode())
            line = refused("serve", make_conninfo(database, user=role, password="secret"))
        finally:
            admin.execute(f'DROP ROLE "{role}"'.encode())
    assert f'ALTER ROLE "{role}" SET synchronous_commit = on' in line
