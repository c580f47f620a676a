"""What grpcio tells of a call, and how a call is ended so that nothing of it stays.

Who adds a callback to a context, or aborts a call by it alone, leaves the call in a cycle, with its metadata, which may
be megabytes, until garbage is collected.
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


async def abort(
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
