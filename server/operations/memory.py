"""The memory of the process: how much it is, and giving back what is free."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import time
from contextlib import closing
from pathlib import Path

# How often it is looked at, in seconds.
LOOK_EVERY = 0.25
# More than this, in bytes, is given back as soon as it is no more needed, lest memory be taken for short.
MUCH = 64 << 20
# More than this is given back after so long, in seconds: to find what is free stops everything else for some
# milliseconds.
SLACK, GIVE_BACK_EVERY = 16 << 20, 5.0

_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BLOCK, _MOST_FREE = 128 << 10, 8 << 20


class ResidentMemory:
    """How much memory this process has. The file stays open: to open one lets all other threads run four times."""

    def __init__(self) -> None:
        self._file = os.open(_STATM, os.O_RDONLY)

    def bytes(self) -> int:
        """Returns how much it is now."""
        return int(os.pread(self._file, 256, 0).split()[1]) * _PAGE

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def share_memory() -> None:
    """Has all threads allocate from the same memory: left to itself malloc has some for each, where what is free is of
    no use to the others. To be called before there are any. Only where malloc is glibc's."""
    libc = ctypes.CDLL(None)
    if sys.platform == "linux" and hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)


async def give_back_forever() -> None:
    """Gives free memory back to the system when there is much of it. Where it cannot, it waits."""
    libc = ctypes.CDLL(None)
    if not (sys.platform == "linux" and hasattr(libc, "malloc_trim")):
        await asyncio.Event().wait()
    # Left to itself malloc keeps larger and larger blocks, once it has freed one.
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
    libc.mallopt(_M_TRIM_THRESHOLD, _MOST_FREE)
    with closing(ResidentMemory()) as memory:
        since = time.monotonic()
        before = least = kept = memory.bytes()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            resident, now = memory.bytes(), time.monotonic()
            least, kept = min(least, resident), min(kept, resident)
            is_much = resident > kept + MUCH and resident <= before
            before = resident
            if is_much or (resident > least + SLACK and now - since > GIVE_BACK_EVERY):
                if not is_much:
                    # grpcio leaves the metadata of each call in a cycle. While calls are many it takes a tenth of a
                    # second to find that hardly any has ended.
                    gc.collect()
                await asyncio.to_thread(libc.malloc_trim, 0)
                since, kept = now, memory.bytes()
