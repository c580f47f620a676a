"""TLS on the HTTP port, from files that are changed now and then while the service runs."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from server.config import ConfigurationError, TlsFiles

logger = logging.getLogger(__name__)


class Certificates:
    """Makes TLS contexts of the files as they are now. Raises ConfigurationError where the first cannot be made."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._versions = _versions(files)
        try:
            self.context = _context(files)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"the TLS files cannot be used: {_reason(error)}") from None

    def renew(self) -> bool:
        """Tells whether the files have changed, and then `context` is a new one. Files that do not fit together, as
        while they are being replaced, are let be until they do."""
        versions = _versions(self._files)
        if versions == self._versions:
            return False
        try:
            self.context = _context(self._files)
        except (OSError, ssl.SSLError) as error:
            logger.warning("the TLS files have changed and cannot be used: %s", _reason(error))
            return False
        finally:
            self._versions = versions
        logger.info("the TLS files have changed, and new connections use them")
        return True


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.certificate, files.key, password=_no_password)
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    # Without this, OpenSSL would ask on the terminal.
    raise OSError("the key is encrypted")


def _versions(files: TlsFiles) -> list[tuple[int, int] | None]:
    return [_version(path) for path in (files.certificate, files.key, files.client_ca) if path is not None]


def _version(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _reason(error: OSError) -> str:
    return str(error.strerror or error)
