"""What a key looks like, and which are refused without a look-up."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from uuid import UUID, uuid4
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from server.auth.keys import DIGITS, KeyReference, new_key, reference


@given(st.uuids())
def test_a_new_key_says_where_its_record_is(organization_id: UUID) -> None:
    made, key = new_key(str(organization_id))
    assert re.fullmatch(r"sk_[0-9A-Za-z]{71}", key)
    assert reference(key) == made == KeyReference(str(organization_id), made.key_id)


def test_the_last_six_characters_are_the_crc_32_of_the_others() -> None:
    _, key = new_key(str(uuid4()))
    checksum = 0
    for digit in key[-6:]:
        checksum = checksum * 62 + DIGITS.index(digit)
    assert checksum == crc32(key[:-6].encode())


@given(st.data())
def test_a_key_with_one_wrong_character_is_none_of_ours(data: st.DataObject) -> None:
    _, key = new_key(str(uuid4()))
    place = data.draw(st.integers(3, len(key) - 1))
    other = data.draw(st.sampled_from([digit for digit in DIGITS if digit != key[place]]))
    assert reference(key[:place] + other + key[place + 1 :]) is None


def test_a_body_of_more_than_48_bytes_is_none_of_ours() -> None:
    unchecked = "sk_" + "z" * 65
    checksum, number = "", crc32(unchecked.encode())
    for _ in range(6):
        number, value = divmod(number, 62)
        checksum = DIGITS[value] + checksum
    assert reference(unchecked + checksum) is None


def test_a_key_from_before_the_checksum_is_still_a_key() -> None:
    organization_id = uuid4()
    key = "sk_" + urlsafe_b64encode(organization_id.bytes + bytes(range(32))).decode()
    assert reference(key) == KeyReference(str(organization_id), "0001020304050607")


@given(st.text())
def test_anything_else_is_none_of_ours(text: str) -> None:
    assert reference(text) is None
