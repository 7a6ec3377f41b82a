"""The points of a run, counted, and the one thing that is done at one of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tests.chaos.explore.statements import Fault


class Action(Enum):
    """What is done at a point, beside letting a statement fail."""

    CANCEL = "cancel the caller"
    CANCEL_TWICE = "cancel the caller, and again while it settles"
    CLOSE = "close the store"
    OTHER_SAVES = "a second writer saves"
    OTHER_DELETES = "a second writer deletes the context"
    OTHER_PRUNES = "somebody prunes what was removed"
    OTHER_PRUNES_ALL = "somebody prunes all contexts"
    ADD = "the program adds an update"
    EDIT = "the program edits an update"


class Where(Enum):
    STEP = "step"
    STATEMENT = "statement"
    COMMIT = "commit"


# Beside the seconds for which a call may try again, it may take so long.
HANG_SECONDS: Final = 5.0
# How many steps later a caller is cancelled again.
AGAIN_AFTER: Final = 2
# A statement on a thread waits so long for what the loop is to do.
PATIENCE: Final = 0.5


@dataclass(frozen=True)
class Injection:
    """One thing, done at one point: the n-th step, statement or COMMIT of a program, from 1."""

    where: Where
    place: int
    what: Action | Fault

    def __str__(self) -> str:
        return f"{self.what.value}, at {self.where.value} {self.place}"


class Points:
    """Counts the points of the calls of a program, and does what is to be done at one of them.

    Args:
        loop: Whose steps are counted.
        injection: What is to be done; None to count only.
        act: Does it, on the loop.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, injection: Injection | None, act: Callable[[Action], None]
    ) -> None:
        self.counts = dict.fromkeys(Where, 0)
        self.fired = False
        self.caller: asyncio.Task[object] | None = None
        self._loop, self._injection, self._act = loop, injection, act
        self._thread = threading.get_ident()
        self._again: int | None = None
        self._ended = False

    def step(self) -> None:
        if self.caller is None or self._ended:
            return
        self.counts[Where.STEP] += 1
        if self._again is not None and self.counts[Where.STEP] >= self._again:
            self._again = None
            self.caller.cancel()
        if self._is_due(Where.STEP):
            self._do()

    def statement(self, text: str, commits: bool) -> Fault | None:
        if self.caller is None or self._ended or self.fired:
            return None
        self.counts[Where.STATEMENT] += 1
        self.counts[Where.COMMIT] += commits
        if not (self._is_due(Where.STATEMENT) or (commits and self._is_due(Where.COMMIT))):
            return None
        assert self._injection is not None
        if isinstance(self._injection.what, Fault):
            self.fired = True
            return self._injection.what
        if threading.get_ident() == self._thread:
            self._do()
        else:
            self.fired = True
            done = threading.Event()

            def do() -> None:
                self._do()
                done.set()

            self._loop.call_soon_threadsafe(do)
            done.wait(PATIENCE)
        return None

    def end(self) -> None:
        """Count no more, and do nothing any more."""
        self._injection = self._again = None
        self._ended = True

    def _is_due(self, where: Where) -> bool:
        due = self._injection
        return due is not None and not self.fired and (due.where, due.place) == (where, self.counts[where])

    def _do(self) -> None:
        self.fired = True
        assert self._injection is not None
        action = self._injection.what
        assert isinstance(action, Action)
        if action in (Action.CANCEL, Action.CANCEL_TWICE):
            if self.caller is not None:
                self.caller.cancel()
            if action is Action.CANCEL_TWICE:
                self._again = self.counts[Where.STEP] + AGAIN_AFTER
        else:
            self._act(action)
