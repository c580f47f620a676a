"""Room for what waits: bounded, and shared so that one organization cannot take it from another."""

from __future__ import annotations

from dataclasses import dataclass

# Seconds of work, and a bounded amount of memory.
MAX_UPSERTS = 20_000
MAX_BYTES = 64 << 20


@dataclass(slots=True)
class _Held:
    upserts: int
    size: int


_NOTHING = _Held(0, 0)


class Admission:
    """Counts what is held. An organization may hold as much as is left free, and no more.

    So its share shrinks as the room fills: one that floods alone holds half, two that flood a third each, and a
    newcomer always finds as much as each of those has.
    """

    def __init__(self, max_upserts: int = MAX_UPSERTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_upserts, self._max_bytes = max_upserts, max_bytes
        self._free = _Held(max_upserts, max_bytes)
        self._held: dict[str, _Held] = {}

    @property
    def held(self) -> tuple[int, int]:
        """How many upserts all organizations hold, and their bytes."""
        return self._max_upserts - self._free.upserts, self._max_bytes - self._free.size

    def admit(self, organization_id: str, upserts: int, size: int) -> bool:
        """Makes room for upserts of so many bytes, or tells that there is none for their organization."""
        free, held = self._free, self._held.get(organization_id, _NOTHING)
        if free.upserts - upserts < held.upserts + upserts or free.size - size < held.size + size:
            return False
        if held is _NOTHING:
            self._held[organization_id] = _Held(upserts, size)
        else:
            held.upserts += upserts
            held.size += size
        free.upserts -= upserts
        free.size -= size
        return True

    def release(self, organization_id: str, upserts: int, size: int) -> None:
        """Gives the room of upserts back."""
        held = self._held[organization_id]
        held.upserts -= upserts
        held.size -= size
        if not held.upserts:
            del self._held[organization_id]
        self._free.upserts += upserts
        self._free.size += size
