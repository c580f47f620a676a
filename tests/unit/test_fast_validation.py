"""The quick look at a request: it may be unsure of what is valid, but never sure of what is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from participants.v1.participant_service_pb2 import CreateParticipantRequest

from server.api import conversion
from server.api.validation import validate
from server.errors import InvalidArgument

ORGANIZATION = "01890000-0000-7000-8000-000000000000"
UUID = "0197f2a0-5f5e-7b6e-8b5c-0123456789ab"

# Strings about as long as a limit, of characters that count otherwise in bytes or in a regular expression.
TEXTS = [
    character * length for character in "aé\U0001f600\n" for length in (0, 1, 49, 50, 51, 254, 255, 256, 4096, 4097)
]
TEXTS += ["\0", "a\0", "\0" * 256, " ", "."]
COUNTS = (0, 1, 255, 256, 257)
VALUES: dict[str, list[Any]] = {
    "external_id": TEXTS,
    "display_name": TEXTS,
    "email": TEXTS,
    "first_name": TEXTS,
    "last_name": TEXTS,
    "phone": TEXTS,
    "program_id": [UUID, UUID.upper(), UUID + "\n", UUID[:-1], UUID.replace("-", ""), ""],
    "status": [0, 1, 2, 3, 4, 99, -1],
    "attributes": [
        *({text: "a"} for text in TEXTS),
        *({"a": text} for text in TEXTS),
        *({str(number): "" for number in range(count)} for count in COUNTS),
    ],
    "tags": [*([text] for text in TEXTS), *(["a", text] for text in TEXTS), *(["a"] * count for count in COUNTS)],
}

labels = st.text(st.sampled_from("aZ0-._\né"), max_size=4) | st.sampled_from(["a" * 62, "a" * 63, "a" * 64])
emails = st.builds(lambda name, domain: f"{name}@{'.'.join(domain)}", labels, st.lists(labels, max_size=5))


def is_valid(request: CreateParticipantRequest) -> bool:
    try:
        validate(request)
    except InvalidArgument:
        return False
    return True


def is_sure(request: CreateParticipantRequest) -> bool:
    """Returns whether an upsert is made of the request without asking protovalidate."""
    asked: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "validate", asked.append)
        conversion.upsert_from_request(request, ORGANIZATION)
    return not asked


@pytest.mark.parametrize("name", VALUES)
def test_it_is_sure_of_nothing_that_is_invalid(name: str) -> None:
    for value in VALUES[name]:
        request = CreateParticipantRequest(**{"external_id": "a", name: value})
        assert is_valid(request) or not is_sure(request), value


@given(emails)
def test_it_is_sure_of_no_invalid_email(email: str) -> None:
    request = CreateParticipantRequest(external_id="a", email=email)
    assert is_valid(request) or not is_sure(request)


def test_every_field_was_tried() -> None:
    assert set(VALUES) == {field.name for field in CreateParticipantRequest.DESCRIPTOR.fields}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"display_name": "Zoë " * 60, "first_name": "\U0001f600" * 255, "last_name": "", "phone": "1" * 50},
        {"email": "jane.doe+loyalty@mail.example.com"},
        {"email": ""},
        {"program_id": UUID},
        {"status": 3},
        {"attributes": {f"{number:0255}": "v" * 4096 for number in range(256)}},
        {"tags": [f"{number:0255}" for number in range(256)]},
    ],
)
def test_it_is_sure_of_what_is_common(fields: dict[str, Any]) -> None:
    assert is_sure(CreateParticipantRequest(external_id="x", **fields))


@pytest.mark.parametrize("email", ["o'neill@example.com", "jane@xn--mnchen-3ya.de", f"{'j' * 60}@example.com"])
def test_it_leaves_what_is_rare_to_protovalidate(email: str) -> None:
    request = CreateParticipantRequest(external_id="x", email=email)
    assert is_valid(request)
    assert not is_sure(request)
