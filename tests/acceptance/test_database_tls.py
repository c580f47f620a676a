"""A database that is reached over TLS, as deploy/README.md has it connected to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from psycopg.conninfo import make_conninfo

from tests.conftest import new_tenant
from tests.support.manifests import DEPLOY
from tests.support.postgres_tls import behind_tls
from tests.support.process import environment, refusal, run

# Where the image's base has the certificates of the authorities that the world trusts.
SYSTEM_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
DOCKERFILE = (DEPLOY.parent / "Dockerfile").read_text()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def url(database: str, authority: trustme.CA) -> Iterator[str]:
    """How to connect, with the parameters that deploy/README.md gives the URLs in the secrets."""
    new_tenant(database, "acme")
    parameters = set(re.findall(r"\?sslmode=([\w-]+)&sslrootcert=(\w+)'", (DEPLOY / "README.md").read_text()))
    [(mode, certificates)] = parameters
    with behind_tls(database, authority.issue_cert("localhost")) as conninfo:
        yield make_conninfo(conninfo, sslmode=mode, sslrootcert=certificates)


def keys_listed(url: str, variables: list[str], certificates: Path) -> bool:
    """Lists keys as a process does for which these variables, and no others, say where certificates are."""
    env = environment(DATABASE_URL=url)
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        env.pop(variable, None)
    listed = run("keys", "list", "--organization", "acme", env={**env, **dict.fromkeys(variables, str(certificates))})
    if listed.returncode:
        assert "certificate verify failed" in refusal(listed)
    return listed.returncode == 0


def test_the_image_knows_whom_the_system_trusts(url: str, authority: trustme.CA, tmp_path: Path) -> None:
    # In the image, what the system trusts is at another place than where the driver's own OpenSSL looks.
    variables = re.findall(rf"(\w+)={SYSTEM_CERTIFICATES}", DOCKERFILE)
    trusted, others = tmp_path / "trusted.crt", tmp_path / "others.crt"
    authority.cert_pem.write_to_path(trusted)
    trustme.CA().cert_pem.write_to_path(others)
    assert keys_listed(url, variables, trusted)
    assert not keys_listed(url, variables, others)


def test_an_authority_of_the_provider_is_a_file_beside_the_url(url: str, authority: trustme.CA, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    authority.cert_pem.write_to_path(file)
    assert keys_listed(make_conninfo(url, sslrootcert=str(file)), [], file)
