"""One line for each call that failed or was slow, and for a sample of the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from server.auth.keys import reference
from server.operations.logs import REPEATS

logger = logging.getLogger(__name__)

# In seconds. Of the calls that went well and quickly, one in each SAMPLE_EVERY has a line.
SLOW = 1.0
SAMPLE_EVERY = 1.0

# Whose fault they are: ours, or the world's. The others are the caller's.
_WARNINGS = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED"}


class CallLog:
    """Decides which calls have a line, and writes it. What a caller sent is in none but its request and trace ids."""

    def __init__(self) -> None:
        self._next_sample = 0.0

    def wants(self, code: str, started: float, ended: float) -> bool:
        """Tells whether a call is to have a line. The times are `time.perf_counter`'s."""
        if code != "OK" or ended - started > SLOW:
            return True
        if ended < self._next_sample:
            return False
        self._next_sample = ended + SAMPLE_EVERY
        return True

    def write(
        self,
        rpc: str,
        code: str,
        seconds: float,
        *,
        reason: str | None,
        organization_id: str | None,
        key: str | None,
        request_id: Callable[[], str],
        trace_id: str | None,
        peer: Callable[[], str],
    ) -> None:
        """Writes the line of a call, unless one like it was written in this second: then it is counted."""
        alike = (rpc, code, reason, organization_id)
        if REPEATS.repeats(alike):
            return
        # What a key says of itself is only worth telling once it has proved to be one.
        claimed = reference(key) if key and organization_id else None
        shared: dict[str, object] = {"rpc": rpc, "code": code, "reason": reason, "organization": organization_id}
        own: dict[str, object] = {
            "seconds": round(seconds, 6),
            "key": claimed and claimed.key_id,
            "request_id": request_id(),
            "trace_id": trace_id,
            "peer": peer(),
        }
        level = logging.WARNING if code in _WARNINGS else logging.INFO
        logger.log(level, "call", extra={"key": alike, "fields": _said(shared | own), "shared_fields": _said(shared)})


def _said(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
