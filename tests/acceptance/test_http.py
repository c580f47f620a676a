"""What HTTP adds to the API: JSON, headers, paths, methods and the shape of errors."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.conftest import Deployment
from tests.support import loopback
from tests.support.clients import EMPTY

PATH = "/v1/participants"
JSON = {"content-type": "application/json"}
MEBIBYTE = 1 << 20
# No answer may hold any of these words of the database, the driver or the interpreter.
SECRETS = re.compile(
    r"traceback|psycopg|postgres|sqlstate|select |insert |json_to_recordset|\.py\b|, line \d+", re.IGNORECASE
)


@pytest.fixture(scope="module")
def client(deployment: Deployment) -> Iterator[httpx.Client]:
    """Calls the gateway with a key, and looks into every answer for what all answers have in common."""

    def check(response: httpx.Response) -> None:
        response.read()
        assert re.fullmatch(r"[0-9a-f]{32}|[A-Za-z0-9._:/+=-]{1,128}", response.headers["x-request-id"])
        assert not SECRETS.search(response.text) or response.url.path == "/metrics"

    headers = {"x-api-key": deployment.tenant.key}
    with loopback.Client(
        base_url=deployment.service.http_url, headers=headers, event_hooks={"response": [check]}
    ) as opened:
        yield opened


def post(client: httpx.Client, body: bytes | str, **headers: str) -> httpx.Response:
    """Posts a body as it stands, as JSON unless the headers say otherwise."""
    return client.post(PATH, content=body, headers={**JSON, **headers})


def post_json(client: httpx.Client, body: Any) -> httpx.Response:
    return post(client, json.dumps(body))


def error(response: httpx.Response) -> dict[str, Any]:
    """Returns the body of an error, which has the one shape of all errors."""
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert set(body) - {"details"} == {"code", "message"}
    assert body["message"]
    if "details" in body:
        assert set(body["details"]) == {"fields"}
        assert body["details"]["fields"]
        for field in body["details"]["fields"]:
            assert set(field) == {"field", "reason", "message"}
            assert re.fullmatch(r"[A-Z][A-Z0-9_]*", field["reason"])
            assert field["message"]
    return body


def fields(response: httpx.Response) -> list[tuple[str, str]]:
    """Returns the paths and reasons of a request that was refused as a bad one."""
    body = error(response)
    assert (response.status_code, body["code"]) == (400, "bad_request")
    return [(field["field"], field["reason"]) for field in body["details"]["fields"]]


class TestCreated:
    """201 with a Location that can be fetched, else 200."""

    def test_a_new_participant_has_a_location(self, client: httpx.Client, external_id: str) -> None:
        response = post_json(client, {"external_id": external_id})
        assert response.status_code == 201
        assert response.headers["content-type"] == "application/json"
        fetched = client.get(response.headers["location"])
        assert (fetched.status_code, fetched.json()) == (200, response.json())

    @pytest.mark.parametrize("change", [{}, {"first_name": "Jane"}], ids=["unchanged", "updated"])
    def test_an_existing_participant_has_none(
        self, client: httpx.Client, external_id: str, change: Mapping[str, str]
    ) -> None:
        post_json(client, {"external_id": external_id})
        response = post_json(client, {"external_id": external_id, **change})
        assert response.status_code == 200
        assert "location" not in response.headers

    def test_empty_collections_are_present_and_unset_profile_fields_are_left_out(
        self, client: httpx.Client, external_id: str
    ) -> None:
        created = post_json(client, {"external_id": external_id}).json()
        expected = {"external_id": external_id, **EMPTY}
        assert {name: value for name, value in created.items() if name in expected} == expected
        assert set(created) - set(expected) == {"id", "created_at", "updated_at", "etag"}


class TestJson:
    """Bodies: strict about what is unknown, repeated or of the wrong type."""

    @pytest.mark.parametrize("name", ["counters", "tiers", "balances", "id", "program_ids", "created_at", "result"])
    def test_what_cannot_be_set_is_refused_by_name(self, client: httpx.Client, external_id: str, name: str) -> None:
        response = post_json(client, {"external_id": external_id, name: {}})
        assert fields(response) == [(name, "UNKNOWN_FIELD")]

    @pytest.mark.parametrize("name", ["externalId", "External_id", "displayName", "", "a.b", "\u00e9", "x" * 5000])
    def test_an_unknown_field_is_refused_by_name(self, client: httpx.Client, external_id: str, name: str) -> None:
        [(field, reason)] = fields(post_json(client, {"external_id": external_id, name: None}))
        assert (field, reason) == (name[:100], "UNKNOWN_FIELD")

    @pytest.mark.parametrize("name", ["display_name", "email", "first_name", "last_name", "phone", "program_id"])
    @pytest.mark.parametrize("value", [1, 1.5, True, [], {}, ["x"]], ids=str)
    def test_a_text_of_the_wrong_type_is_refused(
        self, client: httpx.Client, external_id: str, name: str, value: Any
    ) -> None:
        assert fields(post_json(client, {"external_id": external_id, name: value})) == [(name, "WRONG_TYPE")]

    @pytest.mark.parametrize("value", [1, 1.5, True, [], {}], ids=str)
    def test_an_external_id_of_the_wrong_type_is_refused(self, client: httpx.Client, value: Any) -> None:
        assert fields(post_json(client, {"external_id": value})) == [("external_id", "WRONG_TYPE")]

    @pytest.mark.parametrize("value", ["active", "", "GOLD", "1", 1.5, True, [], {}, 2**31, 10**400], ids=str)
    def test_a_status_of_the_wrong_type_is_refused(self, client: httpx.Client, external_id: str, value: Any) -> None:
        assert fields(post_json(client, {"external_id": external_id, "status": value})) == [("status", "WRONG_TYPE")]

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            ({"attributes": []}, "attributes"),
            ({"attributes": "plan"}, "attributes"),
            ({"attributes": {"fine": "", "plan": 1}}, 'attributes["plan"]'),
            ({"attributes": {"fine": "", "plan": None}}, 'attributes["plan"]'),
            ({"attributes": {"plan": {"nested": "x"}}}, 'attributes["plan"]'),
            ({"attributes": {"caf\u00e9": 1}}, 'attributes["caf\u00e9"]'),
            ({"tags": {}}, "tags"),
            ({"tags": "vip"}, "tags"),
            ({"tags": ["vip", 1]}, "tags[1]"),
            ({"tags": ["vip", None]}, "tags[1]"),
            ({"tags": ["vip", ["x"]]}, "tags[1]"),
        ],
        ids=str,
    )
    def test_a_collection_of_the_wrong_type_is_refused(
        self, client: httpx.Client, external_id: str, request_: dict[str, Any], field: str
    ) -> None:
        assert fields(post_json(client, {"external_id": external_id, **request_})) == [(field, "WRONG_TYPE")]

    def test_everything_that_is_wrong_with_the_types_is_reported_at_once(self, client: httpx.Client) -> None:
        response = post_json(client, {"external_id": 1, "counters": {}, "tags": [1, "x", 2], "status": "GOLD"})
        assert fields(response) == [
            ("external_id", "WRONG_TYPE"),
            ("counters", "UNKNOWN_FIELD"),
            ("tags[0]", "WRONG_TYPE"),
            ("tags[2]", "WRONG_TYPE"),
            ("status", "WRONG_TYPE"),
        ]

    @pytest.mark.parametrize(
        "name",
        ["display_name", "email", "first_name", "last_name", "phone", "program_id", "status", "attributes", "tags"],
    )
    def test_null_is_absent(self, client: httpx.Client, external_id: str, name: str) -> None:
        full = {
            "external_id": external_id,
            "display_name": "Jane Doe",
            "email": "jane@example.com",
            "first_name": "Jane",
            "last_name": "Doe",
            "phone": "1",
            "status": "CLOSED",
            "attributes": {"plan": "premium"},
            "tags": ["vip"],
        }
        before = post_json(client, full).json()
        assert post_json(client, {"external_id": external_id, name: None}).json() == before

    def test_a_null_external_id_is_absent(self, client: httpx.Client) -> None:
        assert fields(post_json(client, {"external_id": None})) == [("external_id", "STRING_MIN_LEN")]

    @pytest.mark.parametrize("status", [2, "SUSPENDED"])
    def test_a_status_may_be_given_by_number(self, client: httpx.Client, external_id: str, status: Any) -> None:
        response = post_json(client, {"external_id": external_id, "status": status})
        assert response.json()["status"] == "SUSPENDED"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" ",
            b"{",
            b"{}{}",
            b"null",
            b"[]",
            b"1",
            b'"external_id"',
            b"true",
            b"external_id=ann",
            b"{'external_id': 'ann'}",
            b'{"external_id": "ann",}',
            b'{"external_id": "ann"} // new',
            b'{external_id: "ann"}',
            b'{"external_id": "a\nn"}',
            b'{"external_id": "\\x41"}',
            b'{"external_id": "\\u00"}',
            b'{"external_id": NaN}',
            b'{"status": Infinity}',
            b'{"status": -Infinity}',
            b'{"status": ' + b"9" * 10_000 + b"}",
            b'{"external_id": "\xff"}',
            b'{"external_id": "\xc0\xaf"}',
            b'{"external_id": "ann\xc3"}',
            b'\x00{"external_id": "ann"}',
            '{"external_id": "ann"}'.encode("utf-16"),
            '{"external_id": "ann"}'.encode("utf-16-le"),
            '{"external_id": "ann"}'.encode("utf-32"),
            b"[" * 100_000,
            b'{"tags":' * 100_000,
            b'{"tags":' * 50_000 + b"1" + b"}" * 50_000,
            b'{"attributes":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
        ],
        ids=lambda body: repr(body[:40]),
    )
    def test_what_is_not_a_json_object_is_refused(self, client: httpx.Client, body: bytes) -> None:
        response = post(client, body)
        assert (response.status_code, error(response)["code"]) == (400, "bad_request")

    @pytest.mark.parametrize("number", ["1e400", "-1e400", "1e-400", "0.1", "1" + "0" * 4000])
    def test_a_number_of_any_size_is_of_the_wrong_type(self, client: httpx.Client, number: str) -> None:
        assert fields(post(client, f'{{"external_id": {number}}}')) == [("external_id", "WRONG_TYPE")]

    @pytest.mark.parametrize(
        ("body", "path"),
        [
            (r'{"external_id": "\ud800"}', "external_id"),
            (r'{"external_id": "x", "first_name": "a\udc00b"}', "first_name"),
            (r'{"external_id": "x", "first_name": "\udc00\ud800"}', "first_name"),
            (r'{"external_id": "x", "tags": ["vip", "\ud83d"]}', "tags[1]"),
            (r'{"external_id": "x", "attributes": {"plan": "\ud83d"}}', 'attributes["plan"]'),
            (r'{"external_id": "x", "attributes": {"\ud83d": "plan"}}', r'attributes["\ud83d"]'),
        ],
    )
    def test_a_lone_surrogate_is_refused(self, client: httpx.Client, body: str, path: str) -> None:
        assert fields(post(client, body)) == [(path, "INVALID_UNICODE")]

    @pytest.mark.parametrize("body", [rb'{"\ud800": 1}', b'{"external_id": "\xed\xa0\x80"}', b'{"\xed\xa0\x80": ""}'])
    def test_a_surrogate_anywhere_else_is_refused(self, client: httpx.Client, body: bytes) -> None:
        assert (post(client, body).status_code, error(post(client, body))["code"]) == (400, "bad_request")

    def test_a_pair_of_surrogates_is_one_character(self, client: httpx.Client) -> None:
        unique = uuid4()
        response = post(client, f'{{"external_id": "\\ud83d\\ude00 {unique}"}}')
        assert response.json()["external_id"] == f"\U0001f600 {unique}"

    @pytest.mark.parametrize(
        ("body", "name"),
        [
            ('{"external_id": "a", "external_id": "a"}', "external_id"),
            ('{"external_id": "a", "external_\\u0069d": "b"}', "external_id"),
            ('{"external_id": "a", "attributes": {"plan": "1", "plan": "2"}}', 'attributes["plan"]'),
            ('{"external_id": "a", "tags": null, "tags": ["vip"]}', "tags"),
        ],
    )
    def test_a_key_that_stands_twice_is_refused(self, client: httpx.Client, body: str, name: str) -> None:
        assert fields(post(client, body)) == [(name, "DUPLICATE_FIELD")]

    def test_blanks_around_the_body_are_fine(self, client: httpx.Client, external_id: str) -> None:
        assert post(client, f' \n{{\t"external_id" :\r\n"{external_id}" }} \n').status_code == 201


class TestContentType:
    """The body is JSON in UTF-8, and says so."""

    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8",
            'application/json; charset="utf-8"',
            "application/json ; charset=utf8",
            "application/json; profile=x",
        ],
    )
    def test_json_is_taken(self, client: httpx.Client, external_id: str, content_type: str) -> None:
        body = json.dumps({"external_id": external_id})
        assert post(client, body, **{"content-type": content_type}).status_code == 201

    @pytest.mark.parametrize(
        "content_type",
        [
            "",
            "text/plain",
            "text/json",
            "application/x-www-form-urlencoded",
            "application/jsonp",
            "application/merge-patch+json",
            "multipart/form-data; boundary=x",
            "application/json; charset=latin-1",
            "application/json; charset=utf-16",
            "application/json; charset",
            "json",
            "*/*",
            ";",
        ],
    )
    def test_anything_else_is_refused(self, client: httpx.Client, external_id: str, content_type: str) -> None:
        response = post(client, json.dumps({"external_id": external_id}), **{"content-type": content_type})
        assert (response.status_code, error(response)["code"]) == (415, "unsupported_media_type")

    def test_a_body_that_does_not_say_what_it_is_is_refused(self, client: httpx.Client) -> None:
        response = client.post(PATH, content=b"{}")
        assert (response.status_code, error(response)["code"]) == (415, "unsupported_media_type")

    def test_reading_needs_no_content_type(self, client: httpx.Client, external_id: str) -> None:
        created = post_json(client, {"external_id": external_id})
        location = created.headers["location"]
        assert client.get(location, headers={"content-type": "text/plain"}).status_code == 200


class TestSize:
    """A body has at most 1 MiB, whether it says its length or comes in chunks."""

    @staticmethod
    def body(external_id: str, size: int) -> bytes:
        return json.dumps({"external_id": external_id}).encode().ljust(size)

    @staticmethod
    def chunks(body: bytes, size: int = 65_536) -> Iterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    def test_1_mib_is_taken(self, client: httpx.Client, external_id: str) -> None:
        response = client.post(PATH, content=self.body(external_id, MEBIBYTE), headers=JSON)
        assert response.status_code == 201

    def test_1_mib_in_chunks_is_taken(self, client: httpx.Client, external_id: str) -> None:
        response = client.post(PATH, content=self.chunks(self.body(external_id, MEBIBYTE)), headers=JSON)
        assert response.status_code == 201

    @pytest.mark.parametrize("excess", [1, MEBIBYTE])
    @pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
    def test_more_is_refused(self, client: httpx.Client, external_id: str, excess: int, chunked: bool) -> None:
        body = self.body(external_id, MEBIBYTE + excess)
        response = client.post(PATH, content=self.chunks(body) if chunked else body, headers=JSON)
        assert (response.status_code, error(response)["code"]) == (413, "payload_too_large")
        assert post_json(client, {"external_id": external_id}).status_code == 201

    def test_a_length_that_is_too_large_is_refused_before_the_body_comes(self, deployment: Deployment) -> None:
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {10**9}\r\n\r\n"
        assert sent_raw(deployment, head.encode()).startswith(b"HTTP/1.1 413 ")


def sent_raw(deployment: Deployment, request: bytes) -> bytes:
    """Sends bytes as they stand, and returns what is answered until the connection is closed."""
    host, port = deployment.service.http_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


class TestPaths:
    """Unknown paths, methods that a path does not have, query strings."""

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/v1",
            "/v1/",
            "/v1/participants/",
            "/V1/participants",
            "/v1/Participants",
            "/v1//participants",
            "/v2/participants",
            "/v1/participants/a/b",
            "/v1/participants:create",
            "/v1/participants:batchcreate",
            "/v1/participants/a:b",
            "/participants.v1.ParticipantService/CreateParticipant",
            "/v1/participants%2Fa",
            "/v1/participants/%2e%2e/x",
            "/etc/passwd",
            "/%ff%00",
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    def test_an_unknown_path_is_not_found(self, client: httpx.Client, method: str, path: str) -> None:
        response = client.request(method, path, headers=JSON, content=b"{}")
        assert (response.status_code, error(response)["code"]) == (404, "not_found")

    @pytest.mark.parametrize(
        ("path", "allowed"),
        [
            (PATH, "GET, POST"),
            (f"{PATH}:batchCreate", "POST"),
            (f"{PATH}:lookup", "GET"),
            (f"{PATH}/550e8400-e29b-41d4-a716-446655440000", "DELETE, GET, PATCH"),
            (f"{PATH}/550e8400-e29b-41d4-a716-446655440000/status", "PATCH"),
            (f"{PATH}/a/programs/b", "DELETE, PUT"),
            ("/livez", "GET"),
            ("/readyz", "GET"),
            ("/metrics", "GET"),
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_a_method_that_a_path_does_not_have_is_refused(
        self, client: httpx.Client, method: str, path: str, allowed: str
    ) -> None:
        response = client.request(method, path, headers=JSON, content=b"{}")
        if method in allowed.split(", "):
            assert response.status_code != 405
        else:
            assert (response.status_code, error(response)["code"]) == (405, "method_not_allowed")
            assert response.headers["allow"] == allowed

    def test_a_percent_encoded_id_is_the_same_id(self, client: httpx.Client, external_id: str) -> None:
        created = post_json(client, {"external_id": external_id}).json()
        encoded = "".join(f"%{ord(character):02X}" for character in created["id"])
        assert client.get(f"{PATH}/{encoded}").json() == created

    @pytest.mark.parametrize("participant_id", ["%00", "%FF", "%F0%9F%98%80", "%", "%zz", "%27%3B--", "%20", "a%2Fb"])
    def test_an_encoded_id_that_is_no_uuid_is_a_bad_request(self, client: httpx.Client, participant_id: str) -> None:
        assert fields(client.get(f"{PATH}/{participant_id}")) == [("id", "STRING_UUID")]

    def test_an_id_in_capitals_is_the_same_id(self, client: httpx.Client, external_id: str) -> None:
        created = post_json(client, {"external_id": external_id}).json()
        assert client.get(f"{PATH}/{created['id'].upper()}").json() == created

    def test_an_encoded_slash_divides_nothing(self, client: httpx.Client, external_id: str) -> None:
        assert fields(client.get(f"{PATH}/a%2Fstatus")) == [("id", "STRING_UUID")]
        assert fields(client.put(f"{PATH}/a%2Fb/programs/c%2Fd")) == [
            ("id", "STRING_UUID"),
            ("program_id", "STRING_UUID"),
        ]
        with_slash = f"{external_id}/a?b&c=%d"
        created = post_json(client, {"external_id": with_slash}).json()
        assert client.get(f"{PATH}:lookup", params={"external_id": with_slash}).json() == created

    def test_a_field_of_the_path_is_no_field_of_the_body(self, client: httpx.Client, external_id: str) -> None:
        created = post_json(client, {"external_id": external_id}).json()
        path = f"{PATH}/{created['id']}"
        assert fields(client.patch(path, json={"id": created["id"]})) == [("id", "DUPLICATE_FIELD")]
        assert client.patch(path, json={"first_name": "Jane"}).json()["first_name"] == "Jane"

    def test_an_empty_answer_has_no_content(self, client: httpx.Client, external_id: str) -> None:
        created = post_json(client, {"external_id": external_id}).json()
        response = client.delete(f"{PATH}/{created['id']}")
        assert (response.status_code, response.content) == (204, b"")
        assert not {"content-type", "content-length", "transfer-encoding"} & set(response.headers)
        assert client.get(f"{PATH}/{created['id']}").status_code == 404

    @pytest.mark.parametrize(
        ("query", "violation"),
        [
            ("page_size=x", ("page_size", "WRONG_TYPE")),
            ("page_size=1&page_size=2", ("page_size", "DUPLICATE_PARAMETER")),
            ("status=GOLD", ("status", "WRONG_TYPE")),
            ("created_after=today", ("created_after", "WRONG_TYPE")),
            # A plus sign is a space there.
            ("created_after=2026-01-31T09:00:00+01:00", ("created_after", "WRONG_TYPE")),
            ("pageSize=1", ("pageSize", "UNKNOWN_PARAMETER")),
            ("id=1", ("id", "UNKNOWN_PARAMETER")),
        ],
    )
    def test_a_bad_parameter_is_refused_by_name(
        self, client: httpx.Client, query: str, violation: tuple[str, str]
    ) -> None:
        assert fields(client.get(f"{PATH}?{query}")) == [violation]

    def test_a_query_may_end_with_an_ampersand(self, client: httpx.Client) -> None:
        assert client.get(f"{PATH}?page_size=1&").status_code == 200

    def test_parameters_narrow_a_list(self, client: httpx.Client, external_id: str) -> None:
        created = post_json(client, {"external_id": external_id, "status": "SUSPENDED"}).json()
        query = {"external_id_prefix": external_id, "status": "SUSPENDED", "created_before": "2999-01-01T00:00:00Z"}
        assert client.get(PATH, params=query).json() == {"participants": [created], "next_page_token": ""}
        assert client.get(PATH, params={**query, "status": "CLOSED"}).json()["participants"] == []

    def test_a_basic_answer_says_nothing_of_what_was_not_asked_for(
        self, client: httpx.Client, external_id: str
    ) -> None:
        body = {"requests": [{"external_id": external_id, "first_name": "Jane"}, {}], "view": "BASIC"}
        [created, refused] = client.post(f"{PATH}:batchCreate", json=body).json()["results"]
        assert set(created) == {"participant", "result"}
        assert set(created["participant"]) == {"id", "external_id", "etag"}
        assert refused["status"]["code"] == 3

    @pytest.mark.parametrize("query", ["external_id=x", "alt=json", "x"])
    def test_a_query_string_is_refused_by_name(self, client: httpx.Client, external_id: str, query: str) -> None:
        location = post_json(client, {"external_id": external_id}).headers["location"]
        name = query.partition("=")[0]
        assert fields(client.get(f"{location}?{query}")) == [(name, "UNKNOWN_PARAMETER")]
        response = client.post(f"{PATH}?{query}", json={"external_id": external_id})
        assert fields(response) == [(name, "UNKNOWN_PARAMETER")]

    @pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/participants/550e8400-e29b-41d4-a716-446655440000"])
    def test_head_answers_what_get_does_without_the_body(self, client: httpx.Client, path: str) -> None:
        get, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-length"] == get.headers["content-length"]

    def test_the_connection_is_in_step_after_head(self, client: httpx.Client) -> None:
        assert client.head(f"{PATH}:batchCreate").status_code == 405
        assert client.get("/livez").json() == {"status": "live"}


class TestHeaders:
    """Request ids, and what an answer to a caller without a key says."""

    @pytest.mark.parametrize("request_id", ["a", "5c1b-42", "Root=1-67891233-abcdef", "a.b_c:d/e+f=", "x" * 128])
    def test_a_sane_request_id_comes_back(self, client: httpx.Client, request_id: str) -> None:
        for path in ("/livez", "/nowhere", f"{PATH}/x"):
            assert client.get(path, headers={"x-request-id": request_id}).headers["x-request-id"] == request_id

    @pytest.mark.parametrize("request_id", ["", "x" * 129, "a b", "a;b", "<script>", "%0d%0a", "\u00e9"])
    def test_any_other_request_id_is_replaced(self, client: httpx.Client, request_id: str) -> None:
        response = client.get("/livez", headers={b"x-request-id": request_id.encode()})
        assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])

    def test_every_request_without_an_id_gets_one_of_its_own(self, client: httpx.Client) -> None:
        assert client.get("/livez").headers["x-request-id"] != client.get("/livez").headers["x-request-id"]

    @pytest.mark.parametrize("key", ["", "sk_", "nothing"])
    def test_a_caller_without_a_key_is_told_the_scheme(self, client: httpx.Client, key: str) -> None:
        response = client.post(PATH, json={"external_id": "x"}, headers={"x-api-key": key})
        assert (response.status_code, error(response)["code"]) == (401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"

    def test_a_caller_without_a_key_learns_nothing_about_its_request(self, client: httpx.Client) -> None:
        for body in (b"{}", b"not JSON", b'{"external_id": "x", "unknown": 1}'):
            response = post(client, body, **{"x-api-key": "sk_"})
            assert (response.status_code, "details" in error(response)) == (401, False)

    def test_errors_that_have_no_details_leave_them_out(self, client: httpx.Client) -> None:
        assert set(error(client.get(f"{PATH}/{uuid4()}"))) == {"code", "message"}

    @pytest.mark.parametrize(
        "request_",
        [
            "nonsense\r\n\r\n",
            "GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
            f"POST {PATH} HTTP/1.1\r\ncontent-length: {10**30}\r\n\r\n",
            f"POST {PATH} HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        ],
    )
    def test_what_is_not_http_is_answered_in_the_same_shape(self, deployment: Deployment, request_: str) -> None:
        head, _, body = sent_raw(deployment, request_.encode()).decode().partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 400 ")
        assert "x-request-id: " in head
        assert json.loads(body)["code"] == "bad_request"

    def test_an_upgrade_is_not_made(self, client: httpx.Client) -> None:
        response = client.get("/livez", headers={"connection": "upgrade", "upgrade": "websocket"})
        assert (response.status_code, response.json()) == (200, {"status": "live"})

    def test_http_1_0_is_answered(self, deployment: Deployment) -> None:
        assert sent_raw(deployment, b"GET /livez HTTP/1.0\r\n\r\n").endswith(b'{"status":"live"}')


class TestDeadline:
    """A caller may say how long it waits."""

    @pytest.mark.parametrize(
        "headers",
        [
            {"x-request-timeout": "0"},
            {"x-request-timeout": "0.000001"},
            {"grpc-timeout": "0S"},
            {"grpc-timeout": "1n"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize(
        "call",
        [
            ("POST", "", {"external_id": "{external_id}", "phone": "2"}),
            ("POST", ":batchCreate", {"requests": [{"external_id": "{external_id}", "phone": "2"}]}),
            ("PATCH", "/{id}", {"phone": "2"}),
            ("PATCH", "/{id}/status", {"status": "CLOSED"}),
            ("PUT", "/{id}/programs/{other}", None),
            ("DELETE", "/{id}/programs/{program}", None),
            ("DELETE", "/{id}", None),
        ],
        ids=lambda call: " ".join(call[:2]),
    )
    def test_what_comes_too_late_is_not_written(
        self,
        deployment: Deployment,
        client: httpx.Client,
        external_id: str,
        call: tuple[str, str, Any],
        headers: dict[str, str],
    ) -> None:
        method, path, body = call
        tenant = deployment.tenant
        before = post_json(client, {"external_id": external_id, "program_id": tenant.program_id}).json()
        path = path.format(id=before["id"], program=tenant.program_id, other=tenant.other_program_id)
        content = json.dumps(body).replace("{external_id}", external_id) if body else None
        response = client.request(method, PATH + path, content=content, headers={**JSON, **headers})
        # A batch may also be answered, with this for each item.
        assert response.status_code == 504 or (response.status_code, path) == (200, ":batchCreate")
        assert "the deadline has passed" in response.text
        assert client.get(f"{PATH}/{before['id']}").json() == before

    @pytest.mark.parametrize(
        "headers", [{"x-request-timeout": "2.5"}, {"grpc-timeout": "5S"}, {"grpc-timeout": "99999999H"}], ids=str
    )
    def test_what_comes_in_time_is_answered(
        self, client: httpx.Client, external_id: str, headers: dict[str, str]
    ) -> None:
        assert post(client, json.dumps({"external_id": external_id}), **headers).status_code == 201

    @pytest.mark.parametrize("value", ["", "-1", "1x", "nan", "inf", "1e3", "1_0", "\u0661", "1" * 20])
    def test_a_bad_timeout_is_refused_by_name(self, client: httpx.Client, external_id: str, value: str) -> None:
        for name in ("x-request-timeout", "grpc-timeout"):
            headers = {name.encode(): value.encode()}
            response = client.post(PATH, json={"external_id": external_id}, headers=headers)
            assert fields(response) == [(name, "MALFORMED_HEADER")]


class TestEncoding:
    """Bodies are taken as they are."""

    @pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, identity", "x"])
    def test_a_coded_body_is_refused_in_words_of_its_own(self, client: httpx.Client, encoding: str) -> None:
        response = post(client, gzip.compress(b"{}"), **{"content-encoding": encoding})
        assert (response.status_code, error(response)["code"]) == (415, "unsupported_media_type")
        assert "Content-Encoding" in error(response)["message"]

    def test_identity_is_no_coding(self, client: httpx.Client, external_id: str) -> None:
        body = json.dumps({"external_id": external_id})
        assert post(client, body, **{"content-encoding": "identity"}).status_code == 201

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b'{"external_id": "a",}', "a trailing comma at line 1, column 21"),
            (b'{\n  "external_id": "a",\n  "tags": ["x",]\n}', "a trailing comma at line 3, column 16"),
            (b'{\n  external_id: "a"}', "at line 2, column 3"),
            (b'{"external_id": "a"', "it ends too early at line 1, column 20"),
            ("\ufeff{}".encode(), "a byte order mark at line 1, column 1"),
            (b'{"external_id": "\xff"}', "byte 18"),
        ],
        ids=str,
    )
    def test_it_is_said_where_a_body_is_no_json(self, client: httpx.Client, body: bytes, message: str) -> None:
        assert message in error(post(client, body))["message"]


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE participants; --",
        '"',
        "\\",
        "%s",
        "%(upserts)s",
        "$1",
        "{}",
        "{0}",
        "\u2028",
        "<b>",
        "NULL",
        "\x01",
    ],
    ids=ascii,
)
def test_no_text_means_anything_to_the_database(client: httpx.Client, text: str) -> None:
    unique = f"{text}{uuid4()}{text}"
    sent = {"external_id": unique, "first_name": text, "attributes": {text: text}, "tags": [text.lower()]}
    created = post_json(client, sent)
    assert created.status_code == 201
    assert {name: created.json()[name] for name in sent} == sent
    assert client.get(created.headers["location"]).json() == created.json()
