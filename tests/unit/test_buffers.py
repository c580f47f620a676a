"""Room for messages, where those who wait for it give up."""

from __future__ import annotations

import asyncio
import math

import pytest

from server.api.buffers import Buffers, Room
from server.errors import Overloaded


async def waiting(buffers: Buffers, organization_id: str, size: int, deadline: float = math.inf) -> asyncio.Task[None]:
    """Returns the task of one that waits."""
    task = asyncio.create_task(buffers.acquire(organization_id, size, deadline))
    await asyncio.sleep(0)
    return task


async def test_who_gives_up_while_room_comes_free_keeps_none() -> None:
    buffers = Buffers(4)
    assert buffers.try_acquire("one", 2)
    leaving, staying = [await waiting(buffers, "one", 2) for _ in range(2)]
    leaving.cancel()
    # It has not come round to withdraw.
    buffers.release("one", 2)
    await asyncio.wait([leaving, staying], timeout=1)
    assert leaving.cancelled()
    assert staying.done()
    buffers.release("one", 2)
    assert buffers.try_acquire("one", 2)


async def test_who_is_let_in_at_its_deadline_leaves_no_room_taken() -> None:
    buffers = Buffers(4)
    for _ in range(100):
        assert buffers.try_acquire("one", 2)
        deadline = asyncio.get_running_loop().time() + 0.001
        late = [await waiting(buffers, "one", 2, deadline) for _ in range(3)]
        await asyncio.sleep(0.001)
        buffers.release("one", 2)
        for outcome in await asyncio.gather(*late, return_exceptions=True):
            assert outcome is None or isinstance(outcome, Overloaded)
            if outcome is None:
                buffers.release("one", 2)
        assert buffers.try_acquire("two", 2), "all of it is free"
        buffers.release("two", 2)


async def test_who_waits_too_long_is_refused() -> None:
    buffers = Buffers(4, "lists")
    assert buffers.try_acquire("one", 2)
    with pytest.raises(Overloaded, match="too many lists"):
        await buffers.acquire("one", 1, asyncio.get_running_loop().time())


async def test_who_waits_is_let_in_in_turn_with_others() -> None:
    buffers = Buffers(4)
    assert buffers.try_acquire("one", 4)
    many = [await waiting(buffers, "one", 4) for _ in range(3)]
    other = await waiting(buffers, "two", 4)
    for _ in range(2):
        buffers.release("one", 4)
        await asyncio.sleep(0)
    assert [each.done() for each in many] == [True, False, False]
    assert other.done()
    for each in many:
        each.cancel()


@pytest.mark.parametrize("size", [1, 8])
async def test_who_was_resized_for_a_while_holds_as_much_as_before_also_if_that_failed(size: int) -> None:
    buffers = Buffers(4)
    room = Room(buffers)
    assert room.try_acquire("one", 2)

    def fail() -> None:
        with room.resized(size):
            assert buffers.held == size
            raise Overloaded("what was done meanwhile")

    with pytest.raises(Overloaded):
        fail()
    assert buffers.held == 2
    room.release()
    assert buffers.held == 0
