"""Every rule for what a request may hold, at its edges, through both clients."""

from __future__ import annotations

import json
from base64 import b64encode
from string import punctuation
from typing import Any, ClassVar
from urllib.parse import quote

import grpc
import psycopg
import pytest
from participants.v1 import participant_service_pb2 as messages

from tests.conftest import Deployment
from tests.support.clients import Client, GrpcClient, Reply

# One code point in two UTF-16 units and four bytes of UTF-8: only who counts code points counts it once.
EMOJI = "\U0001f600"
NAMES = ["display_name", "first_name", "last_name"]
PROFILE = [*NAMES, "email", "phone"]


def email_of(length: int) -> str:
    """Returns a valid e-mail address of this length; labels of a domain have at most 63 characters."""
    domain = ".".join(["d" * 60] * 4)[: length - 20]
    return "j" * (length - len(domain) - 1) + "@" + domain


def refused(reply: Reply) -> list[tuple[str, str]]:
    """Returns the violations of a request that was refused."""
    assert reply.code == "INVALID_ARGUMENT"
    return sorted(reply.violations)


@pytest.mark.parametrize("character", ["x", EMOJI])
@pytest.mark.parametrize("length", [1, 255])
def test_an_external_id_may_have_1_to_255_code_points(client: Client, character: str, length: int) -> None:
    reply = client.create({"external_id": character * length})
    assert (reply.code, reply.participant["external_id"]) == ("OK", character * length)


@pytest.mark.parametrize("request_", [{}, {"external_id": ""}], ids=["absent", "empty"])
def test_an_external_id_is_required(client: Client, request_: dict[str, str]) -> None:
    assert refused(client.create(request_)) == [("external_id", "STRING_MIN_LEN")]


@pytest.mark.parametrize("character", ["x", EMOJI])
def test_an_external_id_of_256_code_points_is_refused(client: Client, character: str) -> None:
    assert refused(client.create({"external_id": character * 256})) == [("external_id", "STRING_MAX_LEN")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [1, 255])
@pytest.mark.parametrize("character", ["x", EMOJI])
def test_a_name_may_have_255_code_points(
    client: Client, external_id: str, name: str, length: int, character: str
) -> None:
    reply = client.create({"external_id": external_id, name: character * length})
    assert (reply.code, reply.participant[name]) == ("OK", character * length)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("character", ["x", EMOJI])
def test_a_name_of_256_code_points_is_refused(client: Client, external_id: str, name: str, character: str) -> None:
    reply = client.create({"external_id": external_id, name: character * 256})
    assert refused(reply) == [(name, "STRING_MAX_LEN")]


@pytest.mark.parametrize("character", ["5", EMOJI])
def test_a_phone_may_have_50_code_points_and_no_more(client: Client, external_id: str, character: str) -> None:
    reply = client.create({"external_id": external_id, "phone": character * 50})
    assert (reply.code, reply.participant["phone"]) == ("OK", character * 50)
    reply = client.create({"external_id": external_id, "phone": character * 51})
    assert refused(reply) == [("phone", "STRING_MAX_LEN")]


@pytest.mark.parametrize(
    "email", ["a@b", "jane.doe+tag@example.co.uk", "j@xn--bcher-kva.example", "o'hara@example.com", email_of(255)]
)
def test_an_email_is_an_address(client: Client, external_id: str, email: str) -> None:
    reply = client.create({"external_id": external_id, "email": email})
    assert (reply.code, reply.participant["email"]) == ("OK", email)


@pytest.mark.parametrize(
    "email",
    [
        "jane",
        "jane@",
        "@example.com",
        "jane@@example.com",
        "jane doe@example.com",
        " jane@example.com",
        "jane@ex_ample",
    ],
)
def test_an_email_that_is_no_address_is_refused(client: Client, external_id: str, email: str) -> None:
    reply = client.create({"external_id": external_id, "email": email})
    assert refused(reply) == [("email", "STRING_EMAIL_OR_EMPTY")]


def test_an_email_of_256_code_points_is_refused(client: Client, external_id: str) -> None:
    reply = client.create({"external_id": external_id, "email": email_of(256)})
    assert refused(reply) == [("email", "STRING_MAX_LEN")]


@pytest.mark.parametrize("program_id", ["", "demo", "550e8400-e29b-41d4-a716-44665544000", "{}", "%s"])
def test_a_program_id_is_a_uuid(client: Client, external_id: str, program_id: str) -> None:
    reply = client.create({"external_id": external_id, "program_id": program_id})
    assert reply.code == "INVALID_ARGUMENT"
    assert reply.fields == ["program_id"]


@pytest.mark.parametrize("participant_id", ["demo", "550e8400-e29b-41d4-a716-44665544000", "0", "%00"])
def test_a_participants_id_is_a_uuid(client: Client, participant_id: str) -> None:
    assert refused(client.get(participant_id)) == [("id", "STRING_UUID")]


@pytest.mark.parametrize("status", [4, -1, 2**31 - 1, -(2**31)])
def test_a_status_is_one_that_is_defined(client: Client, external_id: str, status: int) -> None:
    reply = client.create({"external_id": external_id, "status": status})
    assert refused(reply) == [("status", "ENUM_DEFINED_ONLY")]


@pytest.mark.parametrize("character", ["x", EMOJI])
def test_attributes_of_the_greatest_lengths_are_kept(client: Client, external_id: str, character: str) -> None:
    attributes = {character: "", character * 255: character * 4096}
    reply = client.create({"external_id": external_id, "attributes": attributes})
    assert (reply.code, reply.participant["attributes"]) == ("OK", attributes)


@pytest.mark.parametrize("character", ["x", EMOJI])
def test_an_attribute_that_is_too_long_is_refused(client: Client, external_id: str, character: str) -> None:
    key = character * 256
    reply = client.create({"external_id": external_id, "attributes": {"plan": character * 4097, key: "x"}})
    assert refused(reply) == [
        ('attributes["plan"]', "STRING_MAX_LEN"),
        (f'attributes["{key}"]', "STRING_MAX_LEN"),
    ]


def test_an_attribute_without_a_key_is_refused(client: Client, external_id: str) -> None:
    reply = client.create({"external_id": external_id, "attributes": {"": "x"}})
    assert refused(reply) == [('attributes[""]', "STRING_MIN_LEN")]


def test_256_attributes_are_kept_and_257_refused(client: Client, external_id: str) -> None:
    attributes = {f"key-{number}": str(number) for number in range(256)}
    reply = client.create({"external_id": external_id, "attributes": attributes})
    assert (reply.code, reply.participant["attributes"]) == ("OK", attributes)
    reply = client.create({"external_id": external_id, "attributes": {**attributes, "one more": ""}})
    assert refused(reply) == [("attributes", "MAP_MAX_PAIRS")]


def test_a_participant_has_at_most_256_attributes_over_all_upserts(client: Client, external_id: str) -> None:
    # As small as attributes can be: they are counted whatever their size.
    first = {chr(ord("A") + number): "" for number in range(200)}
    second = {chr(ord("A") + number): "2" for number in range(150, 256)}
    client.create({"external_id": external_id, "attributes": first})
    full = client.create({"external_id": external_id, "attributes": second})
    assert full.participant["attributes"] == {**first, **second}
    reply = client.create({"external_id": external_id, "first_name": "Jane", "attributes": {"one more": ""}})
    assert refused(reply) == [("attributes", "TOO_MANY_ATTRIBUTES")]
    assert client.get(full.participant["id"]).participant == full.participant


def test_a_participant_with_256_attributes_can_still_change(client: Client, external_id: str) -> None:
    attributes = {f"key-{number}": "1" for number in range(256)}
    client.create({"external_id": external_id, "attributes": attributes})
    reply = client.create({"external_id": external_id, "first_name": "Jane", "attributes": {"key-0": "2"}})
    assert (reply.code, reply.participant["first_name"]) == ("OK", "Jane")
    assert reply.participant["attributes"] == {**attributes, "key-0": "2"}


@pytest.mark.parametrize("character", ["x", EMOJI])
@pytest.mark.parametrize("length", [1, 255])
def test_a_tag_may_have_1_to_255_code_points(client: Client, external_id: str, character: str, length: int) -> None:
    reply = client.create({"external_id": external_id, "tags": [character * length]})
    assert (reply.code, reply.participant["tags"]) == ("OK", [character * length])


@pytest.mark.parametrize("character", ["x", EMOJI])
def test_a_tag_that_is_empty_or_too_long_is_refused(client: Client, external_id: str, character: str) -> None:
    reply = client.create({"external_id": external_id, "tags": ["", "fine", character * 256]})
    assert refused(reply) == [("tags[0]", "STRING_MIN_LEN"), ("tags[2]", "STRING_MAX_LEN")]


def test_a_tag_that_becomes_too_long_in_lower_case_is_refused(client: Client, external_id: str) -> None:
    # U+0130 is two code points in lower case.
    fits, grows = "\u0130" + "x" * 253, "\u0130" + "x" * 254
    reply = client.create({"external_id": external_id, "tags": [fits]})
    assert (reply.code, reply.participant["tags"]) == ("OK", ["i\u0307" + "x" * 253])
    reply = client.create({"external_id": external_id, "tags": ["vip", grows, fits, grows]})
    assert refused(reply) == [("tags[1]", "STRING_MAX_LEN"), ("tags[3]", "STRING_MAX_LEN")]


def test_256_tags_are_kept_and_257_refused(client: Client, external_id: str) -> None:
    tags = [f"tag-{number}" for number in range(256)]
    reply = client.create({"external_id": external_id, "tags": tags})
    assert (reply.code, reply.participant["tags"]) == ("OK", tags)
    reply = client.create({"external_id": external_id, "tags": [*tags, "tag-0"]})
    assert refused(reply) == [("tags", "REPEATED_MAX_ITEMS")]


@pytest.mark.parametrize("name", ["external_id", *NAMES, "phone"])
@pytest.mark.parametrize("text", ["\0", "a\0b", "\0x", "x\0"], ids=ascii)
def test_u0000_is_refused_in_a_field(client: Client, external_id: str, name: str, text: str) -> None:
    reply = client.create({"external_id": external_id, name: text})
    assert refused(reply) == [(name, "STRING_NOT_CONTAINS")]
    assert "\0" not in reply.message
    assert "U+0000" in reply.message


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"email": "jane\0@example.com"}, "email"),
        ({"program_id": "550e8400-e29b-41d4-a716-44665544000\0"}, "program_id"),
        ({"attributes": {"a\0b": "x"}}, 'attributes["a\\u0000b"]'),
        ({"attributes": {"plan": "\0"}}, 'attributes["plan"]'),
        ({"tags": ["vip", "\0"]}, "tags[1]"),
    ],
    ids=["email", "program_id", "attribute key", "attribute value", "tag"],
)
def test_u0000_is_refused_wherever_it_hides(
    client: Client, external_id: str, request_: dict[str, Any], field: str
) -> None:
    reply = client.create({"external_id": external_id, **request_})
    assert reply.code == "INVALID_ARGUMENT"
    assert set(reply.fields) == {field}


def test_every_violation_is_reported_at_once(client: Client) -> None:
    request = {
        "external_id": "",
        "display_name": "x" * 256,
        "email": "jane",
        "first_name": "\0",
        "last_name": EMOJI * 256,
        "phone": "5" * 51,
        "program_id": "demo",
        "status": 9,
        "attributes": {"plan": "x" * 4097, "": "x", 'a"b\\': "\0", "fine": ""},
        "tags": ["vip", "", "x" * 256],
    }
    assert refused(client.create(request)) == sorted(
        [
            ("external_id", "STRING_MIN_LEN"),
            ("display_name", "STRING_MAX_LEN"),
            ("email", "STRING_EMAIL_OR_EMPTY"),
            ("first_name", "STRING_NOT_CONTAINS"),
            ("last_name", "STRING_MAX_LEN"),
            ("phone", "STRING_MAX_LEN"),
            ("program_id", "STRING_UUID"),
            ("status", "ENUM_DEFINED_ONLY"),
            ('attributes["plan"]', "STRING_MAX_LEN"),
            ('attributes[""]', "STRING_MIN_LEN"),
            ('attributes["a\\"b\\\\"]', "STRING_NOT_CONTAINS"),
            ("tags[1]", "STRING_MIN_LEN"),
            ("tags[2]", "STRING_MAX_LEN"),
        ]
    )


def test_an_invalid_request_writes_nothing(client: Client, external_id: str) -> None:
    before = client.create({"external_id": external_id}).participant
    assert client.create({"external_id": external_id, "first_name": "Jane", "phone": "5" * 51}).code != "OK"
    assert client.get(before["id"]).participant == before


@pytest.mark.parametrize("key", ["{}", "\u00e9" * 250 + "{}", EMOJI * 250 + "{}"], ids=["short", "long", "longest"])
def test_hundreds_of_violations_arrive(client: Client, external_id: str, key: str) -> None:
    # gRPC has room for some 8 KiB of them, and names the first.
    attributes = {key.format(number): "\0" for number in range(256)}
    tags = [""] * 256
    reply = client.create({"external_id": external_id, "attributes": attributes, "tags": tags})
    assert reply.code == "INVALID_ARGUMENT"
    assert reply.violations[-1] == ("", "MORE_VIOLATIONS")
    if not isinstance(client, GrpcClient):
        assert len(reply.violations) == 101


@pytest.mark.parametrize("length", [256, 1_000, 10_000, 100_000])
@pytest.mark.parametrize("character", ["x", EMOJI, "\0", '"', "%"], ids=ascii)
def test_a_violation_at_a_key_of_any_length_arrives(
    client: Client, external_id: str, length: int, character: str
) -> None:
    reply = client.create({"external_id": external_id, "attributes": {character * length: "x"}})
    assert reply.code == "INVALID_ARGUMENT"
    assert reply.violations


class TestBounds:
    """A participant as a whole is bounded, in bytes of UTF-8."""

    # 65,536 bytes of keys and values.
    FULL: ClassVar = {f"{number:02}": EMOJI * 1_023 + "xx" for number in range(16)}

    def test_attributes_of_65536_bytes_are_taken(self, client: Client, external_id: str) -> None:
        assert sum(len(f"{key}{value}".encode()) for key, value in self.FULL.items()) == 65_536
        reply = client.create({"external_id": external_id, "attributes": self.FULL})
        assert (reply.code, reply.message) == ("OK", "")
        assert reply.participant["attributes"] == self.FULL

    @pytest.mark.parametrize("first", [{}, FULL], ids=["at once", "by merging"])
    def test_one_byte_more_is_refused(self, client: Client, external_id: str, first: dict[str, str]) -> None:
        before = client.create({"external_id": external_id, "attributes": first}).participant
        attributes = {**self.FULL, "00": self.FULL["00"] + "x"}
        reply = client.create({"external_id": external_id, "first_name": "Jane", "attributes": attributes})
        assert refused(reply) == [("attributes", "ATTRIBUTES_TOO_LARGE")]
        assert client.get(before["id"]).participant == before

    def test_a_new_participant_is_bounded_too(self, client: Client, external_id: str) -> None:
        attributes = {**self.FULL, "more": ""}
        reply = client.create({"external_id": external_id, "attributes": attributes})
        assert refused(reply) == [("attributes", "ATTRIBUTES_TOO_LARGE")]
        assert client.create({"external_id": external_id}).result == "CREATED"

    @pytest.mark.parametrize("existed", [False, True])
    def test_tags_of_16384_bytes_are_taken_and_no_more(self, client: Client, external_id: str, existed: bool) -> None:
        tags = [f"{number:03}" + EMOJI * 63 + "x" for number in range(64)]
        assert sum(len(tag.encode()) for tag in tags) == 16_384
        if existed:
            client.create({"external_id": external_id, "tags": ["vip"]})
        reply = client.create({"external_id": external_id, "tags": [*tags, "y"]})
        assert refused(reply) == [("tags", "TAGS_TOO_LARGE")]
        reply = client.create({"external_id": external_id, "tags": tags})
        assert (reply.code, reply.participant["tags"]) == ("OK", tags)

    def test_what_is_larger_already_stays_readable_and_may_shrink(
        self, client: Client, deployment: Deployment, external_id: str
    ) -> None:
        created = client.create({"external_id": external_id}).participant
        attributes = {**self.FULL, "more": "x" * 100}
        with psycopg.connect(deployment.conninfo, autocommit=True) as connection:
            connection.execute(
                "UPDATE participants SET attributes = %s::jsonb WHERE participant_id = %s",
                (json.dumps(attributes), created["id"]),
            )
        assert client.get(created["id"]).participant["attributes"] == attributes
        assert client.create({"external_id": external_id, "attributes": self.FULL}).code == "OK"
        reply = client.create({"external_id": external_id, "attributes": {"more": "x" * 101}})
        assert refused(reply) == [("attributes", "ATTRIBUTES_TOO_LARGE")]
        attributes["more"] = "x" * 99
        reply = client.create({"external_id": external_id, "attributes": {"more": "x" * 99}})
        assert (reply.code, reply.participant["attributes"]) == ("OK", attributes)


def test_what_grpc_sends_of_an_error_fits_in_8_kib_for_every_client(deployment: Deployment, external_id: str) -> None:
    # Clients that are not built on the same library get binary metadata in base64, and count it so.
    client = GrpcClient(deployment.service.grpc_address, deployment.tenant.key)
    attributes = {f"{EMOJI * 250}{number}": "\0" for number in range(256)}
    with pytest.raises(grpc.RpcError) as raised:
        client.stub.CreateParticipant(
            messages.CreateParticipantRequest(external_id=external_id, attributes=attributes, tags=[""] * 256),
            metadata=(("x-api-key", deployment.tenant.key), ("x-request-id", "r" * 128)),
        )
    client.close()
    error: Any = raised.value
    sent = dict(error.trailing_metadata())
    sent["grpc-message"] = quote(error.details(), safe=punctuation.replace("%", "") + " ")
    sent["grpc-status-details-bin"] = b64encode(sent["grpc-status-details-bin"])
    assert sum(len(name) + len(value) + 32 for name, value in sent.items()) < 8 << 10
