"""The API as an OpenAPI 3.1 document, made from the descriptors that the routes are made from."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.empty_pb2 import Empty
from participants.v1.participant_service_pb2 import CreateParticipantResponse

from server.gateway.comments import Comments
from server.gateway.error_responses import ERROR, ErrorResponses
from server.gateway.parameters import Parameters
from server.gateway.routes import Route, Routes, answered, basic_view
from server.gateway.schemas import Schemas, is_required

DESCRIPTION = """\
Every call needs an API key, which reaches the data of one organization.

Every answer has `X-Request-Id`: the caller's own, when it sends one that is sane. A caller's `X-Request-Timeout`, in
seconds, is its deadline; without one it is 10 seconds."""
# What the requests look like that a reader tries first; a test holds them against the schemas.
EXAMPLES: dict[str, Any] = {
    "CreateParticipant": {
        "external_id": "user_1",
        "email": "jane@example.com",
        "attributes": {"plan": "premium"},
        "tags": ["vip"],
    },
    "BatchCreateParticipants": {"requests": [{"external_id": "user_1"}, {"external_id": "user_2"}], "view": "BASIC"},
    "UpdateParticipant": {"first_name": "Jane", "remove_attributes": ["plan"], "add_tags": ["gold"]},
    "SetParticipantStatus": {"status": "SUSPENDED"},
}


def document(service: ServiceDescriptor) -> dict[str, Any]:
    """Returns the document, as what JSON is made from."""
    comments = Comments()
    schemas = Schemas(comments)
    errors = ErrorResponses()
    paths: dict[str, dict[str, Any]] = {}
    for route in Routes(service):
        titles = _titles(service, route, comments)
        paths.setdefault(route.template, {})[route.http_method.lower()] = {
            **titles,
            **_operation(route, schemas, comments),
            "responses": _answers(route, schemas) | errors.of(route, titles["description"]),
        }
    package: str = service.file.package
    return {
        "openapi": "3.1.0",
        "info": {"title": service.name, "version": package.rpartition(".")[2], "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"api_key": []}, {"bearer": []}],
        "tags": [{"name": service.name}],
        "paths": paths,
        "components": {
            "schemas": {**schemas.components, "Error": ERROR},
            "responses": errors.components,
            "securitySchemes": {
                "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _titles(service: ServiceDescriptor, route: Route, comments: Comments) -> dict[str, Any]:
    titles = comments.description(service.methods_by_name[route.rpc])
    # A summary is plain text.
    summary = titles["description"].partition(". ")[0].partition("\n")[0].rstrip(".").replace("`", "")
    return {"operationId": route.rpc, "summary": summary, **titles, "tags": [service.name]}


def _operation(route: Route, schemas: Schemas, comments: Comments) -> dict[str, Any]:
    operation: dict[str, Any] = {"parameters": _parameters(route, schemas, comments)}
    if route.body:
        content: dict[str, Any] = {"schema": schemas.request(route.request, route.pattern.groupindex)}
        if route.rpc in EXAMPLES:
            content["example"] = EXAMPLES[route.rpc]
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation


def _parameters(route: Route, schemas: Schemas, comments: Comments) -> list[dict[str, Any]]:
    in_path = [route.request.fields_by_name[name] for name in route.pattern.groupindex]
    in_query = Parameters(route.request, route.bound_fields).fields
    return [
        {
            "name": field.name,
            "in": where,
            "required": where == "path" or is_required(field),
            **comments.description(field),
            "schema": schemas.field(field),
        }
        for where, fields in (("path", in_path), ("query", in_query))
        for field in fields
    ]


def _answers(route: Route, schemas: Schemas) -> dict[str, Any]:
    if route.response == Empty.DESCRIPTOR:
        return {"204": {"description": "Done."}}
    schema = schemas.response(answered(route))
    if basic_view(route.request) is not None:
        schema = {"anyOf": [schema, schemas.response(answered(route), with_empty=False)]}
    content = {"application/json": {"schema": schema}}
    answers: dict[str, Any] = {"200": {"description": "OK", "content": content}}
    if route.response == CreateParticipantResponse.DESCRIPTOR:
        location = {"description": "The path to read it at.", "schema": {"type": "string"}}
        answers["200"]["description"] = "It existed."
        answers["201"] = {"description": "It was created.", "headers": {"Location": location}, "content": content}
    return answers
