"""When a write that lost to another transaction runs again, and how often."""

from __future__ import annotations

import random

# A pause grows by so much with each attempt, and no further than this; in seconds.
STEP = 0.005
MAX_PAUSE = 0.1
# At most a few seconds in all: who holds a participant for longer has it locked.
MAX_RETRIES = 60


def pause_before(retry: int) -> float:
    """Returns how long to wait before a retry, the first of which is 1; in seconds.

    At random, so that those who lost together do not lose together again.
    """
    return random.uniform(0, min(STEP * retry, MAX_PAUSE))  # noqa: S311  # no secret
