"""Room for what waits: bounded, and shared so that one organization cannot take it from another."""

from __future__ import annotations

from dataclasses import dataclass

from server.writes.pending import PendingUpsert

# Seconds of work, and a bounded amount of memory.
MAX_UPSERTS = 20_000
MAX_BYTES = 64 << 20


@dataclass(slots=True)
class _Held:
    upserts: int
    size: int


class Admission:
    """Counts what is held. An organization may hold as much as is left free, and no more.

    So its share shrinks as the room fills: one that floods alone holds half, two that flood a third each, and a
    newcomer always finds as much as each of those has.
    """

    def __init__(self, max_upserts: int = MAX_UPSERTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._free = _Held(max_upserts, max_bytes)
        self._held: dict[str, _Held] = {}

    @property
    def held_bytes(self) -> int:
        """How much memory is held by all organizations."""
        return self._max_bytes - self._free.size

    def admit(self, pending: PendingUpsert) -> bool:
        """Makes room for an upsert, or tells that there is none for its organization."""
        organization_id, size, free = pending.organization_id, pending.upsert.size, self._free
        held = self._held.get(organization_id)
        if held is None:
            if free.upserts <= 0 or free.size < size:
                return False
            self._held[organization_id] = _Held(1, size)
        elif free.upserts <= held.upserts or free.size - size < held.size:
            return False
        else:
            held.upserts += 1
            held.size += size
        free.upserts -= 1
        free.size -= size
        return True

    def release(self, pending: PendingUpsert) -> None:
        """Gives the room of an upsert back."""
        held = self._held[pending.organization_id]
        held.upserts -= 1
        held.size -= pending.upsert.size
        if not held.upserts:
            del self._held[pending.organization_id]
        self._free.upserts += 1
        self._free.size += pending.upsert.size
