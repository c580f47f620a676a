"""How hard the process has it: what its memory and the threads of grpcio are short of."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from server.api.buffers import Buffers
from server.operations.memory import ResidentMemory

# Over so long, in seconds, grpcio is busy if it takes so much of a processor, or of what the process has of them: calls
# make it take a fifth of that. Below the least share it takes nothing from anybody; from the second on it is saturated.
BUSY_FOR, BUSY, SATURATED, LEAST_BUSY = 0.05, 0.5, 0.8, 0.2
# From this much memory on, beside what calls hold, it is short, also if it will be so at the next look as it grows now;
# and from the second on, in all, critical; in bytes.
SHORT, CRITICAL = 192 << 20, 400 << 20
# By how much it grows from one look to the next when it is being filled, in bytes.
FILLING = 16 << 20


@dataclass(frozen=True, slots=True)
class Pressure:
    """Whether grpcio is busy, and saturated, and whether memory is short, and critical, and being filled."""

    is_busy: bool
    is_saturated: bool
    is_short: bool
    is_critical: bool
    is_filling: bool


class Gauge:
    """Tells the pressure, to one thread, which is not the event loop's. What that thread takes does not count."""

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._memory = ResidentMemory()
        self._grpcio = _Grpcio()
        self._before, self._held_before = self._memory.bytes(), buffers.held

    def pressure(self, now: float) -> Pressure:
        """Returns what it is."""
        resident, held = self._memory.bytes(), self._buffers.held
        self._grpcio.look(now)
        beside_calls = resident - held
        # Room that calls have given up may never have been filled: that it is free again is no growth.
        growth = max(0, resident - self._before - max(0, held - self._held_before))
        self._before, self._held_before = resident, held
        return Pressure(
            is_busy=self._grpcio.is_busy,
            is_saturated=self._grpcio.is_saturated,
            is_short=beside_calls + growth > SHORT,
            is_critical=resident > CRITICAL,
            is_filling=growth > FILLING,
        )

    def close(self) -> None:
        """Closes what it reads."""
        self._memory.close()


class _Grpcio:
    """How busy the threads of grpcio are: what takes the processor, and is neither the event loop nor this thread."""

    def __init__(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        self._event_loop = time.pthread_getcpuclockid(main)
        self._looked, self._before = time.monotonic(), self._work()
        self.is_busy = self.is_saturated = False

    def look(self, now: float) -> None:
        """Looks again, if the last time is long enough ago."""
        elapsed = now - self._looked
        if elapsed >= BUSY_FOR:
            work = self._work()
            theirs, everybodys = (after - before for after, before in zip(work, self._before, strict=True))
            share = theirs / min(elapsed, everybodys) if theirs > LEAST_BUSY * elapsed else 0.0
            self.is_busy, self.is_saturated = share > BUSY, share > SATURATED
            self._looked, self._before = now, work

    def _work(self) -> tuple[float, float]:
        everybodys = time.process_time() - time.thread_time()
        return everybodys - time.clock_gettime(self._event_loop), everybodys
