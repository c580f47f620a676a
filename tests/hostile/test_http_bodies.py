"""Bodies over HTTP that are small and make a great deal of work."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Deployment
from tests.support import loopback
from tests.support.raw import MEBIBYTE, most_resident_bytes, processor_seconds

PATH = "/v1/participants"
ROOM = MEBIBYTE - 1000


def batch_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"requests": [item] * min(1000, ROOM // len(json.dumps(item, separators=(",", ":")) + ","))}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, {"external_id": "x", "tags": [""] * (ROOM // 3)}),
        (PATH, {"external_id": "x", "tags": [1] * (ROOM // 2)}),
        (PATH, {"external_id": "x", "attributes": {f"{number}": "" for number in range(ROOM // 12)}}),
        (PATH, {f"{number}": 0 for number in range(ROOM // 11)}),
        (f"{PATH}:batchCreate", {"requests": [{}] * (ROOM // 3)}),
        (f"{PATH}:batchCreate", {"requests": [0] * (ROOM // 2)}),
        (f"{PATH}:batchCreate", batch_of({"external_id": "x", "tags": [""] * 256})),
        (f"{PATH}:batchCreate", batch_of({"external_id": "x", "tags": [0] * 256})),
        (f"{PATH}:batchCreate", batch_of({"external_id": "x", "attributes": {f"{n}": 0 for n in range(256)}})),
    ],
    ids=[
        "empty tags",
        "numbers for tags",
        "attributes",
        "unknown fields",
        "empty items",
        "numbers for items",
        "items with empty tags",
        "items with numbers for tags",
        "items with numbers for attributes",
    ],
)
def test_a_mebibyte_of_nonsense_is_refused_at_once(deployment: Deployment, path: str, body: dict[str, Any]) -> None:
    content = json.dumps(body, separators=(",", ":")).encode()
    assert len(content) <= MEBIBYTE
    headers = {"x-api-key": deployment.tenant.key, "content-type": "application/json"}
    before = processor_seconds(deployment.service)
    response = loopback.post(f"{deployment.service.http_url}{path}", content=content, headers=headers, timeout=30)
    took = processor_seconds(deployment.service) - before
    violations = (
        [field for result in response.json()["results"] for field in result["status"]["details"]]
        if response.status_code == 200
        else response.json()["details"]["fields"]
    )
    assert len(violations) > 0
    if response.status_code != 200:
        assert len(violations) <= 101
        assert (len(violations) == 101) == (violations[-1]["reason"] == "MORE_VIOLATIONS")
    # It takes half of this at the most, and took 15 s.
    assert took < 5
    assert most_resident_bytes(deployment.service) < 512 * MEBIBYTE
