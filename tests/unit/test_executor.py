"""What is written again in parts, and what fails a group once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from server.errors import Internal, InvalidArgument, ServiceError, Unavailable
from server.participants.model import RETRY, Outcome, ParticipantNames, Rejected, Retry, Upsert, Written
from server.participants.repository import Contention, Refused
from server.writes.executor import RETRY_ALONE, Executor
from server.writes.group_commit import GroupCommit

GROUP = 500


class Repository:
    """Answers each statement as the test says, and counts them."""

    def __init__(self, answer: Callable[[Sequence[str], bool], Sequence[Outcome | Retry]]) -> None:
        self._answer = answer
        self.statements: list[int] = []

    def route(self, upsert: Upsert) -> str:
        return ""

    async def upsert(self, upserts: Sequence[Upsert], *, insert: bool = True) -> Sequence[Outcome | Retry]:
        self.statements.append(len(upserts))
        return self._answer([upsert.external_id for upsert in upserts], insert)

    async def get(self, organization_id: str, participant_id: str) -> None:
        raise NotImplementedError


def group(size: int = GROUP) -> list[Upsert]:
    return [
        Upsert(organization_id="acme", external_id=str(number), attributes={}, tags=[], size=1)
        for number in range(size)
    ]


def written(key: str) -> Written:
    return Written("CREATED", ParticipantNames("id", key, 1))


@pytest.mark.parametrize(("error", "told"), [(Unavailable, Unavailable), (RuntimeError, Internal)])
async def test_a_fault_of_the_world_or_of_ours_fails_a_group_once(
    error: type[Exception], told: type[ServiceError]
) -> None:
    def answer(keys: Sequence[str], insert: bool) -> Sequence[Outcome]:
        raise error

    repository = Repository(answer)
    outcomes = await Executor(repository).execute(group())
    assert repository.statements == [GROUP]
    assert {type(outcome.error) for outcome in outcomes if isinstance(outcome, Rejected)} == {told}
    assert len(outcomes) == GROUP


async def test_a_value_that_is_refused_fails_alone() -> None:
    def answer(keys: Sequence[str], insert: bool) -> Sequence[Outcome]:
        if "17" in keys:
            raise Refused
        return [written(key) for key in keys]

    repository = Repository(answer)
    outcomes = await Executor(repository).execute(group())
    assert [index for index, outcome in enumerate(outcomes) if isinstance(outcome, Rejected)] == [17]
    refused = outcomes[17]
    assert isinstance(refused, Rejected)
    assert isinstance(refused.error, InvalidArgument)
    # Two for each halving, and the first.
    assert len(repository.statements) <= 2 * 9 + 1


async def test_a_new_key_that_is_waited_for_holds_the_others_up_once() -> None:
    existing = {str(number) for number in range(400)}

    def answer(keys: Sequence[str], insert: bool) -> Sequence[Outcome | Retry]:
        if insert and "450" in keys:
            raise Contention
        return [written(key) if insert or key in existing else RETRY for key in keys]

    repository = Repository(answer)
    outcomes = await Executor(repository).execute(group())
    # One that waited in vain, and one that waits for nothing.
    assert repository.statements == [GROUP, GROUP]
    alone = [str(index) for index, outcome in enumerate(outcomes) if outcome is RETRY_ALONE]
    assert alone == [str(number) for number in range(400, 500)]


async def test_a_fault_while_new_keys_are_left_out_fails_the_group_once() -> None:
    def answer(keys: Sequence[str], insert: bool) -> Sequence[Outcome]:
        raise Contention if insert else RuntimeError

    outcomes = await Executor(Repository(answer)).execute(group(2))
    assert {type(outcome.error) for outcome in outcomes if isinstance(outcome, Rejected)} == {Internal}
    assert len(outcomes) == 2


async def test_a_locked_table_has_the_whole_group_run_again_as_it_is() -> None:
    def answer(keys: Sequence[str], insert: bool) -> Sequence[Outcome]:
        raise Contention

    repository = Repository(answer)
    assert await Executor(repository).execute(group()) == [RETRY] * GROUP
    assert repository.statements == [GROUP, GROUP]


@pytest.mark.parametrize("answers", [0, 1, 3])
async def test_an_answer_of_the_wrong_length_leaves_nothing_held(answers: int) -> None:
    """What is raised after the repository has answered must not keep keys from the next, or the writer from closing."""
    faults: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: faults.append(context))
    writer = GroupCommit(Repository(lambda keys, insert: [written("x")] * answers))
    outcomes = await writer.submit(group(2), loop.time() + 10)
    assert len(outcomes) == 2
    async with asyncio.timeout(1):
        await writer.close()
    (again,) = await writer.submit(group(1), loop.time() + 10)
    assert isinstance(again, Written | Rejected)
    await writer.close()
