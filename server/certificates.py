"""What the files for TLS hold, which are changed now and then while the service runs."""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from server.config import ConfigurationError, TlsFiles

logger = logging.getLogger(__name__)

# How often the files are looked at, in seconds.
RENEW_EVERY = 2.0


@dataclass(frozen=True, slots=True)
class Pem:
    """What the files hold. With `client_ca`, callers have to show a certificate that it has signed."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


class Certificates:
    """`pem` and `context` are what new connections are to use; they are replaced, and never changed.

    Raises ConfigurationError where the files cannot be used at first.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._problem: str | None = None
        try:
            self.pem = _read(files)
            self.context = _context(files, self.pem)
        except OSError as error:
            raise ConfigurationError(f"the TLS files cannot be used: {_reason(error)}") from None

    async def renew_forever(self) -> None:
        """Keeps up with the files."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            self.renew()

    def renew(self) -> None:
        """Takes over what the files hold now. Files that do not fit together, as while they are being replaced, are let
        be until they do."""
        try:
            pem = _read(self._files)
            if pem != self.pem:
                self.context = _context(self._files, pem)
                self.pem = pem
                logger.info("the TLS files have changed, and new connections use them")
            self._problem = None
        except OSError as error:
            problem = _reason(error)
            if problem != self._problem:
                logger.warning("the TLS files have changed and cannot be used: %s", problem)
            self._problem = problem


def _read(files: TlsFiles) -> Pem:
    client_ca = files.client_ca.read_bytes() if files.client_ca else None
    return Pem(files.certificate.read_bytes(), files.key.read_bytes(), client_ca)


def _context(files: TlsFiles, pem: Pem) -> ssl.SSLContext:
    """Returns a context with what was read from the files. Raises OSError where it cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.certificate, files.key, password=_no_password)
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    # OpenSSL takes a certificate and its key from files alone, so they are read twice.
    if _read(files) != pem:
        raise OSError("they are being replaced")
    return context


def _no_password() -> str:
    # Without this, OpenSSL would ask on the terminal.
    raise OSError("the key is encrypted")


def _reason(error: OSError) -> str:
    return (
        f"{error.filename}: {error.strerror}"
        if isinstance(error.filename, Path | str)
        else str(error.strerror or error)
    )
