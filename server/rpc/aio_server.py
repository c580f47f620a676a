"""A server of grpcio that takes calls in as fast as they come, and begins them in turn.

Left to itself it takes in one each time the event loop comes round: whoever calls waits for all who have called before,
and each call takes a task, and a look at all that grpcio waits for, more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it comes without types

from server.rpc.contexts import Context
from server.rpc.endings import Endings
from server.rpc.guard.gate import Gate
from server.rpc.handlers import Rpc
from server.rpc.intake import Intake

# Of each RPC, each time the event loop comes round. Whoever calls beyond that waits in grpcio.
TAKEN_AT_ONCE = 128
# Within this time, in seconds, grpcio answers a call whose deadline has passed; let go before, it would be CANCELLED.
ABOUT_NOW = 0.05


class Server(cygrpc.AioServer):  # type: ignore[misc]  # it comes without types
    """Serves RPCs, by their paths, whose requests are streams and whose answers are none, and what else is handled.

    Nothing of a call is begun whose caller is shut out.
    """

    def __init__(
        self,
        rpcs: Mapping[str, Rpc],
        others: Sequence[grpc.GenericRpcHandler],
        gate: Gate,
        intake: Intake,
        options: Sequence[tuple[str, int]],
    ) -> None:
        self._event_loop = asyncio.get_running_loop()
        super().__init__(self._event_loop, None, others, None, tuple(options), None)
        self._rpcs = rpcs
        self._gate = gate
        self._intake = intake
        # Kept here: grpcio does not keep what it takes for the event loop.
        self._endings = Endings()
        self.add_registered_method_handlers(dict(rpcs))
        # What grpcio waits for in place of the next call of an RPC: that no more come, because the server stops.
        self._last: asyncio.Future[None] = self._event_loop.create_future()
        # The event loop itself forgets tasks that nobody else knows.
        self._calls: set[asyncio.Task[None]] = set()

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[None]:
        """Is asked by grpcio for the next call: of an RPC, once; of what else is handled, each time."""
        if method is None:
            following: asyncio.Future[None] = super()._make_request_call_future(None)
            return following
        for _ in range(TAKEN_AT_ONCE):
            self._take_next(method)
        return self._last

    def _take_next(self, method: bytes) -> None:
        task = self._event_loop.create_task(self._take(method))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _take(self, method: bytes) -> None:
        """Waits for a call, and then until that is over."""
        try:
            call = await self._request_registered_call(method)
        except Exception as error:  # noqa: BLE001  # grpcio tells the end of a server from a failure of it
            if not self._last.done():
                self._last.set_exception(error)
            return
        self._take_next(method)
        name = method.decode()
        rpc, context = self._rpcs[name], self._context(call, self._endings)
        may_begin = self._intake.try_begin() or await self._intake.begin(context.peer())
        if context.time_remaining() == 0:
            # Its caller has given up. Where callers do so sooner than they are taken in, others wait behind such calls.
            rpc.expired(context)
            self._event_loop.call_later(ABOUT_NOW, _let_go, call)
            return
        if self._gate.have_to_wait and not await self._gate.may_begin(context):
            return
        if not may_begin:
            await rpc.refuse(context)
            return
        # What a caller waits for does not wait behind the ends of others' calls.
        message = self._context(call, self._event_loop)
        answer = cygrpc._finish_handler_with_unary_response(call, rpc, message, context, None, self._endings)  # noqa: SLF001
        await cygrpc._schedule_rpc_coro(answer, call, self._endings, name)  # noqa: SLF001

    def _context(self, call: object, event_loop: object) -> Context:
        context: Context = cygrpc._ServicerContext(call, None, None, event_loop)  # noqa: SLF001
        return context


def _let_go(_call: object) -> None:
    pass
