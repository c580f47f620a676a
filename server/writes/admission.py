"""Room for what waits: bounded, and shared so that one organization cannot take it from another."""

from __future__ import annotations

from dataclasses import dataclass

from server.writes.pending import PendingUpsert

# Seconds of work, and a bounded amount of memory.
MAX_UPSERTS = 20_000
MAX_BYTES = 64 << 20


@dataclass(slots=True)
class _Held:
    upserts: int = 0
    size: int = 0


class Admission:
    """Counts what is held. An organization may hold as much as is left free, and no more.

    So its share shrinks as the room fills: one that floods alone holds half, two that flood a third each, and a
    newcomer always finds as much as each of those has.
    """

    def __init__(self, max_upserts: int = MAX_UPSERTS, max_bytes: int = MAX_BYTES) -> None:
        self._free = _Held(max_upserts, max_bytes)
        self._held: dict[str, _Held] = {}

    def admit(self, pending: PendingUpsert) -> bool:
        """Makes room for an upsert, or tells that there is none for its organization."""
        held = self._held.get(pending.organization_id)
        if held is None:
            held = self._held[pending.organization_id] = _Held()
        free = self._free
        # Whoever holds nothing may hold one upsert, as long as there is any room at all.
        if free.upserts <= held.upserts or (held.upserts and free.size - pending.size < held.size):
            if not held.upserts:
                del self._held[pending.organization_id]
            return False
        held.upserts += 1
        held.size += pending.size
        free.upserts -= 1
        free.size -= pending.size
        return True

    def release(self, pending: PendingUpsert) -> None:
        """Gives the room of an upsert back."""
        held = self._held[pending.organization_id]
        held.upserts -= 1
        held.size -= pending.size
        if not held.upserts:
            del self._held[pending.organization_id]
        self._free.upserts += 1
        self._free.size += pending.size
