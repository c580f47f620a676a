"""What every call and every statement is counted, logged and traced by."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from server.operations.call_log import CallLog
from server.operations.metrics import Metrics
from server.operations.trace_context import trace_context_from
from server.writes.observer import Observer, current_trace

if TYPE_CHECKING:
    # Its library is there only where spans are wanted.
    from server.operations.traces import Traces


class Telemetry(Observer):
    """Tells metrics, log and traces. Most calls are counted in plain numbers, and that is all."""

    def __init__(self, metrics: Metrics, traces: Traces | None) -> None:
        self._metrics = metrics
        self._traces = traces
        self._log = CallLog()

    def call_started(self, rpc: str, metadata: Mapping[str, Any]) -> Any:
        """Counts a call that begins, and returns its span, None where it has none."""
        self._metrics.started(rpc)
        if self._traces is None:
            return None
        span = self._traces.call(rpc, trace_context_from(metadata))
        if span is not None:
            current_trace.set(span)
        return span

    def call_ended(
        self,
        rpc: str,
        code: str,
        started: float,
        *,
        span: Any,
        reason: str | None,
        organization_id: str | None,
        key: str | None,
        metadata: Mapping[str, Any],
        request_id: Callable[[], str],
        peer: Callable[[], str],
    ) -> None:
        """Counts a call that ended with a gRPC code, ends its span, and logs it where it is to be logged.

        `started` is on `time.perf_counter`'s clock; `reason` is that of the error, `organization_id` None for a caller
        that is not known, and `key` what it presented.
        """
        ended = time.perf_counter()
        self._metrics.handled(rpc, code, ended - started)
        if reason is not None:
            self._metrics.refused(reason)
        if span is not None and self._traces is not None:
            self._traces.call_ended(span, code, peer())
            current_trace.set(None)
        if self._log.wants(code, started, ended):
            self._log.write(
                rpc, code, ended - started, reason=reason, organization_id=organization_id, key=key,
                request_id=request_id, trace_id=_trace_id(span, metadata), peer=peer,
            )  # fmt: skip

    def statement(self, upserts: int, seconds: float, traces: Sequence[Any]) -> None:
        self._metrics.statement(upserts, seconds)
        if traces and self._traces is not None:
            # The items of a batch have one trace.
            self._traces.statement(upserts, seconds, list(dict.fromkeys(traces)))

    def refused(self, reason: str) -> None:
        self._metrics.refused(reason)

    def retried(self) -> None:
        self._metrics.retried()


def _trace_id(span: Any, metadata: Mapping[str, Any]) -> str | None:
    if span is not None:
        return f"{span.get_span_context().trace_id:032x}"
    context = trace_context_from(metadata)
    return None if context is None else context.trace_id
