"""A queue that is fair by organization: each has its turn, however many upserts another one has waiting."""

from __future__ import annotations

from collections import OrderedDict, deque

from server.writes.pending import PendingUpsert


class FairQueue:
    """Upserts that wait for a statement."""

    def __init__(self) -> None:
        # By organization, in the order of their turns. None of these is empty.
        self._queues: OrderedDict[str, deque[PendingUpsert]] = OrderedDict()
        # Those that are to be written alone.
        self._alone: deque[PendingUpsert] = deque()
        # How many wait that may share a statement.
        self.size = 0

    @property
    def alone(self) -> int:
        """How many wait to be written alone."""
        return len(self._alone)

    def add(self, pending: PendingUpsert, *, first: bool = False) -> None:
        """Puts an upsert behind the others of its organization, or before them."""
        if pending.alone:
            self._alone.append(pending)
            return
        organization_id = pending.key[0]
        queue = self._queues.get(organization_id)
        if queue is None:
            self._queues[organization_id] = deque((pending,))
        elif first:
            queue.appendleft(pending)
        else:
            queue.append(pending)
        self.size += 1

    def take(self, upserts: int, size: int) -> list[PendingUpsert]:
        """Takes out what goes next: one of each organization in turn, until there are so many upserts or bytes."""
        group: list[PendingUpsert] = []
        queues = self._queues
        taken = 0
        while queues and len(group) < upserts and taken < size:
            organization_id, queue = next(iter(queues.items()))
            pending = queue.popleft()
            if not queue:
                del queues[organization_id]
            elif len(queues) > 1:
                queues.move_to_end(organization_id)
            group.append(pending)
            taken += pending.upsert.size
        self.size -= len(group)
        return group

    def take_alone(self) -> PendingUpsert:
        """Takes out the next one that is to be written alone."""
        return self._alone.popleft()

    def ahead(self, organization_id: str) -> int:
        """Returns how many upserts have their turn before a new one of this organization, at the most."""
        own = self._queues.get(organization_id, ())
        turns = len(own) + 1
        others = sum(min(len(queue), turns) for key, queue in self._queues.items() if key != organization_id)
        return len(own) + others
