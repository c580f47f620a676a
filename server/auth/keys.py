"""API keys: what one looks like, how one is made, and what of it is stored.

A key is `sk_` and 64 characters of URL-safe base64: the organization's id (16 bytes), the key's own id (8 bytes) and
a secret (24 bytes). So a key says where its record is, and a look-up needs no index over all organizations. Only the
SHA-256 of the whole key is stored: the secret has 192 random bits, and a slow hash would add nothing to them.
"""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

_TOKEN = re.compile(r"sk_[A-Za-z0-9_-]{64}", re.ASCII)


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
    raw = UUID(organization_id).bytes + key_id + secrets.token_bytes(24)
    return KeyReference(organization_id, key_id.hex()), "sk_" + urlsafe_b64encode(raw).decode()


def digest(key: str) -> bytes:
    """Returns what is stored and compared in place of a key."""
    return sha256(key.encode()).digest()


def reference(key: str) -> KeyReference | None:
    """Returns which key this claims to be, or None when it is no key of ours."""
    if _TOKEN.fullmatch(key) is None:
        return None
    raw = urlsafe_b64decode(key[3:])
    return KeyReference(str(UUID(bytes=raw[:16])), raw[16:24].hex())
