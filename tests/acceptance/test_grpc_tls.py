"""TLS on the gRPC port: encrypted, mutual where it is asked for, renewed without a restart; commands that use it."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.conftest import Deployment, deployed
from tests.support.process import Service, environment, eventually, refusal, run
from tests.support.seed import Seed
from tests.support.tls import Files, joined, replace

Databases = Callable[[], AbstractContextManager[str]]

# Between the calls of a load, in seconds.
PAUSE = 0.01


def connect(service: Service, trusted: bytes, client: trustme.LeafCert | None = None) -> grpc.Channel:
    """Opens a channel with a connection of its own."""
    shown = (client.private_key_pem.bytes(), joined(client.cert_chain_pems)) if client else (None, None)
    options = [("grpc.use_local_subchannel_pool", 1)]
    address = f"localhost:{service.grpc_address.rpartition(':')[2]}"
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted, *shown), options)


def ask(channel: grpc.Channel) -> str:
    """Returns OK, or the code that a call fails with."""
    try:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def ask_anew(service: Service, authority: trustme.CA, client: trustme.LeafCert | None = None) -> str:
    with connect(service, authority.cert_pem.bytes(), client) as channel:
        return ask(channel)


class Load:
    """Calls over a connection that is kept, and over new ones, until it is left; `failed` has the codes of failures."""

    def __init__(self, service: Service, trusted: bytes) -> None:
        self._service, self._trusted = service, trusted
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._keep, self._renew)]
        self.kept = self.renewed = 0
        self.failed: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _keep(self) -> None:
        with connect(self._service, self._trusted) as channel:
            # That they go on matters, and not how fast.
            while not self._stop.wait(PAUSE):
                self._note(ask(channel))
                self.kept += 1

    def _renew(self) -> None:
        while not self._stop.wait(PAUSE):
            with connect(self._service, self._trusted) as channel:
                self._note(ask(channel))
            self.renewed += 1

    def _note(self, code: str) -> None:
        if code != "OK":
            self.failed.append(code)


def test_new_certificates_are_used_without_a_restart_and_no_call_fails(new_database: Databases, tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    files, issued = Files(tmp_path, old), new.issue_cert("localhost")
    both = joined([old.cert_pem, new.cert_pem])
    with new_database() as conninfo, deployed(conninfo, **files.variables) as running:
        service = running.service
        with Load(service, both) as load:
            assert (ask_anew(service, old), ask_anew(service, new)) == ("OK", "UNAVAILABLE")
            # The certificate is there and its key is not yet: the old pair is served on.
            replace(files.certificate, issued.cert_chain_pems)
            eventually(lambda: "cannot be used" in service.errors)
            assert ask_anew(service, old) == "OK"
            replace(files.key, [issued.private_key_pem])
            eventually(lambda: ask_anew(service, new) == "OK")
            # Whichever of the servers that share the port has the connection.
            assert {ask_anew(service, old) for _ in range(32)} == {"UNAVAILABLE"}
            kept, renewed = load.kept, load.renewed
            eventually(lambda: load.kept > kept and load.renewed > renewed)
        assert load.failed == []
        with grpc.insecure_channel(service.grpc_address) as channel:
            assert ask(channel) == "UNAVAILABLE"


@dataclass
class Mutual:
    """A service that has callers show certificates, of one authority for the service and one for the callers."""

    running: Deployment
    files: Files
    authority: trustme.CA
    callers: trustme.CA

    def environment(self, **variables: str) -> dict[str, str]:
        return environment(PARTICIPANTS_GRPC_ADDRESS=self.running.service.grpc_address, **variables)


@pytest.fixture(scope="module")
def mutual(new_database: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mutual]:
    authority, callers = trustme.CA(), trustme.CA()
    files = Files(tmp_path_factory.mktemp("tls"), authority, callers=[authority, callers])
    with new_database() as conninfo, deployed(conninfo, **files.variables) as running:
        yield Mutual(running, files, authority, callers)


def test_callers_show_a_certificate_that_is_trusted_and_current(mutual: Mutual) -> None:
    service, authority, callers = mutual.running.service, mutual.authority, mutual.callers
    expired = callers.issue_cert("caller", not_after=datetime.now(UTC) - timedelta(minutes=1))
    assert ask_anew(service, authority, callers.issue_cert("caller")) == "OK"
    assert ask_anew(service, authority) == "UNAVAILABLE"
    assert ask_anew(service, authority, expired) == "UNAVAILABLE"
    assert ask_anew(service, authority, trustme.CA().issue_cert("caller")) == "UNAVAILABLE"


class TestCommands:
    def caller(self, mutual: Mutual, client: trustme.LeafCert, directory: Path) -> Mapping[str, str]:
        """Returns the variables of a caller from elsewhere, with a certificate of its own."""
        replace(directory / "caller.crt", client.cert_chain_pems)
        replace(directory / "caller.key", [client.private_key_pem])
        replace(directory / "ca.crt", [mutual.authority.cert_pem])
        return {
            "PARTICIPANTS_TLS_CERT_FILE": str(directory / "caller.crt"),
            "PARTICIPANTS_TLS_KEY_FILE": str(directory / "caller.key"),
            "PARTICIPANTS_TLS_CA_FILE": str(directory / "ca.crt"),
            "PARTICIPANTS_GRPC_ADDRESS": f"localhost:{mutual.running.service.grpc_address.rpartition(':')[2]}",
        }

    def test_the_health_probe_has_the_variables_of_the_service(self, mutual: Mutual) -> None:
        answer = run("health", env=mutual.environment(**mutual.files.variables))
        assert (answer.returncode, answer.stdout) == (0, "SERVING\n"), answer

    def test_a_probe_whose_certificate_is_not_accepted_says_so(self, mutual: Mutual, tmp_path: Path) -> None:
        stranger = self.caller(mutual, trustme.CA().issue_cert("stranger"), tmp_path)
        assert "does not accept the certificate" in refusal(run("health", env=environment(**stranger)))
        assert "if it has TLS" in refusal(run("health", env=mutual.environment()))
        lost = {"PARTICIPANTS_TLS_CA_FILE": str(mutual.files.certificate.with_name("callers.crt"))}
        assert "for another name" in refusal(run("health", env=mutual.environment(**lost)))
        lost = {"PARTICIPANTS_TLS_CA_FILE": stranger["PARTICIPANTS_TLS_CERT_FILE"]}
        assert "is not trusted" in refusal(run("health", env=mutual.environment(**lost)))

    def test_what_calls_the_service_may_do_so_from_elsewhere(self, mutual: Mutual, tmp_path: Path) -> None:
        variables = self.caller(mutual, mutual.callers.issue_cert("importer"), tmp_path)
        rows = tmp_path / "rows.jsonl"
        rows.write_text('{"external_id": "user_1"}\n')
        env = environment(PARTICIPANTS_API_KEY=mutual.running.tenant.key, **variables)
        assert "created 1," in run("import", str(rows), env=env).stdout
        assert "user_1" in run("list", env=env).stdout
        assert "user_1" in run("export", env=env).stdout
        without = {name: value for name, value in env.items() if "_TLS_" not in name}
        assert "PARTICIPANTS_TLS_CA_FILE" in refusal(run("import", str(rows), env=without))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_lines_that_a_first_start_prints_work_as_they_stand(
    seed: Seed, data_directory: Path, tmp_path: Path
) -> None:
    seed.plant(data_directory)
    authority = trustme.CA()
    files = Files(tmp_path, authority, callers=[authority])
    # No name that this machine has.
    files.write(authority.issue_cert("*.example.com"))
    service = Service(environment(PARTICIPANTS_DATA_DIR=str(data_directory), **files.variables))
    try:
        for command, answer in (("grpcurl", '"CREATED"'), ("curl", '"external_id":"user_abc123"')):
            line = service.wait_for_output(rf"(?m)^(\S*\b{command} .+)\n")[1]
            pasted = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=20, check=False)
            assert answer in pasted.stdout, pasted
        env = environment(PARTICIPANTS_GRPC_ADDRESS=service.grpc_address, **files.variables)
        assert run("health", env=env).stdout == "SERVING\n"
    finally:
        assert service.stop() == 0
