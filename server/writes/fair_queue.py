"""A queue that is fair by organization: each has its turn, however many upserts another one has waiting."""

from __future__ import annotations

from collections import deque

from server.round_robin import RoundRobin
from server.writes.pending import PendingUpsert


class FairQueue:
    """Upserts that wait for a statement."""

    def __init__(self) -> None:
        # By organization.
        self._shared = RoundRobin[PendingUpsert]()
        # Those that are to be written alone.
        self._alone: deque[PendingUpsert] = deque()

    @property
    def size(self) -> int:
        """How many wait that may share a statement."""
        return self._shared.size

    @property
    def alone(self) -> int:
        """How many wait to be written alone."""
        return len(self._alone)

    def add(self, pending: PendingUpsert, *, first: bool = False) -> None:
        """Puts an upsert behind the others of its organization, or before them."""
        if pending.alone:
            self._alone.append(pending)
        else:
            self._shared.add(pending.key[0], pending, first=first)

    def take(self, upserts: int, size: int) -> list[PendingUpsert]:
        """Takes out what goes next: one of each organization in turn, until there are so many upserts or bytes."""
        group: list[PendingUpsert] = []
        shared = self._shared
        taken = 0
        while shared.size and len(group) < upserts and taken < size:
            pending = shared.take()
            group.append(pending)
            taken += pending.upsert.size
        return group

    def take_alone(self) -> PendingUpsert:
        """Takes out the next one that is to be written alone."""
        return self._alone.popleft()

    def ahead(self, organization_id: str) -> int:
        """Returns how many upserts have their turn before a new one of this organization, at the most."""
        return self._shared.ahead(organization_id)
