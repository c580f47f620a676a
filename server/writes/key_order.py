"""Order per key: of the upserts of one key at most one is active, and the others follow in order of arrival."""

from __future__ import annotations

from collections import deque

from server.writes.pending import Key, PendingUpsert

# In place of the followers of a key that has no active upsert.
_NOBODY: deque[PendingUpsert] = deque()


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
        key, active = pending.key, len(self._followers)
        # One look at the key, which takes longer to hash than to compare.
        followers = self._followers.setdefault(key, None)
        if len(self._followers) > active:
            return True
        if followers is None:
            followers = self._followers[key] = deque()
        followers.append(pending)
        return False

    def leave(self, key: Key) -> PendingUpsert | None:
        """Ends the active upsert of a key, and returns the one that is active now, if any."""
        followers = self._followers.pop(key)
        if not followers:
            return None
        self._followers[key] = followers
        return followers.popleft()

    def following(self, key: Key) -> int:
        """Returns how many upserts a new one of this key would come after."""
        followers = self._followers.get(key, _NOBODY)
        if followers is _NOBODY:
            return 0
        return 1 + len(followers or ())
