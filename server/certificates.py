"""What the files for TLS hold, which are changed now and then while the service runs, and what the certificate says."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from server.config import ConfigurationError, TlsFiles

logger = logging.getLogger(__name__)

# How often the files are looked at, in seconds.
RENEW_EVERY = 2.0
# OpenSSL's X509_V_FLAG_NO_CHECK_TIME, for which Python has no name: a certificate that has ended can be read, too.
_ALSO_EXPIRED = ssl.VerifyFlags(0x200000)


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

    def ends(self) -> float:
        """Returns when the certificate in use ends, in seconds since the epoch; 0 where no caller could verify it."""
        ends = _shown(self.context, self.pem).get("notAfter")
        return ssl.cert_time_to_seconds(ends) if ends else 0.0

    def name(self) -> str | None:
        """Returns a host name or an IP address that the certificate in use is for, or None where it has none."""
        names = _shown(self.context, self.pem).get("subjectAltName", ())
        found = next((value for kind, value in names if kind in {"DNS", "IP Address"}), None)
        return found and found.replace("*", "any", 1)

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


@lru_cache(maxsize=1)
def _shown(context: ssl.SSLContext, pem: Pem) -> Mapping[str, Any]:
    """Returns the fields of the certificate that a context shows to callers, as `SSLSocket.getpeercert` has them; none
    where no caller could verify it.

    Python tells them of a peer's certificate alone, so a peer that trusts this very one is shown it, in memory. With
    TLS 1.3 it need show none itself before it has seen that.
    """
    caller = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    caller.minimum_version = ssl.TLSVersion.TLSv1_3
    caller.check_hostname = False
    caller.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _ALSO_EXPIRED
    to_service, to_caller = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        caller.load_verify_locations(cadata=pem.certificate.decode("ascii", "ignore"))
        asking = caller.wrap_bio(to_caller, to_service)
        answering = context.wrap_bio(to_service, to_caller, server_side=True)
        for side in (asking, answering, asking):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
        return asking.getpeercert() or {}
    except ssl.SSLError as error:
        logger.warning("callers cannot verify the TLS certificate: %s", error)
        return {}


def _no_password() -> str:
    # Without this, OpenSSL would ask on the terminal.
    raise OSError("the key is encrypted")


def _reason(error: OSError) -> str:
    return (
        f"{error.filename}: {error.strerror}"
        if isinstance(error.filename, Path | str)
        else str(error.strerror or error)
    )
