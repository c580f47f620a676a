"""The deadline that an HTTP caller sets."""

from __future__ import annotations

import re
from collections.abc import Mapping

from server.errors import FieldViolation, InvalidArgument

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
_GRPC = re.compile(r"([0-9]{1,8})([HMSmun])", re.ASCII)
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def time_left(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds that the caller waits: `X-Request-Timeout` in seconds, or `grpc-timeout` as gRPC has it.

    The shorter counts where both are sent. None where neither is. Raises InvalidArgument.
    """
    seconds, grpc = headers.get("x-request-timeout"), headers.get("grpc-timeout")
    if seconds is None and grpc is None:
        return None
    limits = []
    if seconds is not None:
        if not _SECONDS.fullmatch(seconds):
            raise _malformed("x-request-timeout", "must be seconds, such as 2.5")
        limits.append(float(seconds))
    if grpc is not None:
        match = _GRPC.fullmatch(grpc)
        if match is None:
            raise _malformed("grpc-timeout", "must be up to 8 digits and one of H, M, S, m, u, n")
        limits.append(int(match[1]) * _UNITS[match[2]])
    return min(limits)


def _malformed(name: str, message: str) -> InvalidArgument:
    return InvalidArgument((FieldViolation(name, "MALFORMED_HEADER", message),))
