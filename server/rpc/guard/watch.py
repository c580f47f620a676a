"""Callers that send what nobody asked for, and take memory or the processor from the others.

What calls under way hold is counted, and bounded. Outside of calls grpcio sets no limits that help: until a client has
acknowledged our limit, which is when it likes to, the headers of a call may have 16 MiB, for which a few kilobytes
suffice where they are the same again and again; and whatever comes is read without end by the one thread that reads
for everybody. So there is one rule for when that thread is busy, or memory is short: a connection may send what its
calls with good keys take, and little more.

Whoever sends more is silenced, as is who sends a call that is too large, once it is seen, and who wastes calls: see
silenced.py and callers.py. And where it is newcomers who flood, newcomers have to wait: see listeners.py.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence, Set
from contextlib import closing

from server.api.buffers import Buffers
from server.rpc.guard.callers import Callers
from server.rpc.guard.connections import Connection, Connections, watch_forever
from server.rpc.guard.listeners import Listeners
from server.rpc.guard.newcomers import Newcomers
from server.rpc.guard.pressure import Gauge, Pressure
from server.rpc.guard.tarpit import Tarpit
from server.rpc.guard.unaccounted import Lately, Least, Unaccounted

logger = logging.getLogger(__name__)

# How often it is looked whether there is a flood, which can take a gigabyte of memory a second, and how often while
# there may be one; in seconds. Each look takes the event loop from its calls.
LOOK_EVERY, LOOK_AGAIN = 0.025, 0.02
# A look that takes so long, where there are many connections, is followed by a rest so many times as long; in seconds.
LONG_LOOK, REST = 0.001, 2
# While grpcio is saturated, and in the second after somebody was unwelcome, or memory short, everybody has to make do
# with what a first call takes, beside those taken in and their messages, which wait, too, while memory is short; while
# it is critical with what a plain call takes; and with what TLS takes before it.
FIRST_BYTES, LEAST_FIRST_BYTES, TLS_BYTES = 3 << 10, 1 << 10, 6 << 10
# A key holder may have some more calls that are not taken in yet, of less than becomes megabytes of metadata.
HOLDERS_FIRST_BYTES = 8 << 10
# How long who has sent more is given to turn out to have made calls, and how long a stranger while memory is short; in
# seconds. On a busy machine calls wait for seconds until they are taken in.
DOUBT, SHORT_DOUBT = 5.0, 0.05
SECOND = 1.0


async def shut_out_floods_forever(port: int, callers: Callers, buffers: Buffers, *, tls: bool) -> None:
    """Silences callers to a port of this process that flood it. On systems other than Linux it waits."""
    await watch_forever(_Watch(port, callers, buffers, TLS_BYTES * tls).look_until)


class _Watch:
    """Compares what connections have sent with what their calls took."""

    def __init__(self, port: int, callers: Callers, buffers: Buffers, tls_bytes: int) -> None:
        self._port = port
        self._connections = Connections(port)
        self._tls_bytes = tls_bytes
        self._callers = callers
        self._buffers = buffers
        self._unaccounted = Unaccounted(callers)
        self._second_ends = 0.0
        # While an attack goes on, for what is known of it; and while it is one that newcomers make.
        self._besieged_until = self._overrun_until = 0.0
        self._tarpit = Tarpit(callers)

    def look_until(self, stopped: threading.Event) -> None:
        """Looks again and again, and at once where somebody is unwelcome."""
        self._listeners = Listeners(self._port)
        with closing(Gauge(self._buffers)) as gauge, closing(Newcomers()) as self._newcomers:
            wait = LOOK_EVERY
            while not stopped.is_set():
                unwelcome, now, began = self._callers.unwelcome(wait), time.monotonic(), time.thread_time()
                wait = LOOK_AGAIN if self._look(unwelcome, gauge.pressure(now), now) else LOOK_EVERY
                self._accept_newcomers(now)
                took = time.thread_time() - began
                if took > LONG_LOOK:
                    stopped.wait(min(LOOK_AGAIN, REST * took))
        self._callers.looked()
        self._listeners.accept_all()
        self._tarpit.cut_off_all()

    def _look(self, unwelcome: set[str], pressure: Pressure, now: float) -> bool:
        """Shuts out who is unwelcome, or floods, and tells whether there may be more of them."""
        self._newcomers.look(now)
        if unwelcome or pressure.is_short:
            self._besieged_until = now + SECOND
        is_besieged = now < self._besieged_until
        may_go_on = is_besieged or pressure.is_busy
        if not (may_go_on or self._tarpit) and now < self._second_ends:
            self._callers.looked()
            return False
        found = self._connections.look()
        sent = self._unaccounted.lately({each.peer: self._tarpit.received(each) for each in found})
        least = self._least(pressure)
        guilty = sent.more_than_messages(least)
        flooding = _flooding(sent, least, guilty, pressure, is_besieged=is_besieged)
        if pressure.is_critical:
            heard = {each.peer for each in found if each.peer not in self._tarpit}
            if heard.isdisjoint(unwelcome | flooding):
                # All make do: then whoever has sent most has to go.
                unwelcome |= sent.most(heard)
        if self._newcomers.are_many and pressure.is_short and (flooding or pressure.is_filling):
            self._hold_newcomers_back(now)
        if self._newcomers_go_unseen(found, sent.holders, pressure, now):
            self._hold_newcomers_back(now)
        self._judge_suspects(unwelcome | guilty, sent.holders, pressure, now)
        self._shut_out(found, unwelcome, flooding, now)
        self._callers.looked(sent.excess.keys(), is_flooded=pressure.is_short and now < self._overrun_until)
        if now >= self._second_ends:
            self._second_ends = now + SECOND
            # What was too much stays counted, for it may not have been read yet.
            self._unaccounted.begin_second(flooding)
        return may_go_on

    def _least(self, pressure: Pressure) -> Least:
        if pressure.is_critical:
            return Least(self._tls_bytes + LEAST_FIRST_BYTES, self._tls_bytes + LEAST_FIRST_BYTES)
        return Least(self._tls_bytes + HOLDERS_FIRST_BYTES, self._tls_bytes + FIRST_BYTES)

    def _newcomers_go_unseen(
        self, found: Sequence[Connection], holders: Set[str], pressure: Pressure, now: float
    ) -> bool:
        if not (pressure.is_saturated or (pressure.is_busy and self._newcomers.are_very_many)):
            return False
        seen = {each.peer for each in found if each.is_open} | holders
        return self._newcomers.go_unseen(now, seen, self._connections.waiting)

    def _accept_newcomers(self, now: float) -> None:
        if now < self._overrun_until:
            self._listeners.accept_few(now)
        else:
            self._listeners.accept_all()

    def _hold_newcomers_back(self, now: float) -> None:
        if now >= self._overrun_until:
            logger.warning("newcomers flood, and few of them are accepted at a time")
        self._overrun_until = now + SECOND

    def _judge_suspects(self, guilty: set[str], holders: Set[str], pressure: Pressure, now: float) -> None:
        of_holders = 0.0 if pressure.is_critical else DOUBT
        of_strangers = min(of_holders, SHORT_DOUBT) if pressure.is_short else of_holders
        # Who was silenced before more of it was read has to wait while memory is short: what else it sent is not known.
        self._tarpit.look(
            guilty,
            lambda peer: of_holders if peer in holders else of_strangers,
            now,
            may_hear=not pressure.is_short,
        )

    def _shut_out(self, found: Sequence[Connection], unwelcome: set[str], suspects: set[str], now: float) -> None:
        silenced = 0
        for each in found:
            if each.peer in unwelcome or each.peer in suspects:
                silenced += self._tarpit.silence(each, now, for_good=each.peer in unwelcome)
        for peer in unwelcome - {each.peer for each in found}:
            # It came, was read, and went before it could be silenced; so will the next.
            self._callers.heard(peer)
            self._hold_newcomers_back(now)
        if silenced:
            logger.warning("connections are silenced that send more than calls with good keys take: %d", silenced)


def _flooding(sent: Lately, least: Least, guilty: set[str], pressure: Pressure, *, is_besieged: bool) -> set[str]:
    """Returns who has sent more than there is enough of everything for; the guilty have sent more than messages."""
    if pressure.is_short:
        return sent.more_than(least)
    if is_besieged or pressure.is_saturated:
        return guilty
    return sent.more_than_free() if pressure.is_busy else set()
