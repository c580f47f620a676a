"""Whether what callers saw can be explained by writes that were made one after the other, and none of which was lost.

Attributes merge, and every write adds one of its own. So an answer shows all writes before it, and no search is needed
to find their order: it is the order of the answers by inclusion. Pure: it knows histories and nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from tests.faults.history import Write


def violations(writes: Sequence[Write], final: Mapping[str, Collection[str]]) -> list[str]:
    """Returns what is wrong, a line each; nothing is wrong when there are none.

    `final` has the tokens of each participant after all of it, by key; a participant that is not there is left out.
    """
    by_key: defaultdict[str, list[Write]] = defaultdict(list)
    for write in writes:
        by_key[write.key].append(write)
    found = [f"{key}: a participant that nobody wrote" for key in final if key not in by_key]
    for key, of_key in by_key.items():
        found += [f"{key}: {violation}" for violation in _of_key(of_key, frozenset(final.get(key, ())))]
    return found


def lost(writes: Sequence[Write], final: Mapping[str, Collection[str]]) -> int:
    """Returns how many acknowledged writes are not there in the end."""
    return sum(write.is_acknowledged and write.token not in final.get(write.key, ()) for write in writes)


def _of_key(writes: Sequence[Write], final: frozenset[str]) -> Iterator[str]:
    answers = sorted((write for write in writes if write.is_acknowledged), key=lambda write: len(write.seen))
    yield from _own_writes(answers)
    yield from _chain(answers, final)
    yield from _real_time(answers, {write.token: write for write in writes})
    yield from _creation(answers, {write.token for write in writes if write.is_unknown})
    yield from _last_state(writes, final)


def _own_writes(answers: Sequence[Write]) -> Iterator[str]:
    for answer in answers:
        if answer.token not in answer.seen:
            yield f"the answer to {answer.token} lacks its own write"


def _chain(answers: Sequence[Write], final: frozenset[str]) -> Iterator[str]:
    """Two answers have seen different numbers of writes, and the later one all that the earlier one has."""
    for earlier, later in pairwise(answers):
        if not earlier.seen < later.seen:
            yield f"the answers to {earlier.token} and {later.token} are in no order"
    if answers and not answers[-1].seen <= final:
        yield f"the answer to {answers[-1].token} has seen what is gone in the end"


def _real_time(answers: Sequence[Write], by_token: Mapping[str, Write]) -> Iterator[str]:
    """What was answered before another was sent comes first, and nothing is seen before it was sent."""
    latest: Write | None = None
    for answer in answers:
        if latest is not None and answer.ended < latest.started:
            yield f"{answer.token} was answered before {latest.token} was sent, but came after it"
        if latest is None or answer.started > latest.started:
            latest = answer
    known: set[str] = set()
    for answer in answers:
        for token in answer.seen - known:
            if token not in by_token:
                yield f"{token} was seen, but nobody wrote it"
            elif by_token[token].started > answer.ended:
                yield f"{token} was seen by {answer.token} before it was sent"
        known |= answer.seen


def _creation(answers: Sequence[Write], unknown: Collection[str]) -> Iterator[str]:
    """One write made the participant, and nothing came before it; only if its answer was lost does nobody know."""
    if not answers:
        return
    if len({answer.participant_id for answer in answers}) != 1:
        yield "the answers are of several participants"
    created = [answer for answer in answers if answer.created]
    if len(created) > 1:
        yield f"{len(created)} answers say that they created the participant"
    if created and created[0] is not answers[0]:
        yield f"{created[0].token} created the participant, which was there already"
    if created and len(created[0].seen) > 1:
        yield f"{created[0].token} created the participant with what others wrote"
    if not created and answers[0].seen.isdisjoint(unknown):
        yield "no answer says that it created the participant"


def _last_state(writes: Sequence[Write], final: frozenset[str]) -> Iterator[str]:
    for write in writes:
        if write.is_acknowledged and write.token not in final:
            yield f"{write.token} was acknowledged and is gone"
        if not write.is_acknowledged and not write.is_unknown and write.token in final:
            yield f"{write.token} was refused with {write.code}, but written"
    for token in final - {write.token for write in writes}:
        yield f"{token} is there, but nobody wrote it"
