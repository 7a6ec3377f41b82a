"""How long a call may take, on a machine that may be busy: a hang is told from a machine that had no time.

A thread sleeps a moment again and again, and syncs a few bytes to the disk now and then. What that takes longer than it
should is time in which the machine did nothing for anybody here, and a call is given as much more. A call that is not
back long after that hangs, however busy the machine was.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from typing import Any, Final

# How long the thread sleeps, and after how many times it syncs.
BEAT_SECONDS: Final = 0.05
SYNC_EVERY: Final = 20
# What a sleep and a sync may take beyond that on an idle machine.
EXPECTED_SECONDS: Final = 0.01
# How many times as long as allowed somebody waits to see whether a call comes back at all.
LONGEST: Final = 4


class Pulse:
    """Counts the seconds that the machine owes. Use it with ``with``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owed = 0.0
        self._beat_began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="chaos-pulse", daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def owed(self) -> float:
        """How many seconds so far, the beat under way included."""
        with self._lock:
            late = time.monotonic() - self._beat_began - BEAT_SECONDS - EXPECTED_SECONDS
            return self._owed + max(0.0, late)

    def _beat(self) -> None:
        # Not the watched one: this is no write of the program's.
        with tempfile.TemporaryFile() as file:
            beats = 0
            while not self._ended.wait(BEAT_SECONDS):
                beats += 1
                if beats % SYNC_EVERY == 0:
                    file.seek(0)
                    file.write(b"beat")
                    file.flush()
                    _real_fsync(file.fileno())
                with self._lock:
                    now = time.monotonic()
                    self._owed += max(0.0, now - self._beat_began - BEAT_SECONDS - EXPECTED_SECONDS)
                    self._beat_began = now


_real_fsync = os.fsync


class HangError(Exception):
    """Something did not come back in time, and the machine was not the reason."""


async def in_time(pulse: Pulse, task: asyncio.Future[Any], seconds: float) -> float:
    """Wait for a task; return how many seconds beyond those allowed the machine took.

    Raises:
        HangError: The task is not done, or was late, and the machine does not explain it.
    """
    started, owed = time.monotonic(), pulse.owed()
    await asyncio.wait([task], timeout=seconds)
    if task.done():
        return 0.0
    where = "".join(map(str, task.get_stack(limit=3))) if isinstance(task, asyncio.Task) else ""
    await asyncio.wait([task], timeout=seconds * (LONGEST - 1))
    took, owes = time.monotonic() - started, pulse.owed() - owed
    if not task.done():
        task.cancel()
        raise HangError(f"it hangs: not back after {took:.1f} s, of which the machine took {owes:.1f} s: {where}")
    if took - seconds > owes:
        raise HangError(f"it hangs: back after {took:.1f} s, of which the machine took {owes:.1f} s: {where}")
    return took - seconds
