"""What a first start on the embedded database is given, so that there is something to call at once."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psycopg

from server.certificates import Certificates
from server.config import DEVELOPMENT_KEY_FILE, Address, TlsFiles
from server.postgres import administration
from server.postgres.administration import NameTaken
from server.postgres.session import connect

ORGANIZATION = "default"
PROGRAM = "demo"


def prepare(conninfo: str, data_directory: Path) -> str:
    """Makes the organization, the program and the key that are not there yet, and returns the key, which works.

    The database keeps only the key's digest, so the key itself is kept in the data directory, for its owner alone.
    """
    with connect(conninfo) as connection:
        administration.ensure_organization(connection, ORGANIZATION)
        with contextlib.suppress(NameTaken):
            administration.create_program(connection, ORGANIZATION, PROGRAM)
        return _key(connection, data_directory / DEVELOPMENT_KEY_FILE)


def _key(connection: psycopg.Connection[tuple[object, ...]], file: Path) -> str:
    key = file.read_text().strip() if file.exists() else ""
    # It may be of a database that was removed, or revoked.
    if not administration.is_active(connection, key):
        _, key = administration.create_key(connection, ORGANIZATION, "development", expires_at=None)
        _write(file, f"{key}\n")
    return key


def _write(file: Path, text: str) -> None:
    """Writes a file for its owner alone, as a whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    Path(temporary).replace(file)


def first_calls(key: str, grpc: Address, http: Address | None, tls: TlsFiles | None) -> str:
    """Returns a grpcurl and a curl line that work as they stand when pasted into another terminal."""
    # Here alone, for no other start prints them.
    from server.api.servicer import SERVICE  # noqa: PLC0415
    from server.gateway.routes import Routes  # noqa: PLC0415

    body = shlex.quote('{"external_id": "user_abc123", "display_name": "Jane Doe", "attributes": {"plan": "premium"}}')
    method = f"{SERVICE.full_name}/CreateParticipant"
    name = Certificates(tls).name() if tls else None
    security = _grpcurl_tls(tls, name) if tls else "-plaintext"
    lines = [f"{_grpcurl()} {security} -H 'x-api-key: {key}' -d {body} {grpc.reachable()} {method}"]
    if http is not None:
        url = f"http://{http.reachable()}" if tls is None else _curl_tls(tls, name, http.reachable())
        lines.append(
            f"curl -i -H 'X-API-Key: {key}' -H 'Content-Type: application/json' -d {body} "
            f"{url}{Routes(SERVICE).template('CreateParticipant')}"
        )
    return "\n\n".join(lines)


def _grpcurl_tls(tls: TlsFiles, name: str | None) -> str:
    options = {"-cacert": tls.certificate, "-authority": name}
    if tls.client_ca is not None:
        options |= {"-cert": tls.certificate, "-key": tls.key}
    return _joined(options)


def _curl_tls(tls: TlsFiles, name: str | None, address: Address) -> str:
    """Returns the options, and the URL as far as the path."""
    named = Address(name or address.host, address.port)
    options: dict[str, object] = {"--cacert": tls.certificate, "--connect-to": f"{named}:{address}"}
    if tls.client_ca is not None:
        options |= {"--cert": tls.certificate, "--key": tls.key}
    return f"{_joined(options)} https://{named}"


def _joined(options: Mapping[str, object]) -> str:
    return " ".join(f"{option} {shlex.quote(str(value))}" for option, value in options.items() if value is not None)


def _grpcurl() -> str:
    # Installed beside the service in a checkout, where it is on nobody's PATH.
    beside = Path(sys.executable).parent / "grpcurl"
    return "grpcurl" if shutil.which("grpcurl") or not beside.exists() else shlex.quote(str(beside))
