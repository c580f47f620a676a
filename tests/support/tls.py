"""The files for TLS that a service is told to use, and certificates for those who call it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import trustme


def replace(path: Path, blobs: Sequence[trustme.Blob]) -> None:
    """Writes a file at once, as Kubernetes and cert-manager do."""
    new = path.with_suffix(".new")
    new.write_bytes(joined(blobs))
    new.replace(path)


def joined(blobs: Sequence[trustme.Blob]) -> bytes:
    return b"".join(blob.bytes() for blob in blobs)


class Files:
    """A certificate for localhost, its key and, where callers are to show certificates, whom the service trusts."""

    def __init__(self, directory: Path, authority: trustme.CA, callers: Sequence[trustme.CA] = ()) -> None:
        self.certificate, self.key = directory / "tls.crt", directory / "tls.key"
        self.variables = {
            "PARTICIPANTS_TLS_CERT_FILE": str(self.certificate),
            "PARTICIPANTS_TLS_KEY_FILE": str(self.key),
        }
        if callers:
            replace(directory / "callers.crt", [caller.cert_pem for caller in callers])
            self.variables["PARTICIPANTS_TLS_CLIENT_CA_FILE"] = str(directory / "callers.crt")
        self.write(authority.issue_cert("localhost"))

    def write(self, issued: trustme.LeafCert) -> None:
        replace(self.certificate, issued.cert_chain_pems)
        replace(self.key, [issued.private_key_pem])
