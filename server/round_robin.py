"""Items that wait, of several callers, of whom each has one in turn."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class RoundRobin(Generic[T]):
    """A queue for each caller. `size` is how many items wait in all."""

    def __init__(self) -> None:
        # By caller, in the order of their turns. None of these is empty.
        self._queues: OrderedDict[str, deque[T]] = OrderedDict()
        self.size = 0

    def add(self, caller: str, item: T, *, first: bool = False) -> None:
        """Puts an item behind the others of its caller, or before them."""
        queue = self._queues.get(caller)
        if queue is None:
            self._queues[caller] = deque((item,))
        elif first:
            queue.appendleft(item)
        else:
            queue.append(item)
        self.size += 1

    def take(self) -> T:
        """Takes out the item whose turn it is. There has to be one."""
        queues = self._queues
        caller, queue = next(iter(queues.items()))
        item = queue.popleft()
        if not queue:
            del queues[caller]
        elif len(queues) > 1:
            queues.move_to_end(caller)
        self.size -= 1
        return item

    def of(self, caller: str) -> int:
        """Returns how many items of a caller wait."""
        return len(self._queues.get(caller, ()))

    def has_room(self, caller: str, most: int) -> bool:
        """Tells whether one more of a caller may wait, where so many may in all, and of each as many as it leaves free:
        so it takes more than a few to fill all places."""
        return self.of(caller) < most - self.size

    def ahead(self, caller: str) -> int:
        """Returns how many items have their turn before a new one of this caller, at the most."""
        own = self.of(caller)
        others = sum(min(len(queue), own + 1) for key, queue in self._queues.items() if key != caller)
        return own + others
