"""How fast newcomers are accepted: as they come, and while they flood, few at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set

from server.rpc.guard.connections import Connection
from server.rpc.guard.listeners import FEW, FEWEST, SOME, Listeners
from server.rpc.guard.newcomers import MANY, Newcomers
from server.rpc.guard.pressure import Pressure

logger = logging.getLogger(__name__)

# For how long newcomers are held back after they were seen to flood, in seconds.
HELD_FOR = 1.0


class Throttle:
    """Tells by who comes, and what they take, whether newcomers flood. For one thread."""

    def __init__(self, newcomers: Newcomers, listeners: Listeners) -> None:
        self._newcomers = newcomers
        self._listeners = listeners
        # Until when newcomers are held back, and until when as those who may fill the memory.
        self._held_until = self._filled_until = 0.0

    def is_on(self, now: float) -> bool:
        """Tells whether newcomers are held back."""
        return now < self._held_until

    def hold_back(self, now: float, *, fill: bool) -> None:
        """Has few be accepted at a time, and fewer of those who may fill the memory."""
        if not self.is_on(now):
            logger.warning("newcomers flood, and few of them are accepted at a time")
        self._held_until = now + HELD_FOR
        if fill:
            self._filled_until = now + HELD_FOR

    def judge(
        self,
        found: Sequence[Connection],
        holders: Set[str],
        waiting: int,
        pressure: Pressure,
        now: float,
        *,
        flood: bool,
    ) -> None:
        """Holds newcomers back if they fill the memory, or go before they are seen.

        `found` are the connections that are there, and `waiting` is how many are not accepted yet; `holders` are who
        has had a call with a good key, and `flood` tells whether somebody sends too much.
        """
        if self._fill_memory(waiting, pressure, now, flood=flood):
            self.hold_back(now, fill=True)
        if pressure.is_saturated or (pressure.is_busy and self._newcomers.are_very_many):
            seen = {each.peer for each in found if each.is_open} | holders
            if self._newcomers.go_unseen(now, seen, waiting):
                self.hold_back(now, fill=pressure.is_short)

    def set_pace(self, pressure: Pressure, now: float) -> None:
        """Has as many be accepted as may be now."""
        if now < self._filled_until:
            self._listeners.accept_in_turn(now, FEWEST if pressure.is_short or pressure.is_filling else FEW)
        elif self.is_on(now):
            self._listeners.accept_in_turn(now, SOME)
        else:
            self._listeners.accept_all()

    def release(self) -> None:
        """Has everybody be accepted."""
        self._listeners.accept_all()

    def _fill_memory(self, waiting: int, pressure: Pressure, now: float, *, flood: bool) -> bool:
        if not pressure.is_short:
            return False
        if (flood or pressure.is_filling) and (self._newcomers.are_many or waiting >= MANY):
            return True
        # Those who wait may be more of them, who come all at once as soon as they may.
        return now < self._filled_until and waiting > 0
