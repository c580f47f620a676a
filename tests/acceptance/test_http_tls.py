"""TLS on the HTTP port: encrypted, mutual where it is asked for, and renewed without a restart."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import trustme

from tests.conftest import deployed
from tests.support import loopback
from tests.support.process import Service, environment, eventually, refusal, run
from tests.support.tls import Files, replace

Databases = Callable[[], AbstractContextManager[str]]


def trusting(authority: trustme.CA, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    if client is not None:
        client.configure_cert(context)
    return context


def livez(service: Service, context: ssl.SSLContext) -> int:
    """Asks over a new connection."""
    port = service.http_url.rpartition(":")[2]
    return httpx.get(f"https://localhost:{port}/livez", verify=context).status_code


def is_refused(service: Service, context: ssl.SSLContext) -> bool:
    try:
        livez(service, context)
    except httpx.TransportError:
        return True
    return False


def test_new_certificates_are_used_without_a_restart(new_database: Databases, tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    files = Files(tmp_path, old)
    with new_database() as conninfo, deployed(conninfo, **files.variables) as running:
        service = running.service
        port = service.http_url.rpartition(":")[2]
        # Without TLS nobody is answered.
        with pytest.raises(httpx.TransportError):
            loopback.get(f"{service.http_url}/livez")
        with httpx.Client(verify=trusting(old)) as kept:
            assert kept.get(f"https://localhost:{port}/livez").status_code == 200
            assert is_refused(service, trusting(new))
            files.write(new.issue_cert("localhost"))
            eventually(lambda: not is_refused(service, trusting(new)))
            assert is_refused(service, trusting(old))
            # What was connected stays so.
            assert kept.get(f"https://localhost:{port}/livez").status_code == 200
        files.key.write_text("not a key")
        eventually(lambda: "cannot be used" in service.errors)
        assert livez(service, trusting(new)) == 200


def test_the_end_that_is_shown_is_that_of_the_certificate_in_use(new_database: Databases, tmp_path: Path) -> None:
    authority = trustme.CA()
    files = Files(tmp_path, authority)
    old, new = (authority.issue_cert("localhost", not_after=datetime(year, 1, 1, tzinfo=UTC)) for year in (2050, 2051))
    files.write(old)
    with new_database() as conninfo, deployed(conninfo, **files.variables) as running:
        # Renewed by half: the key does not fit.
        replace(files.certificate, new.cert_chain_pems)
        eventually(lambda: "cannot be used" in running.service.errors)
        assert shown_end(running.service, authority) == datetime(2050, 1, 1, tzinfo=UTC)
        files.write(new)
        eventually(lambda: shown_end(running.service, authority) == datetime(2051, 1, 1, tzinfo=UTC))


def shown_end(service: Service, authority: trustme.CA) -> datetime:
    url = f"https://localhost:{service.http_url.rpartition(':')[2]}/metrics"
    shown = httpx.get(url, verify=trusting(authority)).text
    [ends] = re.findall(r"^participants_certificate_expiry_timestamp_seconds (\S+)$", shown, re.MULTILINE)
    return datetime.fromtimestamp(float(ends), UTC)


def test_with_a_client_authority_callers_show_a_certificate(new_database: Databases, tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    files = Files(tmp_path, authority, callers=[authority])
    with new_database() as conninfo, deployed(conninfo, **files.variables) as running:
        assert livez(running.service, trusting(authority, authority.issue_cert("caller"))) == 200
        assert is_refused(running.service, trusting(authority))
        assert is_refused(running.service, trusting(authority, stranger.issue_cert("caller")))


def test_files_that_cannot_be_used_are_told_in_one_line(new_database: Databases, tmp_path: Path) -> None:
    files = Files(tmp_path, trustme.CA())
    with new_database() as conninfo:
        env = environment(
            DATABASE_URL=conninfo,
            PARTICIPANTS_GRPC_ADDRESS="127.0.0.1:0",
            PARTICIPANTS_HTTP_ADDRESS="127.0.0.1:0",
            **files.variables,
        )
        lone = {name: value for name, value in env.items() if name != "PARTICIPANTS_TLS_KEY_FILE"}
        assert "PARTICIPANTS_TLS_KEY_FILE" in refusal(run("serve", env=lone))
        assert "there is no file" in refusal(run("serve", env={**env, "PARTICIPANTS_TLS_KEY_FILE": "/nowhere"}))
        files.key.write_text("not a key")
        assert "cannot be used" in refusal(run("serve", env=env))
