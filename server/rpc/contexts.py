"""What grpcio tells of a call, and how a call is ended so that nothing of it stays.

Who adds a callback to a context, or aborts a call by it alone, leaves the call in a cycle, with its metadata, which may
be megabytes, until garbage is collected. And what grpcio makes to send something it frees once that is sent, but never
where it cannot be sent because the caller has gone: one or two kilobytes of every such call, for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import grpc

Context = grpc.aio.ServicerContext[Any, Any]


# Returns the task that answers the call, which is done once the caller has the answer, or has gone.
this_call: Callable[[], asyncio.Task[Any]] = asyncio.current_task  # type: ignore[assignment]  # None outside of a call


class Sent(asyncio.Future[None]):
    """What grpcio waits for while it sends. That it failed grpcio is not told, and frees what it has to free: nobody is
    left who would care."""

    __slots__ = ()

    def set_exception(self, exception: type | BaseException, /) -> None:
        if isinstance(exception, grpc.aio.InternalError):
            self.set_result(None)
        else:
            super().set_exception(exception)


def sends() -> None:
    """To be called just before grpcio sends something of a call that it takes in itself: has it wait in such a way that
    it leaves nothing. For calls of the service see endings.py."""
    asyncio.get_running_loop().create_future = _sent  # type: ignore[method-assign]


def _sent() -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    # The event loop makes the next one itself again.
    del loop.create_future
    return Sent(loop=loop)


async def write(context: Context, message: Any) -> None:
    """Sends a message of a call that answers any number of times."""
    sends()
    await context.write(message)


async def abort(context: Context, code: grpc.StatusCode, message: str) -> NoReturn:
    """Ends a call that grpcio takes in itself with an error. See `end`."""
    sends()
    await end(context, code, message)


async def end(
    context: Context, code: grpc.StatusCode, message: str, trailing_metadata: Sequence[tuple[str, str | bytes]] = ()
) -> NoReturn:
    """Ends a call with an error. To be called where no exception is being handled, for this one would hold it."""
    try:
        await context.abort(code, message, tuple(trailing_metadata))
    except grpc.aio.AbortError as aborted:
        # The call holds this error, which by the frames that it passes holds the call.
        this_call().add_done_callback(partial(_let_go, aborted))
        raise
    raise AssertionError("abort returned")


def _let_go(error: grpc.aio.AbortError, _task: object) -> None:
    error.__traceback__ = None
