"""Of a call that is over nothing stays, and no garbage collector is needed for that."""

import asyncio
import ctypes
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Never

import grpc
import pytest

from server.rpc.contexts import Context, abort, end, sends, this_call
from tests.support.rpc_server import METHOD, calls_held, serving

CALLS = 20
# grpcio holds the last one until the next comes, and the next.
HELD = 3
# What is sent with an answer, and what may be left in memory of each, in bytes.
MUCH, FEW_BYTES = (("why", "a" * 5_000),), 2_500

Answer = Callable[[Any, Context], Awaitable[Any]]


pytestmark = pytest.mark.usefixtures("no_collector")


async def _answered(_messages: object, context: Context) -> Any:
    this_call().add_done_callback(lambda _: context)
    return await context.read()


async def _ended(_message: object, context: Context) -> Never:
    await end(context, grpc.StatusCode.NOT_FOUND, "there is none", [("why", "a test")])


async def _aborted(_messages: object, context: Context) -> Never:
    await abort(context, grpc.StatusCode.NOT_FOUND, "there is none")


async def _aborted_by_grpcio(_messages: object, context: Context) -> Never:
    await context.abort(grpc.StatusCode.NOT_FOUND, "there is none")


async def _with_grpcios_callback(_messages: object, context: Context) -> Any:
    context.add_done_callback(print)  # type: ignore[arg-type]  # grpc-stubs has a class where a function goes
    return await context.read()


@asynccontextmanager
async def _calling(answer: Answer, *, ours: bool) -> AsyncIterator[Any]:
    """Yields what makes calls that are answered like this."""
    async with serving(answer, ours=ours) as address, grpc.aio.insecure_channel(address) as channel:
        yield channel.unary_unary(METHOD)


async def _left(answer: Answer, *, ours: bool) -> tuple[int, set[grpc.StatusCode]]:
    """Returns how many calls are left of some that were answered like this, and how they ended."""
    codes = set()
    async with _calling(answer, ours=ours) as method:
        # Once a call was answered, the server has all ready that it has.
        await method(b"a message", timeout=10).code()
        before = calls_held()
        for _ in range(CALLS):
            codes.add(await method(b"a message", timeout=10).code())
        left = calls_held() - before
    return left, codes


@pytest.mark.parametrize("ours", [True, False])
async def test_a_call_that_was_answered_leaves_nothing(*, ours: bool) -> None:
    left, codes = await _left(_answered, ours=ours)
    assert codes == {grpc.StatusCode.OK}
    assert left <= HELD


@pytest.mark.parametrize(("answer", "ours"), [(_ended, True), (_aborted, False)])
async def test_a_call_that_was_aborted_leaves_nothing(answer: Answer, *, ours: bool) -> None:
    left, codes = await _left(answer, ours=ours)
    assert codes == {grpc.StatusCode.NOT_FOUND}
    assert left <= HELD


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("answer", [_aborted_by_grpcio, _with_grpcios_callback])
async def test_left_to_itself_grpcio_keeps_them(answer: Answer, *, ours: bool) -> None:
    """Where this fails, grpcio has changed, and what is tested here may no longer be needed."""
    left, _ = await _left(answer, ours=ours)
    assert left >= CALLS


class _Allocated(ctypes.Structure):
    """What mallinfo2(3) returns."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in (*"abcdefg", "used", *"hi"))


def _allocated() -> int:
    """Returns how many bytes of memory are in use that Python has no part in."""
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Allocated
    return int(mallinfo().used)


async def _late(context: Context) -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(10)


async def _ended_late(_messages: object, context: Context) -> Never:
    await _late(context)
    await end(context, grpc.StatusCode.NOT_FOUND, "there is none", MUCH)


async def _aborted_late_by_grpcio(_messages: object, context: Context) -> Never:
    await _late(context)
    await context.abort(grpc.StatusCode.NOT_FOUND, "there is none", MUCH)


async def _aborted_late(_messages: object, context: Context) -> Never:
    await _late(context)
    sends()
    await end(context, grpc.StatusCode.NOT_FOUND, "there is none", MUCH)


async def _sent_late(_messages: object, context: Context) -> bytes:
    await _late(context)
    context.set_trailing_metadata(MUCH)
    sends()
    return b"too late"


async def _answered_late(_messages: object, context: Context) -> bytes:
    await _late(context)
    context.set_trailing_metadata(MUCH)
    return b"too late"


async def _left_by_late(answer: Answer, *, ours: bool) -> float:
    """Returns how much memory is left of each of some calls whose callers have gone when they are answered."""
    before = 0
    async with _calling(answer, ours=ours) as method:
        for round_ in range(6):
            calls = [method(b"a message", timeout=0.2) for _ in range(100)]
            await asyncio.wait([asyncio.ensure_future(call.code()) for call in calls])
            await asyncio.sleep(0.05)
            if round_ == 0:
                # What the first calls take is taken.
                gc.collect()
                before = _allocated()
        gc.collect()
        left = _allocated() - before
    return left / 500


@pytest.mark.parametrize(
    ("answer", "ours"),
    [(_ended_late, True), (_answered_late, True), (_aborted_late, False), (_sent_late, False)],
)
async def test_of_what_cannot_be_sent_nothing_is_left(answer: Answer, *, ours: bool) -> None:
    assert await _left_by_late(answer, ours=ours) < FEW_BYTES


@pytest.mark.parametrize("answer", [_aborted_late_by_grpcio, _answered_late])
async def test_left_to_itself_grpcio_keeps_what_it_cannot_send(answer: Answer) -> None:
    """Where this fails, grpcio has changed, and what is tested here may no longer be needed."""
    assert await _left_by_late(answer, ours=False) > FEW_BYTES
