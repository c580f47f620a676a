"""The variables: a bad one is refused with one line, and a good one does what it says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import grpc
import psycopg
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from server.config import ConfigurationError, read_settings
from tests.conftest import fresh_database
from tests.support.clients import Client, GrpcClient, HttpClient
from tests.support.process import Service, environment, refusal, run

NewDatabase = Callable[[], AbstractContextManager[str]]

PASSWORD = "correct-horse-battery"
UNREACHABLE = f"postgresql://somebody:{PASSWORD}@127.0.0.1:1/participants"
FREE_PORTS = {"PARTICIPANTS_GRPC_ADDRESS": "127.0.0.1:0", "PARTICIPANTS_HTTP_ADDRESS": "127.0.0.1:0"}


def refused(command: str = "serve", **variables: str) -> str:
    """Returns the one line that a command refuses these variables with."""
    return refusal(run(*command.split(), env=environment(**{**FREE_PORTS, **variables})))


@pytest.mark.parametrize(
    ("variable", "value", "advice"),
    [
        ("PARTICIPANTS_GRPC_ADDRESS", "", "HOST:PORT"),
        ("PARTICIPANTS_GRPC_ADDRESS", "50051", "HOST:PORT"),
        ("PARTICIPANTS_GRPC_ADDRESS", "127.0.0.1:65536", "HOST:PORT"),
        ("PARTICIPANTS_GRPC_ADDRESS", "http://127.0.0.1:50051", "HOST:PORT"),
        ("PARTICIPANTS_HTTP_ADDRESS", "127.0.0.1", "HOST:PORT"),
        ("PARTICIPANTS_HTTP_ADDRESS", "::1:8080", "[::1]:8080"),
        ("PARTICIPANTS_WORKERS", "0", "from 1 to"),
        ("PARTICIPANTS_WORKERS", "65", "from 1 to"),
        ("PARTICIPANTS_WORKERS", "many", "from 1 to"),
        ("PARTICIPANTS_API_KEY", "not-a-key", "sk_"),
        ("PARTICIPANTS_API_KEY", "sk_with a space", "sk_"),
        ("PARTICIPANTS_API_KEY", "sk_" + "x" * 253, "sk_"),
        ("PARTICIPANTS_REFLECTION", "perhaps", "on or off"),
        ("PARTICIPANTS_DOCS", "perhaps", "on or off"),
        ("PARTICIPANTS_DATABASE_CONNECTIONS", "0", "from 1 to"),
        ("PARTICIPANTS_DATABASE_CONNECTIONS", "1001", "from 1 to"),
        ("DATABASE_URL_FILE", "/nowhere/url", "unset one of them"),
        ("PARTICIPANTS_LOG_FORMAT", "xml", "text or json"),
        ("DATABASE_URL", "participants", "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("DATABASE_URL", f"mysql://somebody:{PASSWORD}@127.0.0.1/x", "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
        *(
            ("DATABASE_URL", f"postgresql://somebody:{special}{PASSWORD}@127.0.0.1:1/x", "percent-encode")
            for special in ("a@b", "a/b", "a%z", "a b", "a@b/c")
        ),
        ("DATABASE_URL", f"{UNREACHABLE}?unknown=1", "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
    ],
)
def test_a_bad_variable_is_refused_by_name_with_advice(variable: str, value: str, advice: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read_settings({"DATABASE_URL": UNREACHABLE, variable: value})
    line = str(error.value)
    assert variable in line
    assert advice in line
    assert "\n" not in line
    assert PASSWORD not in line


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (None, "cannot be read"),
        ("", "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
        (f"mysql://somebody:{PASSWORD}@127.0.0.1/x", "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
    ],
)
def test_a_file_without_a_database_url_is_refused(tmp_path: Path, content: str | None, advice: str) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError) as error:
        read_settings({"DATABASE_URL_FILE": str(file)})
    assert "DATABASE_URL_FILE" in str(error.value)
    assert advice in str(error.value)
    assert PASSWORD not in str(error.value)


def test_the_command_says_what_is_wrong_with_a_variable_in_one_line() -> None:
    line = refused(DATABASE_URL=UNREACHABLE, PARTICIPANTS_WORKERS="many")
    assert line == "participants: PARTICIPANTS_WORKERS is 'many'; set it to a number from 1 to 64"


def test_a_bad_key_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as error:
        read_settings({"PARTICIPANTS_API_KEY": "hush"})
    assert "hush" not in str(error.value)


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_database_that_cannot_be_reached_is_refused_without_the_password(command: str) -> None:
    line = refused(command, DATABASE_URL=UNREACHABLE)
    assert "cannot reach the database" in line
    assert "DATABASE_URL" in line
    assert PASSWORD not in line


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://somebody:{PASSWORD}@127.0.0.1:99999/participants",
        f"host=127.0.0.1 port=1 user=somebody password={PASSWORD}",
    ],
)
def test_an_address_without_a_database_is_refused_without_the_password(url: str) -> None:
    line = refused(DATABASE_URL=url)
    assert "DATABASE_URL" in line
    assert PASSWORD not in line


def test_a_database_that_does_not_exist_is_refused(postgres: str) -> None:
    line = refused(DATABASE_URL=psycopg.conninfo.make_conninfo(postgres, dbname="there_is_none"))
    assert "there_is_none" in line
    assert "DATABASE_URL" in line


@pytest.mark.parametrize("command", ["serve", "keys create --organization acme"])
def test_a_schema_that_was_not_migrated_is_refused_with_the_command_to_run(postgres: str, command: str) -> None:
    with fresh_database(postgres, "participants_test_unmigrated") as conninfo:
        assert "participants migrate" in refused(command, DATABASE_URL=conninfo)


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_schema_of_a_newer_version_is_refused_as_such(database: str, command: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    line = refused(command, DATABASE_URL=database)
    assert "newer" in line
    assert "run: participants migrate" not in line


def test_a_data_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert str(file) in refused(PARTICIPANTS_DATA_DIR=str(file))


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("PARTICIPANTS_GRPC_ADDRESS", "192.0.2.1:50051"),
        ("PARTICIPANTS_HTTP_ADDRESS", "192.0.2.1:8080"),
    ],
)
def test_an_address_of_another_machine_is_refused(database: str, variable: str, address: str) -> None:
    line = refused(DATABASE_URL=database, **{variable: address})
    assert variable in line
    assert address in line


def test_without_an_http_address_there_is_no_gateway_and_a_fixed_key_works_with_reflection_off(database: str) -> None:
    key = "sk_chosen-by-the-operator"
    service = Service(
        environment(
            DATABASE_URL=database,
            PARTICIPANTS_HTTP_ADDRESS="",
            PARTICIPANTS_API_KEY=key,
            PARTICIPANTS_REFLECTION="off",
        )
    )
    try:
        assert service.http_url == ""
        client = GrpcClient(service.grpc_address, key)
        assert client.create({"external_id": "one"}).result == "CREATED"
        client.close()
        with pytest.raises(grpc.RpcError) as error:
            list_services(service)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        assert service.stop() == 0
    assert organization_of(database, "one") == "default"


def test_the_fixed_key_works_through_both_clients_beside_stored_keys(new_database: NewDatabase) -> None:
    key = "sk_" + "~" * 252
    with new_database() as conninfo:
        stored = run("keys", "create", "--organization", "acme", env=environment(DATABASE_URL=conninfo)).stdout.strip()
        service = Service(environment(DATABASE_URL=conninfo, PARTICIPANTS_API_KEY=key))
        try:
            clients: list[Client] = [GrpcClient(service.grpc_address, key), HttpClient(service.http_url, key)]
            assert [client.create({"external_id": "one"}).code for client in clients] == ["OK", "OK"]
            assert [client.create({"external_id": "two"}, stored).code for client in clients] == ["OK", "OK"]
            assert [client.create({"external_id": "one"}, key[:-1]).code for client in clients] == [
                "UNAUTHENTICATED"
            ] * 2
            for client in clients:
                client.close()
        finally:
            assert service.stop() == 0
        assert [organization_of(conninfo, external_id) for external_id in ("one", "two")] == ["default", "acme"]
        assert key not in service.output + service.errors


def list_services(service: Service) -> list[str]:
    """Returns the names that server reflection lists."""
    with grpc.insecure_channel(service.grpc_address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=10)
        return [listed.name for listed in answer.list_services_response.service]


def organization_of(conninfo: str, external_id: str) -> str:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT name FROM organizations JOIN participants USING (organization_id) WHERE external_id = %s",
            (external_id,),
        ).fetchone()
    assert row is not None
    return str(row[0])
