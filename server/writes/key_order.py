"""Order per key: of the upserts of one key at most one is active, and the others follow in order of arrival."""

from __future__ import annotations

from collections import deque

from server.writes.pending import Key, PendingUpsert


class KeyOrder:
    """Says which upserts may be written now."""

    def __init__(self) -> None:
        # By the key of an active upsert: those that follow it, None while there are none.
        self._followers: dict[Key, deque[PendingUpsert] | None] = {}

    def __len__(self) -> int:
        """How many upserts are active."""
        return len(self._followers)

    def enter(self, pending: PendingUpsert) -> bool:
        """Takes an upsert in, and tells whether it is active; if not, it follows the others of its key."""
        key = pending.key
        if key not in self._followers:
            self._followers[key] = None
            return True
        followers = self._followers[key]
        if followers is None:
            followers = self._followers[key] = deque()
        followers.append(pending)
        return False

    def leave(self, key: Key) -> PendingUpsert | None:
        """Ends the active upsert of a key, and returns the one that is active now, if any."""
        followers = self._followers[key]
        if followers:
            return followers.popleft()
        del self._followers[key]
        return None

    def following(self, key: Key) -> int:
        """Returns how many upserts a new one of this key would come after."""
        followers = self._followers.get(key, ())
        return (1 if followers is None else 1 + len(followers)) if key in self._followers else 0
