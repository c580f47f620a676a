"""The watch over connections: who sends what nobody asked for, and takes memory or the processor from the others.

What calls under way hold is counted, and bounded. Outside of calls grpcio sets no limits that help: until a client has
acknowledged our limit, which is when it likes to, the headers of a call may have 16 MiB, for which a few kilobytes
suffice where they are the same again and again; and whatever comes is read without end by the few threads that read
for everybody. So there is one rule for when these are busy, or memory is short: a connection may send what its calls
with good keys account for, and little more.

Of whoever sends more, wastes calls, or sends one that is too large, nothing more is read (tarpit.py). Where newcomers
flood, newcomers have to wait (throttle.py); where there are too many connections, some make way (eviction.py).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Sequence, Set
from contextlib import closing

from server.api.buffers import Buffers
from server.rpc.guard.callers import Callers
from server.rpc.guard.connections import Connection, Connections
from server.rpc.guard.eviction import Eviction
from server.rpc.guard.listeners import Listeners
from server.rpc.guard.newcomers import Newcomers
from server.rpc.guard.pressure import Gauge, Pressure
from server.rpc.guard.tarpit import Tarpit
from server.rpc.guard.throttle import Throttle
from server.rpc.guard.unaccounted import Lately, Limit, Unaccounted
from server.rpc.guard.watchdog import Watchdog

logger = logging.getLogger(__name__)

# How often it is looked whether there is a flood, which can take a gigabyte of memory a second, and how often while
# there may be one; in seconds. Each look takes the event loop from its calls.
LOOK_EVERY, LOOK_AGAIN = 0.025, 0.02
# A look that takes so long, where there are many connections, is followed by a rest so many times as long; in seconds.
LONG_LOOK, REST = 0.001, 2
# What may come of all connections together in a second while grpcio is busy, beside what their calls account for.
# Messages that are on their way count, for one in pieces of a byte costs grpcio as much as a thousand others. Of this,
# each organization that sends much has an equal share, and of that each of its connections: who sends more has to rest.
TOGETHER = 8 << 20
# While it is saturated, and in the second after somebody was unwelcome, or memory short, what a first call takes, of a
# key holder a few small ones, and messages; while memory is short, without messages, which wait.
LITTLE = Limit(holders=8 << 10, strangers=3 << 10)
# While memory is critical, what one plain call takes. And what TLS takes before it, beside either.
LEAST, TLS_BYTES = Limit(holders=1 << 10, strangers=1 << 10), 6 << 10
# How long who has sent more is given to turn out to have made calls, and how long a stranger while memory is short; in
# seconds. On a busy machine calls wait for seconds until they are taken in.
DOUBT, SHORT_DOUBT = 5.0, 0.05
SECOND = 1.0


async def watch_forever(port: int, callers: Callers, buffers: Buffers, watchdog: Watchdog, *, tls: bool) -> None:
    """Watches the connections to a port of this process. On systems other than Linux, which cannot tell, it waits."""
    if sys.platform != "linux":
        await asyncio.Event().wait()
    stopped = threading.Event()
    try:
        # In a thread, for the event loop may be busy when it matters.
        watch = _Watch(port, callers, buffers, watchdog, TLS_BYTES * tls)
        await asyncio.to_thread(watch.look_until, stopped)
    finally:
        stopped.set()


class _Watch:
    """Compares what came of connections with what their calls account for."""

    def __init__(self, port: int, callers: Callers, buffers: Buffers, watchdog: Watchdog, tls_bytes: int) -> None:
        self._port = port
        self._watchdog = watchdog
        self._connections = Connections(port)
        self._little, self._least = (Limit._make(size + tls_bytes for size in limit) for limit in (LITTLE, LEAST))
        self._ledger, self._gate = callers.ledger, callers.gate
        self._buffers = buffers
        self._unaccounted = Unaccounted(callers.ledger)
        self._eviction = Eviction(callers.ledger)
        self._second_ends = 0.0
        # While an attack goes on, for what is known of it.
        self._besieged_until = 0.0
        self._tarpit = Tarpit(callers.gate)

    def look_until(self, stopped: threading.Event) -> None:
        """Looks again and again, and at once where somebody is unwelcome."""
        with closing(Gauge(self._buffers)) as gauge, closing(Newcomers()) as self._newcomers:
            self._throttle = Throttle(self._newcomers, Listeners(self._port))
            wait = LOOK_EVERY
            while not stopped.is_set():
                unwelcome, now, began = self._gate.unwelcome(wait), time.monotonic(), time.thread_time()
                self._watchdog.sees_it_run(self._port, now)
                pressure = gauge.pressure(now)
                wait = LOOK_AGAIN if self._look(unwelcome, pressure, now) else LOOK_EVERY
                self._throttle.set_pace(pressure, now)
                took = time.thread_time() - began
                if took > LONG_LOOK:
                    stopped.wait(min(LOOK_AGAIN, REST * took))
        self._watchdog.looks_away()
        self._gate.looked()
        self._throttle.release()
        self._tarpit.cut_off_all()

    def _look(self, unwelcome: set[str], pressure: Pressure, now: float) -> bool:
        """Looks whether all is well, and else, and once a second, at every connection; tells whether all may not be."""
        self._newcomers.look(now)
        if unwelcome or pressure.is_short:
            self._besieged_until = now + SECOND
        may_go_on = now < self._besieged_until or pressure.is_busy
        is_crowded = self._newcomers.most_there > self._eviction.most
        if may_go_on or self._tarpit or is_crowded or now >= self._second_ends:
            self._judge(self._connections.look(), unwelcome, pressure, now)
        else:
            self._gate.looked()
        return may_go_on

    def _judge(self, found: Sequence[Connection], unwelcome: set[str], pressure: Pressure, now: float) -> None:
        """Shuts out who is unwelcome, or floods, and makes room where there are too many."""
        sent = self._unaccounted.lately(found, self._tarpit)
        limit = self._least if pressure.is_critical else self._little
        guilty = sent.over(limit, beside_messages=True)
        flooding = self._flooding(sent, limit, guilty, pressure, now)
        resting = sent.over_share(TOGETHER, limit)
        if pressure.is_critical:
            heard = {each.peer for each in found if each.peer not in self._tarpit}
            if heard.isdisjoint(unwelcome | flooding):
                # All make do: then whoever has sent most has to go.
                unwelcome |= sent.most(heard)
        waiting = self._connections.waiting
        self._throttle.judge(found, sent.holders, waiting, pressure, now, flood=bool(flooding))
        self._judge_suspects(unwelcome | guilty, resting, sent.holders, pressure, now)
        suspects = flooding | resting if pressure.is_busy else flooding
        if self._shut_out(found, unwelcome, suspects, now) and (self._newcomers.are_many or pressure.is_short):
            # They came, were read, and went before they could be silenced; so will the next.
            self._throttle.hold_back(now, fill=True)
        self._gate.looked(sent.excess.keys(), is_flooded=pressure.is_short and self._throttle.is_on(now))
        self._newcomers.count(len(found) + waiting)
        if now >= self._second_ends or len(found) > self._eviction.most:
            self._make_room(found, pressure, now)
        if now >= self._second_ends:
            self._second_ends = now + SECOND
            # What was too much stays counted, for it may not have been read yet.
            self._unaccounted.begin_second(flooding)

    def _flooding(self, sent: Lately, limit: Limit, guilty: set[str], pressure: Pressure, now: float) -> set[str]:
        """Returns of whom more came than there is enough of everything for; of the guilty more than messages."""
        if pressure.is_short:
            return sent.over(limit, beside_messages=False)
        if now < self._besieged_until or pressure.is_saturated:
            return guilty
        return set()

    def _make_room(self, found: Sequence[Connection], pressure: Pressure, now: float) -> None:
        if self._eviction.make_room(found, now) and pressure.is_saturated:
            # Those who have a key come again at once, and for each another makes way.
            self._throttle.hold_back(now, fill=False)

    def _judge_suspects(
        self, guilty: set[str], resting: set[str], holders: Set[str], pressure: Pressure, now: float
    ) -> None:
        of_holders = 0.0 if pressure.is_critical else DOUBT
        of_strangers = min(of_holders, SHORT_DOUBT) if pressure.is_short else of_holders
        self._tarpit.look(
            guilty,
            resting,
            self._ledger.owed() if self._tarpit and not pressure.is_critical else frozenset(),
            lambda peer: of_holders if peer in holders else of_strangers,
            now,
            # Who was silenced before more of it was read has to wait: what else it sent may fill the memory.
            may_hear=not pressure.is_short,
        )

    def _shut_out(self, found: Sequence[Connection], unwelcome: set[str], suspects: set[str], now: float) -> bool:
        """Silences them, and tells whether some are gone."""
        silenced = 0
        for each in found:
            if each.peer in unwelcome or each.peer in suspects:
                silenced += self._tarpit.silence(each, now, for_good=each.peer in unwelcome)
        if silenced:
            logger.warning("connections are silenced that send more than calls with good keys take: %d", silenced)
        gone = unwelcome - {each.peer for each in found}
        for peer in gone:
            self._gate.heard(peer)
        return bool(gone)
