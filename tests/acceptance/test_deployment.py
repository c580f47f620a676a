"""What the rendered Deployment says, run as far as one can without a cluster: its commands, environment and probes."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import trustme
from cryptography import x509
from psycopg.conninfo import make_conninfo

from tests.conftest import fresh_database, new_tenant
from tests.support import loopback
from tests.support.clients import GrpcClient
from tests.support.manifests import environment_of, find, render
from tests.support.process import Service, environment, eventually, run

OWNER, SERVING = "participants_deployment_owner", "participants"


@pytest.fixture(scope="module")
def pod() -> Any:
    return find(render("base"), "Deployment")["spec"]["template"]["spec"]


@pytest.fixture
def urls(postgres: str) -> Iterator[dict[str, str]]:
    """An empty database, and how each of the secrets' roles connects to it."""
    with fresh_database(postgres, "participants_test_deployment") as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as admin:
            for role in (OWNER, SERVING):
                admin.execute(f"DROP ROLE IF EXISTS {role}".encode())
                admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'".encode())
            admin.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}".encode())
        yield {
            "participants-migrator": make_conninfo(conninfo, user=OWNER, password="secret"),
            "participants-database": make_conninfo(conninfo, user=SERVING, password="secret"),
        }
    with psycopg.connect(postgres, autocommit=True) as admin:
        for role in (OWNER, SERVING):
            admin.execute(f"DROP ROLE {role}".encode())


def mounted(pod: Any, container: Any, urls: dict[str, str], directory: Path) -> dict[str, str]:
    """Puts the secrets where the container has them, but below a directory, and returns its environment."""
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"]}
    variables = environment_of(container)
    for mount in container["volumeMounts"]:
        place = directory / mount["name"]
        place.mkdir()
        url = urls.get(secrets[mount["name"]])
        if url is not None:
            (place / "url").write_text(url)
        variables = {name: value.replace(mount["mountPath"], str(place)) for name, value in variables.items()}
    # Ports of the test's own, on loopback.
    loopback = {name: "127.0.0.1:0" for name in variables if name.endswith("_ADDRESS")}
    return environment(**{**variables, **loopback})


def operations_of(service: Service) -> str:
    """Returns where a service answers operators."""
    return service.wait_for_output(r"serving operators on (\S+)\n")[1]


def succeeds(probe: Any, address: str) -> bool:
    """Asks once, as the kubelet does; `address` is where the port that the probe names is."""
    try:
        answer = loopback.get(f"http://{address}{probe['httpGet']['path']}", timeout=probe["timeoutSeconds"])
    except httpx.HTTPError:
        return False
    return 200 <= answer.status_code < 400


def passes(probe: Any, address: str) -> bool:
    """Asks at the probe's period until it succeeds, or has failed as often as it may."""
    for _ in range(probe["failureThreshold"]):
        if succeeds(probe, address):
            return True
        time.sleep(probe["periodSeconds"])
    return False


def test_it_migrates_serves_and_stops(pod: Any, urls: dict[str, str], tmp_path: Path) -> None:
    [migration], [container] = pod["initContainers"], pod["containers"]
    migrated = run(*migration["args"], env=mounted(pod, migration, urls, tmp_path))
    assert migrated.returncode == 0, migrated.stderr
    assert container["args"] == ["serve"]
    # What is said of 40 seconds holds for two.
    drain = 2
    env = {**mounted(pod, container, urls, tmp_path), "PARTICIPANTS_DRAIN_SECONDS": str(drain)}
    margin = pod["terminationGracePeriodSeconds"] - int(environment_of(container)["PARTICIPANTS_DRAIN_SECONDS"])
    service = Service(env)
    try:
        readiness, liveness = container["readinessProbe"], container["livenessProbe"]
        operations = operations_of(service)
        assert passes(container["startupProbe"], operations)
        assert succeeds(readiness, operations)
        assert succeeds(liveness, operations)
        assert "grpc_server_handled_total" in loopback.get(f"http://{operations}/metrics").text
        assert loopback.get(f"{service.http_url}/metrics").status_code == 404
        tenant = new_tenant(urls["participants-migrator"], "acme")
        client = GrpcClient(service.grpc_address, tenant.key)
        assert client.create({"external_id": "first"}).result == "CREATED"

        # What the kubelet does, while endpoints are being withdrawn.
        service.signal(signal.SIGTERM)
        told = time.monotonic()
        eventually(lambda: not succeeds(readiness, operations))
        assert succeeds(liveness, operations)
        assert client.create({"external_id": "while draining"}).result == "CREATED"
        client.close()
        assert service.wait(timeout=drain + margin) == 0
        assert time.monotonic() - told >= drain
    finally:
        assert service.stop() == 0


def test_with_tls_the_probes_ask_the_port_without(urls: dict[str, str], tmp_path: Path) -> None:
    pod = find(render("overlays/example"), "Deployment")["spec"]["template"]["spec"]
    certificate = trustme.CA().issue_cert("participants.example.com")
    [migration], [container] = pod["initContainers"], pod["containers"]
    assert run(*migration["args"], env=mounted(pod, migration, urls, tmp_path)).returncode == 0
    env = mounted(pod, container, urls, tmp_path)
    # As cert-manager writes them.
    certificate.private_key_pem.write_to_path(tmp_path / "tls" / "tls.key")
    for part in certificate.cert_chain_pems:
        part.write_to_path(tmp_path / "tls" / "tls.crt", append=True)
    service = Service({**env, "PARTICIPANTS_DRAIN_SECONDS": "0"})
    try:
        operations = operations_of(service)
        assert all(
            succeeds(container[probe], operations) for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        )
        shown = loopback.get(f"http://{operations}/metrics").text
        [ends] = re.findall(r"^participants_certificate_expiry_timestamp_seconds (\S+)$", shown, re.MULTILINE)
        issued = x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes())
        assert float(ends) == issued.not_valid_after_utc.timestamp()
    finally:
        assert service.stop() == 0


def test_a_pod_whose_migration_did_not_run_says_so_in_its_last_line(
    pod: Any, urls: dict[str, str], tmp_path: Path
) -> None:
    [container] = pod["containers"]
    refused = run(*container["args"], env=mounted(pod, container, urls, tmp_path))
    # `kubectl describe pod` shows it, as terminationMessagePolicy has it.
    assert refused.returncode == 1
    assert "participants migrate" in refused.stderr.splitlines()[-1]
