"""What callers saw: every write of theirs, with when it was sent and what came back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import orjson

OK = "OK"
# After these codes nobody knows whether the write took place; after all others but OK it did not.
UNKNOWN_OUTCOMES = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL", "UNKNOWN"})


@dataclass(frozen=True, slots=True)
class Write:
    """An upsert that adds the attribute `token`, which no other write adds, to the participant of `key`.

    `seen` are the tokens in the answer, `participant_id` and `created` what it says besides; without an answer they
    are empty. Times are seconds of the machine's monotonic clock. `caller` names the process that sent it.
    """

    caller: str
    key: str
    token: str
    started: float
    ended: float
    code: str
    participant_id: str = ""
    created: bool = False
    seen: frozenset[str] = frozenset()

    @property
    def is_acknowledged(self) -> bool:
        return self.code == OK

    @property
    def is_unknown(self) -> bool:
        return self.code in UNKNOWN_OUTCOMES


def as_line(write: Write) -> bytes:
    """Returns a write as one line of JSON."""
    return orjson.dumps({**asdict(write), "seen": list(write.seen)}, option=orjson.OPT_APPEND_NEWLINE)


def from_lines(lines: Iterable[bytes]) -> list[Write]:
    """Returns the writes that lines of JSON tell of."""
    return [Write(**{**fields, "seen": frozenset(fields["seen"])}) for fields in map(orjson.loads, lines)]
