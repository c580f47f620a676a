"""Who may call: every way to have no usable key, through both clients of the real process."""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import psycopg
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

from server.auth.keys import decode, digest, encode
from server.errors import Unauthenticated
from server.postgres import administration
from tests.conftest import Deployment, deployed
from tests.support import loopback
from tests.support.clients import Client, GrpcClient, HttpClient, reply_from_rpc_error
from tests.support.process import environment, eventually, run

Headers = Sequence[tuple[str, str]]


@dataclass
class Caller:
    """Calls CreateParticipant with any headers, and returns the code and the message."""

    deployment: Deployment
    by_grpc: bool
    _channel: Any = field(init=False)

    def __post_init__(self) -> None:
        self._channel = grpc.insecure_channel(self.deployment.service.grpc_address)

    def call(self, headers: Headers) -> tuple[str, str]:
        return self._call_grpc(headers) if self.by_grpc else self._call_http(headers)

    def close(self) -> None:
        self._channel.close()

    def _call_grpc(self, headers: Headers) -> tuple[str, str]:
        request = messages.CreateParticipantRequest(external_id="caller")
        try:
            ParticipantServiceStub(self._channel).CreateParticipant(request, metadata=tuple(headers), timeout=10)
        except grpc.RpcError as error:
            reply = reply_from_rpc_error(error)
            return reply.code, reply.message
        return "OK", ""

    def _call_http(self, headers: Headers) -> tuple[str, str]:
        url = f"{self.deployment.service.http_url}/v1/participants"
        answer = loopback.post(url, json={"external_id": "caller"}, headers=list(headers), timeout=10)
        if answer.is_success:
            return "OK", ""
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        return "UNAUTHENTICATED", answer.json()["message"]


@pytest.fixture(params=["grpc", "http"])
def caller(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[Caller]:
    opened = Caller(deployment, by_grpc=request.param == "grpc")
    yield opened
    opened.close()


def with_another_secret(key: str) -> str:
    return encode(body(key)[:24] + secrets.token_bytes(24))


def of_an_unknown_id(key: str) -> str:
    return encode(body(key)[:16] + secrets.token_bytes(8) + body(key)[24:])


def of_the_stranger(key: str, stranger: str) -> str:
    """Returns a key that claims another organization with a secret of its own."""
    return encode(body(stranger)[:24] + body(key)[24:])


def body(key: str) -> bytes:
    decoded = decode(key)
    assert decoded is not None
    return decoded


def without_checksum(deployment: Deployment) -> str:
    """Makes a key as they were made before keys had a checksum."""
    with psycopg.connect(deployment.conninfo, autocommit=True) as connection:
        key_id, key = administration.create_key(connection, deployment.tenant.name, "old", None)
        old = "sk_" + urlsafe_b64encode(body(key)).decode()
        connection.execute("UPDATE api_keys SET digest = %s WHERE key_id = %s", (digest(old), key_id))
    return old


def revoked(deployment: Deployment) -> str:
    with psycopg.connect(deployment.conninfo, autocommit=True) as connection:
        key_id, key = administration.create_key(connection, deployment.tenant.name, "revoked", None)
        administration.revoke_key(connection, key_id)
    return key


def expired(deployment: Deployment) -> str:
    with psycopg.connect(deployment.conninfo, autocommit=True) as connection:
        key_id, key = administration.create_key(connection, deployment.tenant.name, "expired", None)
        connection.execute("UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE key_id = %s", (key_id,))
    return key


def test_every_unusable_key_gets_one_and_the_same_answer(caller: Caller, deployment: Deployment) -> None:
    key = deployment.tenant.key
    headers: dict[str, Headers] = {
        "absent": [],
        "empty": [("x-api-key", "")],
        "malformed": [("x-api-key", "nonsense")],
        "too short": [("x-api-key", key[:-1])],
        "too long": [("x-api-key", f"{key}A")],
        "in other letters": [("x-api-key", key.swapcase())],
        "with a wrong checksum": [("x-api-key", key[:-6] + "000000")],
        "without its checksum": [("x-api-key", "sk_" + urlsafe_b64encode(body(key)).decode())],
        "of an unknown id": [("x-api-key", of_an_unknown_id(key))],
        "of an unknown organization": [("x-api-key", encode(bytes(48)))],
        "of another organization": [("x-api-key", of_the_stranger(key, deployment.stranger.key))],
        "with another secret": [("x-api-key", with_another_secret(key))],
        "revoked": [("x-api-key", revoked(deployment))],
        "expired": [("x-api-key", expired(deployment))],
        "of another scheme": [("authorization", f"Basic {key}")],
        "without a scheme": [("authorization", key)],
        "without a key": [("authorization", "Bearer")],
        "bearer of nonsense": [("authorization", "Bearer nonsense")],
        "bad beside a good one": [("x-api-key", with_another_secret(key)), ("authorization", f"Bearer {key}")],
    }
    answers = {name: caller.call(sent) for name, sent in headers.items()}
    assert answers == dict.fromkeys(headers, ("UNAUTHENTICATED", Unauthenticated().message))


def test_a_key_from_before_keys_had_a_checksum_works(caller: Caller, deployment: Deployment) -> None:
    assert caller.call([("x-api-key", without_checksum(deployment))]) == ("OK", "")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "BeArEr"])
def test_a_key_is_accepted_as_a_bearer_in_any_case(caller: Caller, deployment: Deployment, scheme: str) -> None:
    assert caller.call([("authorization", f"{scheme} {deployment.tenant.key}")]) == ("OK", "")


def test_a_key_is_accepted_in_both_headers(caller: Caller, deployment: Deployment) -> None:
    key = deployment.tenant.key
    assert caller.call([("x-api-key", key), ("authorization", f"Bearer {key}")]) == ("OK", "")


def test_x_api_key_counts_where_the_headers_differ(caller: Caller, deployment: Deployment) -> None:
    assert caller.call([("x-api-key", deployment.tenant.key), ("authorization", "Bearer nonsense")]) == ("OK", "")


def test_an_unauthenticated_answer_says_why_for_machines(deployment: Deployment) -> None:
    with grpc.insecure_channel(deployment.service.grpc_address) as channel, pytest.raises(grpc.RpcError) as error:
        ParticipantServiceStub(channel).GetParticipant(messages.GetParticipantRequest(), timeout=10)
    trailers: Any = error.value.trailing_metadata()
    status = status_pb2.Status.FromString(dict(trailers)["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("API_KEY_INVALID", "participants.v1")


def test_a_key_that_is_revoked_stops_working_within_ten_seconds(deployment: Deployment) -> None:
    variables = environment(DATABASE_URL=deployment.conninfo)
    service = deployment.service
    key = run("keys", "create", "--organization", deployment.tenant.name, env=variables).stdout.strip()
    clients: list[Client] = [GrpcClient(service.grpc_address, key), HttpClient(service.http_url, key)]
    assert [client.create({"external_id": "one"}).code for client in clients] == ["OK", "OK"]

    with psycopg.connect(deployment.conninfo) as connection:
        (key_id,) = connection.execute("SELECT key_id FROM api_keys ORDER BY created_at DESC").fetchone() or ("",)
    assert run("keys", "revoke", key_id, env=variables).returncode == 0
    # Calls go on all the while: a key in use must not be kept for being in use.
    eventually(
        lambda: {client.create({"external_id": "one"}).code for client in clients} == {"UNAUTHENTICATED"}, timeout=10
    )
    for client in clients:
        client.close()


def test_a_rotated_key_and_the_one_that_follows_both_work_until_the_overlap_ends(deployment: Deployment) -> None:
    service = deployment.service
    with psycopg.connect(deployment.conninfo, autocommit=True) as connection:
        key_id, old = administration.create_key(connection, deployment.tenant.name, "rotated", None)
        client = GrpcClient(service.grpc_address, old)
        assert client.create({"external_id": "rotated"}).code == "OK"
        new = administration.rotate_key(connection, key_id, timedelta(hours=1)).key
        assert [client.create({"external_id": "rotated"}, key).code for key in (old, new)] == ["OK", "OK"]
        administration.rotate_key(connection, key_id, timedelta(0))
        eventually(lambda: client.create({"external_id": "rotated"}).code == "UNAUTHENTICATED", timeout=10)
        assert client.create({"external_id": "rotated"}, new).code == "OK"
    client.close()


def test_keys_list_tells_when_a_key_was_last_used(database: str) -> None:
    with deployed(database) as running:
        client = GrpcClient(running.service.grpc_address, running.tenant.key)
        assert client.create({"external_id": "one"}).code == "OK"
        client.close()
    # What was not written yet is written when the service stops.
    listed = run("keys", "list", "--json", env=environment(DATABASE_URL=database)).stdout
    used = {row["organization"]: row["last_used_at"] for row in json.loads(listed)}
    assert used["globex"] is None
    assert abs(datetime.now(UTC) - datetime.fromisoformat(used["acme"])) < timedelta(minutes=1)


def test_health_and_reflection_need_no_key(deployment: Deployment) -> None:
    with grpc.insecure_channel(deployment.service.grpc_address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        (listed,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(requests, timeout=10)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert "participants.v1.ParticipantService" in {each.name for each in listed.list_services_response.service}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_probes_and_metrics_need_no_key(deployment: Deployment, path: str) -> None:
    assert loopback.get(f"{deployment.service.http_url}{path}", timeout=10).status_code == 200


def test_no_key_is_in_the_log_or_in_the_database(caller: Caller, deployment: Deployment) -> None:
    good, bad = deployment.tenant.key, with_another_secret(deployment.tenant.key)
    for key in (good, bad):
        caller.call([("x-api-key", key)])
        caller.call([("authorization", f"Bearer {key}")])
    written = deployment.service.output + deployment.service.errors + database_dump(deployment.conninfo)
    assert "caller" in written
    for key in (good, bad):
        assert key not in written
        assert key.removeprefix("sk_")[-32:] not in written


@contextmanager
def keys_locked(conninfo: str) -> Iterator[None]:
    """Keeps everybody from reading the keys."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        yield


def test_warm_calls_look_no_key_up(client: Client, deployment: Deployment) -> None:
    assert client.create({"external_id": "warm"}).code == "OK"
    with keys_locked(deployment.conninfo):
        assert {client.create({"external_id": "warm"}).code for _ in range(50)} == {"OK"}


def test_a_key_that_cannot_be_looked_up_now_is_no_fault_of_the_caller(client: Client, deployment: Deployment) -> None:
    unknown = of_an_unknown_id(deployment.tenant.key)
    with keys_locked(deployment.conninfo):
        reply = client.create({"external_id": "cold"}, unknown)
    assert reply.code == "UNAVAILABLE"
    assert reply.retry_after is not None


def database_dump(conninfo: str) -> str:
    """Returns all rows of all tables as text."""
    with psycopg.connect(conninfo) as connection:
        tables = connection.execute(
            "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        rows = [connection.execute(f"SELECT t::text FROM {name} AS t".encode()).fetchall() for (name,) in tables]
    return "\n".join(text for table in rows for (text,) in table)
