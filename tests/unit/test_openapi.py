"""The OpenAPI document: valid, complete, and with examples that its schemas allow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor

from server.api.servicer import SERVICE
from server.gateway.openapi import EXAMPLES, document
from server.gateway.routes import Routes

DOCUMENT = document(SERVICE)
OPERATIONS = {
    operation["operationId"]: operation for methods in DOCUMENT["paths"].values() for operation in methods.values()
}
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
CREATE = SCHEMAS["CreateParticipantRequest"]


def test_it_is_openapi_3_1() -> None:
    # It takes a second to import, which all other processes of the tests do without; so does jsonschema.
    from openapi_spec_validator import validate  # noqa: PLC0415

    assert DOCUMENT["openapi"] == "3.1.0"
    validate(DOCUMENT)


def test_it_has_every_route() -> None:
    assert {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods} == {
        (route.template, route.http_method.lower()) for route in Routes(SERVICE)
    }
    assert OPERATIONS.keys() == {method.name for method in SERVICE.methods}


@pytest.mark.parametrize("route", list(Routes(SERVICE)), ids=lambda route: route.rpc)
def test_every_field_of_a_request_stands_in_one_place(route: Any) -> None:
    operation = OPERATIONS[route.rpc]
    names = [parameter["name"] for parameter in operation["parameters"]]
    if "requestBody" in operation:
        names += _properties(operation["requestBody"]["content"]["application/json"]["schema"])
    request: Descriptor = route.request
    assert sorted(names) == sorted(field.name for field in request.fields)


def without_description(schema: dict[str, Any]) -> dict[str, Any]:
    return {word: value for word, value in schema.items() if word != "description"}


def _properties(reference: dict[str, str]) -> list[str]:
    return list(SCHEMAS[reference["$ref"].rpartition("/")[2]]["properties"])


def test_the_comments_are_descriptions() -> None:
    update = OPERATIONS["UpdateParticipant"]
    assert update["summary"] == "Changes one participant"
    assert "\n\nErrors: `INVALID_ARGUMENT` with every violation at once;" in update["description"]
    assert update["parameters"][0]["description"] == "The participant's `id`, a UUID. Empty is refused."
    for name, schema in SCHEMAS.items():
        if not name.startswith(("google.", "Error")):
            assert schema["description"].endswith(".")
            assert all(field["description"].endswith(".") for field in schema["properties"].values())


def test_the_limits_are_those_of_the_rules() -> None:
    fields = {name: without_description(field) for name, field in CREATE["properties"].items()}
    text = {"type": "string", "pattern": r"^[^\u0000]*$"}
    assert fields["external_id"] == {**text, "minLength": 1, "maxLength": 255}
    assert fields["email"] == {**text, "maxLength": 255, "format": "email"}
    assert fields["program_id"] == {"type": "string", "format": "uuid"}
    assert fields["status"] == {"type": "string", "enum": ["ACTIVE", "SUSPENDED", "CLOSED"]}
    assert fields["attributes"] == {
        "type": "object",
        "maxProperties": 256,
        "propertyNames": {**text, "minLength": 1, "maxLength": 255},
        "additionalProperties": {**text, "maxLength": 4096},
    }
    assert fields["tags"] == {"type": "array", "maxItems": 256, "items": {**text, "minLength": 1, "maxLength": 255}}
    assert CREATE["required"] == ["external_id"]
    listed = {parameter["name"]: parameter["schema"] for parameter in OPERATIONS["ListParticipants"]["parameters"]}
    assert listed["page_size"]["minimum"] == 0
    assert listed["order_by"]["enum"] == ["created_at", "created_at desc", "external_id", "external_id desc"]
    assert listed["created_after"] == {"type": "string", "format": "date-time"}


@pytest.mark.parametrize("rpc", list(EXAMPLES))
def test_the_examples_are_requests(rpc: str) -> None:
    import jsonschema  # noqa: PLC0415  # see above

    content = OPERATIONS[rpc]["requestBody"]["content"]["application/json"]
    assert content["example"] == EXAMPLES[rpc]
    jsonschema.validate(content["example"], {**content["schema"], "components": DOCUMENT["components"]})


OF_ALL = [
    "400 bad_request",
    "401 unauthorized",
    "429 too_many_requests",
    "500 internal",
    "503 unavailable",
    "504 deadline_exceeded",
]
OF_BODIES = ["408 request_timeout", "413 payload_too_large", "415 unsupported_media_type"]


@pytest.mark.parametrize(
    ("rpc", "errors"),
    {
        "CreateParticipant": ["404 not_found", "409 conflict", *OF_BODIES],
        "BatchCreateParticipants": OF_BODIES,
        "GetParticipant": ["404 not_found"],
        "LookupParticipant": ["404 not_found"],
        "ListParticipants": [],
        "UpdateParticipant": ["404 not_found", "409 already_exists", "409 conflict", *OF_BODIES],
        "SetParticipantStatus": ["404 not_found", "409 conflict", *OF_BODIES],
        "EnrollParticipant": ["404 not_found", "409 conflict"],
        "UnenrollParticipant": ["404 not_found", "409 conflict"],
        "DeleteParticipant": ["404 not_found", "409 conflict"],
    }.items(),
)
def test_an_operation_has_the_errors_with_which_it_may_end(rpc: str, errors: list[str]) -> None:
    assert sorted(_errors(rpc)) == sorted([*OF_ALL, *errors])


def _errors(rpc: str) -> Iterator[str]:
    for status, response in OPERATIONS[rpc]["responses"].items():
        if "$ref" in response:
            component = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
            [_, narrowed] = component["content"]["application/json"]["schema"]["allOf"]
            yield from (f"{status} {code}" for code in narrowed["properties"]["code"]["enum"])
