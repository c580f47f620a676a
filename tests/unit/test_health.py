"""Readiness: how many probes it takes to change it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from server.operations.health import Health


async def readiness(answers: Iterable[bool]) -> str:
    """Returns what the service says after each answer of the database: + ready, - not ready."""
    remaining = list(answers)

    async def is_up() -> bool:
        return remaining.pop(0)

    said = ""
    health = Health(is_up)
    while remaining:
        await health.check()
        said += "+" if health.ready else "-"
    return said


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([False, True], "-+"),
        ([True, False, True], "+++"),
        ([True, False, False, True], "++++"),
        ([True, False, False, False, False, True], "+++--+"),
        ([True, False, False, True, False, False, True], "+++++++"),
    ],
    ids=["the first success", "one failure", "two failures", "three failures", "two and two"],
)
async def test_three_failures_in_a_row_make_it_unready(answers: list[bool], said: str) -> None:
    assert await readiness(answers) == said


async def test_what_drains_is_not_ready_any_more() -> None:
    async def is_up() -> bool:
        return True

    health = Health(is_up)
    await health.check()
    changed = health.changed
    health.drain()
    assert changed.is_set()
    await health.check()
    assert not health.ready
