"""What is told of the certificate in use, whatever its files hold meanwhile."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from server.certificates import Certificates
from server.config import TlsFiles
from tests.support.tls import Files

PAST, SOON, LATER = (datetime(year, 1, 2, 3, 4, 5, tzinfo=UTC) for year in (2020, 2050, 2051))


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def used(files: Files, client_ca: Path | None = None) -> Certificates:
    return Certificates(TlsFiles(files.certificate, files.key, client_ca))


def test_the_end_is_that_of_the_certificate_in_use(authority: trustme.CA, tmp_path: Path) -> None:
    files = Files(tmp_path, authority)
    files.write(authority.issue_cert("localhost", not_after=SOON))
    certificates = used(files)
    old_key = files.key.read_bytes()
    files.write(authority.issue_cert("localhost", not_after=LATER))
    new_key = files.key.read_bytes()
    files.key.write_bytes(old_key)
    certificates.renew()
    assert certificates.ends() == SOON.timestamp()
    files.key.write_bytes(new_key)
    certificates.renew()
    assert certificates.ends() == LATER.timestamp()


def test_the_end_of_one_that_has_ended(authority: trustme.CA, tmp_path: Path) -> None:
    files = Files(tmp_path, authority)
    files.write(authority.issue_cert("localhost", not_after=PAST))
    assert used(files).ends() == PAST.timestamp()


def test_the_end_where_callers_have_to_show_one_too(authority: trustme.CA, tmp_path: Path) -> None:
    files = Files(tmp_path, authority, callers=[trustme.CA()])
    files.write(authority.issue_cert("localhost", not_after=SOON))
    assert used(files, tmp_path / "callers.crt").ends() == SOON.timestamp()


@pytest.mark.parametrize(
    ("identities", "name"),
    [
        (["a.example.com", "b.example.com"], "a.example.com"),
        (["*.example.com"], "any.example.com"),
        (["127.0.0.1"], "127.0.0.1"),
    ],
)
def test_the_name(authority: trustme.CA, tmp_path: Path, identities: list[str], name: str) -> None:
    files = Files(tmp_path, authority)
    files.write(authority.issue_cert(*identities))
    assert used(files).name() == name


def test_what_no_caller_can_verify_is_told_and_counts_as_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is for callers alone to show."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, PAST, LATER)
    extension = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = builder.add_extension(extension, critical=True).sign(key, hashes.SHA256())
    files = TlsFiles(tmp_path / "tls.crt", tmp_path / "tls.key", None)
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    certificates = Certificates(files)
    with caplog.at_level(logging.WARNING):
        assert certificates.ends() == 0
        assert certificates.name() is None
    assert len(caplog.records) == 1
