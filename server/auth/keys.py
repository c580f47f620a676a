"""API keys: what one looks like, how one is made, and what of it is stored.

A key is `sk_`, a body and a checksum, as GitHub's tokens are. The body is 48 bytes as 65 digits of base62, most
significant first: the organization's id (16 bytes), the key's own id (8 bytes) and a secret (24 bytes). So a key says
where its record is, and a look-up needs no index over all organizations. The checksum is the CRC-32 (as zlib has it) of
all that stands before it, as 6 digits of base62: garbage is refused without a look-up, and a secret scanner can tell a
key from what only looks like one. The digits are 0-9, A-Z, a-z.

Keys made before had no checksum, and a body of 64 characters of URL-safe base64; they go on working.

Only the SHA-256 of the whole key is stored: the secret has 192 random bits, and a slow hash would add nothing to them.
"""

from __future__ import annotations

import re
import secrets
import string
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID
from zlib import crc32

PREFIX = "sk_"
DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
BODY_BYTES = 48
BODY_DIGITS = 65
CHECKSUM_DIGITS = 6

_KEY = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{BODY_DIGITS}}})([0-9A-Za-z]{{{CHECKSUM_DIGITS}}})", re.ASCII)
_KEY_WITHOUT_CHECKSUM = re.compile(rf"{PREFIX}([A-Za-z0-9_-]{{64}})", re.ASCII)
_VALUES = {digit: value for value, digit in enumerate(DIGITS)}


class KeyReference(NamedTuple):
    """Which key: its organization's id, a UUID in text form, and its own id, 16 hexadecimal digits."""

    organization_id: str
    key_id: str


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored of a key. `expires_at` None never expires."""

    digest: bytes
    expires_at: datetime | None
    revoked: bool


def new_key(organization_id: str) -> tuple[KeyReference, str]:
    """Makes a key for an organization, and returns its reference and the key itself, to be shown once."""
    key_id = secrets.token_bytes(8)
    body = UUID(organization_id).bytes + key_id + secrets.token_bytes(24)
    return KeyReference(organization_id, key_id.hex()), encode(body)


def digest(key: str) -> bytes:
    """Returns what is stored and compared in place of a key."""
    return sha256(key.encode()).digest()


def reference(key: str) -> KeyReference | None:
    """Returns which key this claims to be, or None when it is no key of ours."""
    body = decode(key)
    if body is None:
        return None
    return KeyReference(str(UUID(bytes=body[:16])), body[16:24].hex())


def encode(body: bytes) -> str:
    """Returns the key with this body."""
    unchecked = PREFIX + _base62(int.from_bytes(body), BODY_DIGITS)
    return unchecked + _checksum(unchecked)


def decode(key: str) -> bytes | None:
    """Returns the body of a key, or None when it is no key of ours."""
    if _KEY_WITHOUT_CHECKSUM.fullmatch(key):
        return urlsafe_b64decode(key.removeprefix(PREFIX))
    if not _KEY.fullmatch(key) or _checksum(key[:-CHECKSUM_DIGITS]) != key[-CHECKSUM_DIGITS:]:
        return None
    number = 0
    for digit in key[len(PREFIX) : -CHECKSUM_DIGITS]:
        number = number * len(DIGITS) + _VALUES[digit]
    # 65 digits can say more than 48 bytes hold.
    return number.to_bytes(BODY_BYTES) if number < 1 << 8 * BODY_BYTES else None


def _checksum(unchecked: str) -> str:
    return _base62(crc32(unchecked.encode()), CHECKSUM_DIGITS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, value = divmod(number, len(DIGITS))
        digits.append(DIGITS[value])
    return "".join(reversed(digits))
