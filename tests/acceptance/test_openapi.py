"""What /openapi.json says is true: generated requests are answered as it says."""

from __future__ import annotations

from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from server.api.servicer import SERVICE
from tests.conftest import Deployment
from tests.support import loopback

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# Why a request that the schemas allow may be refused, which no schema can say: a token that nobody was given, one thing
# both set and removed, or what the participant would have as a whole.
BEYOND_SCHEMAS = {
    "PAGE_TOKEN_MALFORMED",
    "SET_AND_REMOVED",
    "TOO_MANY_ATTRIBUTES",
    "ATTRIBUTES_TOO_LARGE",
    "TOO_MANY_TAGS",
    "TAGS_TOO_LARGE",
}


@pytest.fixture(scope="module")
def api(deployment: Deployment) -> dict[str, Any]:
    """The operations, by RPC."""
    schema = schemathesis.openapi.from_url(f"{deployment.service.http_url}/openapi.json")
    operations: list[Any] = [result.ok() for result in cast("Any", schema.get_all_operations())]
    return {operation.definition.raw["operationId"]: operation for operation in operations}


@pytest.fixture(scope="module")
def participant_id(deployment: Deployment) -> str:
    response = loopback.post(
        f"{deployment.service.http_url}/v1/participants",
        json={"external_id": "there", "program_id": deployment.tenant.program_id},
        headers={"x-api-key": deployment.tenant.key},
    )
    return str(response.json()["id"])


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"])
@pytest.mark.parametrize("rpc", [method.name for method in SERVICE.methods])
def test_generated_requests_are_answered_as_it_says(
    api: dict[str, Any], deployment: Deployment, participant_id: str, rpc: str, mode: GenerationMode
) -> None:
    existing = {"id": participant_id, "program_id": deployment.tenant.program_id}

    @seed(1)
    @settings(max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=api[rpc].as_strategy(generation_mode=mode))
    def play(case: Any) -> None:
        if mode.is_positive and rpc != "DeleteParticipant":
            # A call for what is not there would try little.
            case.path_parameters.update({name: existing[name] for name in case.path_parameters})
        response = case.call(headers={"x-api-key": deployment.tenant.key})
        case.validate_response(response, checks=CHECKS)
        if mode.is_positive and response.status_code == 400:
            fields = response.json()["details"]["fields"]
            assert {field["reason"] for field in fields} <= BEYOND_SCHEMAS, fields

    play()
