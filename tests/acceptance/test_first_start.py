"""A first start on the embedded database, and what becomes of it when it is stopped, killed and started again."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from server.api.stopping import GRACE
from server.auth.keys import new_key, reference
from server.config import DEVELOPMENT_KEY_FILE
from tests.support.clients import Client, GrpcClient, HttpClient
from tests.support.process import Service, environment, refusal, run
from tests.support.seed import Seed, own_directory

Start = Callable[[], Service]


@pytest.fixture
def start(data_directory: Path) -> Iterator[Start]:
    """Starts services in the test's data directory, and stops them in the end."""
    with ExitStack() as stack:

        def started() -> Service:
            service = Service(environment(PARTICIPANTS_DATA_DIR=str(data_directory)))
            stack.callback(service.stop)
            return service

        yield started


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Service, Path]]:
    """A service that the tests share which leave it as it is, and its data directory."""
    with own_directory() as directory:
        service = Service(environment(PARTICIPANTS_DATA_DIR=str(directory)))
        yield service, directory
        assert service.stop() == 0


def printed_line(service: Service, command: str) -> str:
    """Returns the line for a command that a first start prints."""
    return service.wait_for_output(rf"(?m)^(\S*\b{command} .+)\n")[1]


def development_key(service: Service) -> str:
    return service.wait_for_output(r"x-api-key: (sk_\S+)'")[1]


def pasted(line: str) -> str:
    """Runs a line as a terminal does, and returns what it prints."""
    completed = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=20, check=False)
    assert completed.returncode == 0, completed
    return completed.stdout


def postgres_is_running(data_directory: Path) -> bool:
    # Postgres removes the file when it has shut down in order.
    return (data_directory / "postgres" / "postmaster.pid").exists()


@pytest.fixture
def unused(running: tuple[Service, Path]) -> Service:
    """The service that the tests share, without the participant of the lines that it prints."""
    service, _ = running
    client = GrpcClient(service.grpc_address, development_key(service))
    found = client.lookup("user_abc123")
    if found.code == "OK":
        assert client.delete(found.participant["id"]).code == "OK"
    client.close()
    return service


def test_the_printed_grpcurl_line_creates_and_then_updates_only_what_changed(unused: Service) -> None:
    line = printed_line(unused, "grpcurl")
    results = [json.loads(pasted(sent))["result"] for sent in (line, line, line.replace("Jane Doe", "Jane Roe"))]
    assert results == ["CREATED", "UNCHANGED", "UPDATED"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_printed_curl_line_creates_and_then_updates_only_what_changed(unused: Service) -> None:
    line = printed_line(unused, "curl")
    answers = [pasted(sent).splitlines() for sent in (line, line, line.replace("Jane Doe", "Jane Roe"))]
    assert [answer[0].split()[1] for answer in answers] == ["201", "200", "200"]
    created, unchanged, updated = (json.loads(answer[-1]) for answer in answers)
    assert unchanged == created
    assert (updated["id"], updated["display_name"]) == (created["id"], "Jane Roe")
    assert updated["updated_at"] > created["updated_at"]


def test_an_interrupt_stops_the_service_and_its_postgres_at_once(
    seed: Seed, start: Start, data_directory: Path
) -> None:
    seed.plant(data_directory)
    service = start()
    key = development_key(service)
    with ExitStack() as stack:
        # Callers that keep their connections open must not delay it.
        clients: list[Client] = [GrpcClient(service.grpc_address, key), HttpClient(service.http_url, key)]
        for client in clients:
            stack.callback(client.close)
        assert [client.create({"external_id": client.name}).result for client in clients] == ["CREATED", "CREATED"]
        assert postgres_is_running(data_directory)

        interrupted = time.monotonic()
        status = service.stop()
        # Less than it would wait for calls under way, and enough for a busy machine.
        assert time.monotonic() - interrupted < GRACE
    assert status == 0
    assert "Traceback" not in service.errors
    assert not postgres_is_running(data_directory)


def test_the_next_start_is_quick_and_has_the_same_key_and_data(seed: Seed, start: Start, data_directory: Path) -> None:
    seed.plant(data_directory)
    first = start()
    key, line = development_key(first), printed_line(first, "grpcurl")
    assert json.loads(pasted(line))["result"] == "CREATED"
    assert first.stop() == 0

    started = time.monotonic()
    second = start()
    # Enough for a busy machine; alone it is 0.5 s.
    assert time.monotonic() - started < 15.0
    assert development_key(second) == key
    assert json.loads(pasted(printed_line(second, "grpcurl")))["result"] == "UNCHANGED"


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(new_key(str(uuid4()))[1], id="of a database that was removed"),
        pytest.param("", id="cut off by a crash"),
    ],
)
def test_a_kept_key_that_does_not_work_is_replaced(seed: Seed, start: Start, data_directory: Path, kept: str) -> None:
    seed.plant(data_directory)
    file = data_directory / DEVELOPMENT_KEY_FILE
    file.write_text(kept)
    assert works(start())
    assert file.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in data_directory.iterdir()} == {file.name, "postgres"}


def test_a_development_key_that_was_revoked_is_replaced(seed: Seed, start: Start, data_directory: Path) -> None:
    seed.plant(data_directory)
    first = start()
    reference_ = reference(development_key(first))
    assert reference_ is not None
    revoked = run("keys", "revoke", reference_.key_id, env=environment(PARTICIPANTS_DATA_DIR=str(data_directory)))
    assert revoked.returncode == 0, revoked
    first.stop()
    assert works(start())


def works(service: Service) -> bool:
    """Tells whether the service takes the key that it prints."""
    client = GrpcClient(service.grpc_address, development_key(service))
    code = client.create({"external_id": "user_abc123"}).code
    client.close()
    return code == "OK"


@pytest.mark.parametrize("client", ["GRPC", "HTTP"])
def test_a_second_serve_on_a_used_port_is_refused_and_the_first_goes_on(
    running: tuple[Service, Path], client: str
) -> None:
    first, data_directory = running
    used = {"GRPC": first.grpc_address, "HTTP": first.http_url.removeprefix("http://")}[client]
    free = {"PARTICIPANTS_GRPC_ADDRESS": "127.0.0.1:0", "PARTICIPANTS_HTTP_ADDRESS": "127.0.0.1:0"}
    second = {**free, f"PARTICIPANTS_{client}_ADDRESS": used, "PARTICIPANTS_DATA_DIR": str(data_directory)}

    line = refusal(run("serve", env=environment(**second)))
    assert used in line
    assert "in use" in line
    assert f"PARTICIPANTS_{client}_ADDRESS" in line
    assert json.loads(pasted(printed_line(first, "grpcurl")))["result"] in {"CREATED", "UPDATED", "UNCHANGED"}


def test_a_killed_service_keeps_what_it_acknowledged_and_the_next_start_stops_its_postgres(
    seed: Seed, start: Start, data_directory: Path
) -> None:
    seed.plant(data_directory)
    killed = start()
    client = GrpcClient(killed.grpc_address, development_key(killed))
    acknowledged: list[str] = []
    enough = threading.Event()

    def write_until_it_fails() -> None:
        while True:
            reply = client.create({"external_id": str(uuid4())})
            if reply.code != "OK":
                return
            acknowledged.append(reply.participant["id"])
            if len(acknowledged) == 50:
                enough.set()

    writer = threading.Thread(target=write_until_it_fails)
    writer.start()
    assert enough.wait(20)
    killed.kill()
    writer.join()
    client.close()
    assert postgres_is_running(data_directory)

    service = start()
    client = GrpcClient(service.grpc_address, development_key(service))
    assert {client.get(participant_id).code for participant_id in acknowledged} == {"OK"}
    client.close()
    assert service.stop() == 0
    assert not postgres_is_running(data_directory)
