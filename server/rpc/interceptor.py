"""Leads the calls of gRPC clients through the pipeline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError, Message

from server.errors import FieldViolation, InvalidArgument, ServiceError
from server.rpc.pipeline import Method, Pipeline, request_id_from
from server.rpc.status import MAX_VIOLATION_BYTES, status_from_error

# grpcio's own class takes no type arguments while the program runs.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class PipelineInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the methods of one service; calls of others, such as health, pass as they are."""

    def __init__(self, service: str, pipeline: Pipeline) -> None:
        self._prefix = f"/{service}/"
        self._pipeline = pipeline
        self._handlers: dict[str, _Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        path = handler_call_details.method
        known = self._handlers.get(path)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or not path.startswith(self._prefix):
            return handler
        wrapped = self._handlers[path] = self._wrapped(path.removeprefix(self._prefix), handler)
        return wrapped

    def _wrapped(self, name: str, handler: _Handler) -> _Handler:
        method = cast("Method", handler.unary_unary)
        parse = cast("Callable[[bytes], Message]", handler.request_deserializer)

        async def answer(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
            metadata = dict(context.invocation_metadata() or ())
            request_id = request_id_from(metadata)
            try:
                return await self._pipeline.run(
                    name,
                    method,
                    lambda: _decoded(parse, request),
                    metadata,
                    request_id=request_id,
                    time_left=context.time_remaining(),
                )
            except ServiceError as error:
                failure = error
            await _abort(context, failure, request_id)
            raise AssertionError("abort returned")

        # The request is left as bytes: grpcio would answer one that does not parse in its own words.
        return grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=None, response_serializer=handler.response_serializer
        )


def _decoded(parse: Callable[[bytes], Message], request: bytes) -> Message:
    try:
        return parse(request)
    except DecodeError:
        violation = FieldViolation("", "MALFORMED", "the request is no message of this method, or not UTF-8")
        raise InvalidArgument((violation,), violation.message, reason="MALFORMED_REQUEST") from None


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: ServiceError, request_id: str) -> None:
    status = status_from_error(error, limit=MAX_VIOLATION_BYTES)
    await context.abort(
        _CODES[status.code],
        status.message,
        (("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", request_id)),
    )
