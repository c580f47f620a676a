"""Callers that send what nobody asked for, and take memory or the processor from the others.

What calls under way hold is counted, and bounded. Outside of calls grpcio sets no limits that help: until a client has
acknowledged our limit, which is when it likes to, the headers of a call may have 16 MiB, for which a few kilobytes
suffice where they are the same again and again; and whatever comes is read without end by the one thread that reads
for everybody. So there is one rule for when that thread is busy, or memory is short: a connection may send what its
calls with good keys take, and little more.

Whoever sends more is silenced, as is who sends a call that is too large, once it is seen, and who wastes calls: see
silenced.py and callers.py.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import closing

from server.api.buffers import Buffers
from server.operations.memory import ResidentMemory
from server.rpc.beside import Beside
from server.rpc.callers import Callers
from server.rpc.connections import Connection, connections, watch_forever
from server.rpc.silenced import Silenced

logger = logging.getLogger(__name__)

# How often it is looked whether there is a flood, which can take a gigabyte of memory a second, and how often while
# there may be one; in seconds. Each look takes the event loop from its calls.
LOOK_EVERY, LOOK_AGAIN = 0.05, 0.02
# Over so long, in seconds, grpcio is busy if it takes so much of a processor, or of what the process has of them: calls
# make it take a fifth of that. Below the least share it takes nothing from anybody; from the second on it is saturated.
BUSY_FOR, BUSY, SATURATED, LEAST_BUSY = 0.05, 0.5, 0.8, 0.2
# While it is saturated, and in the second after somebody was unwelcome, or memory short, everybody has to make do with
# what a first call takes, beside those taken in and their messages, which wait, too, while memory is short; while it is
# critical with what a plain call takes; and with what TLS takes before it.
FIRST_BYTES, LEAST_FIRST_BYTES, TLS_BYTES = 3 << 10, 1 << 10, 6 << 10
# How long who has sent more is given to turn out to have made calls, and how long a stranger while memory is short; in
# seconds. On a busy machine calls wait for seconds until they are taken in.
DOUBT, SHORT_DOUBT = 5.0, 0.05
SECOND = 1.0
# From this much memory on, beside what calls hold, it is short, and from the second on, in all, critical: then, if all
# make do, whoever has sent most has to go; in bytes.
SHORT, CRITICAL = 192 << 20, 400 << 20


async def shut_out_floods_forever(port: int, callers: Callers, buffers: Buffers, *, tls: bool) -> None:
    """Silences callers to a port of this process that flood it. On systems other than Linux it waits."""
    await watch_forever(_Watch(port, callers, buffers, TLS_BYTES * tls).look_until)


class _Watch:
    """Compares what connections have sent with what their calls took."""

    def __init__(self, port: int, callers: Callers, buffers: Buffers, tls_bytes: int) -> None:
        self._port = port
        self._tls_bytes = tls_bytes
        self._callers = callers
        self._buffers = buffers
        self._beside = Beside(callers)
        self._second_ends = 0.0
        # While an attack goes on, for what is known of it.
        self._besieged_until = 0.0
        self._silenced = Silenced(callers.shut_out_no_longer)

    def look_until(self, stopped: threading.Event) -> None:
        """Looks again and again, and at once where somebody is unwelcome."""
        self._grpcio = _Grpcio()
        with closing(ResidentMemory()) as memory:
            wait = LOOK_EVERY
            while not stopped.is_set():
                may_go_on = self._look(self._callers.unwelcome(wait), memory.bytes())
                wait = LOOK_AGAIN if may_go_on else LOOK_EVERY
        self._silenced.cut_off_all()

    def _look(self, unwelcome: set[str], resident: int) -> bool:
        """Shuts out who is unwelcome, or floods, and tells whether there may be more of them."""
        now = time.monotonic()
        is_busy = self._grpcio.is_busy(now)
        is_short = resident - self._buffers.held > SHORT
        if unwelcome or is_short:
            self._besieged_until = now + SECOND
        is_besieged = now < self._besieged_until
        if not (is_busy or is_besieged or self._silenced) and now < self._second_ends:
            return False
        found = list(connections(self._port))
        sent = self._beside.lately({each.peer: self._silenced.received(each) for each in found})
        first_bytes = self._tls_bytes + (LEAST_FIRST_BYTES if resident > CRITICAL else FIRST_BYTES)
        more = sent.more_than_messages(first_bytes)
        flooding: set[str] = set()
        if is_short:
            flooding = sent.more_than(first_bytes)
        elif is_besieged or self._grpcio.is_saturated:
            flooding = more
        elif is_busy:
            flooding = sent.more_than_free()
        if resident > CRITICAL:
            heard = {each.peer for each in found if each.peer not in self._silenced}
            if heard.isdisjoint(unwelcome | flooding):
                unwelcome = sent.most(heard)
        of_holders = 0.0 if resident > CRITICAL else DOUBT
        of_strangers = min(of_holders, SHORT_DOUBT) if is_short else of_holders
        # Who was silenced before more of it was read has to wait while memory is short: what else it sent is not known.
        self._silenced.look(
            more, lambda peer: of_holders if peer in sent.holders else of_strangers, now, may_hear=not is_short
        )
        self._shut_out(found, unwelcome, flooding, now)
        if now >= self._second_ends:
            self._second_ends = now + SECOND
            # What was too much stays counted, for it may not have been read yet.
            self._beside.begin_second(flooding)
        return is_busy or is_besieged

    def _shut_out(self, found: Sequence[Connection], unwelcome: set[str], suspects: set[str], now: float) -> None:
        silenced = 0
        for each in found:
            if each.peer in unwelcome or each.peer in suspects:
                silenced += self._silenced.silence(each, now, for_good=each.peer in unwelcome)
        for peer in unwelcome - {each.peer for each in found}:
            self._callers.shut_out_no_longer(peer)
        if silenced:
            logger.warning("connections are silenced that send more than calls with good keys take: %d", silenced)


class _Grpcio:
    """How busy the threads of grpcio are: what takes the processor, and is neither the event loop nor this thread."""

    def __init__(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        self._event_loop = time.pthread_getcpuclockid(main)
        self._looked, self._before = time.monotonic(), self._work()
        self._is_busy = self.is_saturated = False

    def is_busy(self, now: float) -> bool:
        """Tells whether they were lately."""
        elapsed = now - self._looked
        if elapsed >= BUSY_FOR:
            work = self._work()
            theirs, everybodys = (after - before for after, before in zip(work, self._before, strict=True))
            share = theirs / min(elapsed, everybodys) if theirs > LEAST_BUSY * elapsed else 0.0
            self._is_busy, self.is_saturated = share > BUSY, share > SATURATED
            self._looked, self._before = now, work
        return self._is_busy

    def _work(self) -> tuple[float, float]:
        everybodys = time.process_time() - time.thread_time()
        return everybodys - time.clock_gettime(self._event_loop), everybodys
