"""What the authenticator asks of the place where keys are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from server.auth.keys import KeyRecord, KeyReference


class KeyStore(Protocol):
    """Where key records are kept. Raises Unavailable when it cannot be reached."""

    async def find(self, keys: Sequence[KeyReference]) -> Mapping[KeyReference, KeyRecord]:
        """Returns the records of those keys that exist."""

    async def mark_used(self, used: Mapping[KeyReference, datetime]) -> None:
        """Keeps when keys, at least one, were last used. It is a help to operators: what fails is let go."""
