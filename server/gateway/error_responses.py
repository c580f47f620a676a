"""The errors of operations in the OpenAPI document: of each those alone with which it may end."""

from __future__ import annotations

from typing import Any

from server.errors import Code
from server.gateway.routes import Route
from server.gateway.schemas import Schema

ERROR: Schema = {
    "type": "object",
    "properties": {
        "code": {"type": "string"},
        "message": {"type": "string"},
        "details": {
            "type": "object",
            "properties": {
                "fields": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {name: {"type": "string"} for name in ("field", "reason", "message")},
                        "required": ["field", "reason", "message"],
                    },
                }
            },
            "required": ["fields"],
        },
    },
    "required": ["code", "message"],
}
# What may become of any call: it can be given an unknown parameter, no key, or too little time, and be one too many.
_OF_ALL = {
    Code.INVALID_ARGUMENT,
    Code.UNAUTHENTICATED,
    Code.RESOURCE_EXHAUSTED,
    Code.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED,
    Code.INTERNAL,
}
# What HTTP alone has to say of bodies, beside the error table.
_HTTP_ERRORS_OF_BODIES = {408: "request_timeout", 413: "payload_too_large", 415: "unsupported_media_type"}


class ErrorResponses:
    """The error responses, each once. `components` are those that are referred to, by name."""

    def __init__(self) -> None:
        self.components: dict[str, dict[str, Any]] = {}

    def of(self, route: Route, comment: str) -> dict[str, Any]:
        """Returns the error responses of an operation, by status: its comment names those that are its own."""
        return {str(status): self._reference(status, codes) for status, codes in _errors(route, comment).items()}

    def _reference(self, status: int, codes: list[str]) -> dict[str, str]:
        name = "_or_".join(codes)
        self.components.setdefault(name, _response(status, codes))
        return {"$ref": f"#/components/responses/{name}"}


def _errors(route: Route, comment: str) -> dict[int, list[str]]:
    """Returns the codes that callers of an operation may get, by HTTP status."""
    own = comment.partition("\n\nErrors: ")[2]
    errors: dict[int, list[str]] = {status: [code] for status, code in _HTTP_ERRORS_OF_BODIES.items() if route.body}
    for code in Code:
        if code in _OF_ALL or f"`{code.name}`" in own:
            errors.setdefault(code.http_status, []).append(code.http_code)
    return dict(sorted(errors.items()))


def _response(status: int, codes: list[str]) -> dict[str, Any]:
    schema: Schema = {
        "allOf": [{"$ref": "#/components/schemas/Error"}, {"properties": {"code": {"enum": codes}}}],
    }
    headers: dict[str, Any] = {}
    if status in {409, 429, 503}:
        headers["Retry-After"] = {
            "description": "After how many seconds a retry makes sense, where it does.",
            "schema": {"type": "integer"},
        }
    return {
        "description": ", ".join(f"`{code}`" + _grpc_name(code) for code in codes),
        "headers": headers,
        "content": {"application/json": {"schema": schema, "example": _example(status, codes[0])}},
    }


def _grpc_name(http_code: str) -> str:
    """Returns how the descriptions of the RPCs call a code, where they do."""
    return next((f" (`{code.name}`)" for code in Code if code.http_code == http_code), "")


def _example(status: int, code: str) -> dict[str, Any]:
    if status != Code.INVALID_ARGUMENT.http_status:
        return {"code": code, "message": "what is wrong, in a sentence"}
    field = {"field": "external_id", "reason": "REQUIRED", "message": "value is required"}
    return {"code": code, "message": "external_id: value is required", "details": {"fields": [field]}}
