"""W3C Trace Context: what a caller says of the trace that its call is a part of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII
)
_SAMPLED = 0x01


class TraceContext(NamedTuple):
    """The ids of a trace and of the span that called, in hexadecimal, and whether the caller records its span."""

    trace_id: str
    span_id: str
    sampled: bool


def trace_context_from(metadata: Mapping[str, str | bytes]) -> TraceContext | None:
    """Returns what `traceparent` says, or None where there is none or it makes no sense."""
    given = metadata.get("traceparent")
    match = _TRACEPARENT.fullmatch(given) if isinstance(given, str) else None
    return None if match is None else TraceContext(match[1], match[2], bool(int(match[3], 16) & _SAMPLED))
