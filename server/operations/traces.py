"""Spans for OpenTelemetry: one a call and one a statement. Needs the extra `tracing`; imported only where it is on.

Names and attributes are those of the stable conventions for RPC and databases. Where spans go, and how many, is said by
OpenTelemetry's own variables: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and its _ARG. A span
costs more than all else that is done for a call, so whether there is to be one is decided here, without the SDK.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.status import Status, StatusCode

from server.config import ConfigurationError
from server.operations.trace_context import TraceContext

# Of a server's spans these are errors; the other codes are the caller's.
ERRORS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


class Traces:
    """Makes spans of calls and statements. `service` is the full name of the gRPC service."""

    def __init__(self, service: str, environment: Mapping[str, str], exporter: SpanExporter | None = None) -> None:
        self._service = service
        self._root_share = root_share(environment)
        name = environment.get("OTEL_SERVICE_NAME", "participants")
        resource = Resource.create({"service.name": name, "service.version": version("participants-server")})
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("participants")

    def call(self, rpc: str, parent: TraceContext | None) -> Span | None:
        """Begins the span of a call, or returns None for one that is not recorded: most, where few are."""
        if not (random.random() < self._root_share if parent is None else parent.sampled):  # noqa: S311  # no secret
            return None
        method = f"{self._service}/{rpc}"
        return self._tracer.start_span(
            method,
            None if parent is None else set_span_in_context(NonRecordingSpan(_context(parent))),
            SpanKind.SERVER,
            {"rpc.system.name": "grpc", "rpc.method": method},
        )

    def call_ended(self, span: Span, code: str, peer: str) -> None:
        """Ends the span of a call."""
        span.set_attribute("rpc.response.status_code", code)
        span.set_attribute("network.peer.address", peer)
        if code in ERRORS:
            span.set_attribute("error.type", code)
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def statement(self, upserts: int, seconds: float, calls: Sequence[Span]) -> None:
        """Makes the span of a statement that has ended. It is a part of the first of its calls, and linked to all."""
        ended = time.time_ns()
        span = self._tracer.start_span(
            "upsert participants",
            set_span_in_context(calls[0]),
            SpanKind.CLIENT,
            {"db.system.name": "postgresql", "db.operation.name": "upsert", "db.operation.batch.size": upserts},
            [Link(call.get_span_context()) for call in calls],
            start_time=ended - int(seconds * 1e9),
        )
        span.end(ended)

    def close(self) -> None:
        """Sends what has not been sent; blocks until then, for some seconds at the most."""
        self._provider.shutdown()


def root_share(environment: Mapping[str, str]) -> float:
    """Returns the share of the calls without a trace that begin one. One with a trace is recorded as its caller is."""
    sampler = environment.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").removeprefix("parentbased_")
    argument = environment.get("OTEL_TRACES_SAMPLER_ARG", "1") if sampler == "traceidratio" else sampler
    shares = {"always_on": "1", "always_off": "0"}
    try:
        share = float(shares.get(argument, argument))
    except ValueError:
        raise ConfigurationError(
            f"OTEL_TRACES_SAMPLER and its _ARG say {sampler!r} and {argument!r}; set them to parentbased_traceidratio "
            "and a share from 0 to 1, or to parentbased_always_on or parentbased_always_off"
        ) from None
    return share


def _context(parent: TraceContext) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
