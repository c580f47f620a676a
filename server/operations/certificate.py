"""What a TLS certificate says: for whom it is, and when it ends, for an alert before it does."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class CertificateExpiry:
    """Reads when the certificate in a file ends; called, it returns that in seconds since the epoch.

    The file is read again when it has changed. While it cannot be, what it said last stands.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._changed: int | None = None
        self._ends = 0.0

    def __call__(self) -> float:
        try:
            changed = self._file.stat().st_mtime_ns
            if changed != self._changed:
                self._changed = changed
                self._ends = ssl.cert_time_to_seconds(_decoded(self._file)["notAfter"])
        except (OSError, ssl.SSLError, KeyError, ValueError):
            logger.warning("the end of the TLS certificate cannot be read")
        return self._ends


def name_in(file: Path) -> str | None:
    """Returns a host name or an IP address that the certificate in a file is for; None where it has none or cannot be
    read."""
    try:
        names = _decoded(file).get("subjectAltName", ())
    except (OSError, ssl.SSLError):
        return None
    found = next((value for kind, value in names if kind in {"DNS", "IP Address"}), None)
    return found and found.replace("*", "any", 1)


def _decoded(file: Path) -> dict[str, Any]:
    # Python shows a certificate's fields only of a peer that it has verified. This is what its own tests use to read a
    # file, in every version since 2.6; the other way is a library for this one date.
    decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(file))  # type: ignore[attr-defined]  # noqa: SLF001
    return decoded
