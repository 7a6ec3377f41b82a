"""One run: a program on a store, one thing done at one point, and everything compared with the model."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from taskctx_sql import Feature, TaskContext
from taskctx_sql.errors import LostContextError, StoreClosedError, StoreError, UnsavedChangesError
from tests.chaos.explore.acting import act
from tests.chaos.explore.looking import look_back, nothing_is_left
from tests.chaos.explore.loop import SteppingLoop
from tests.chaos.explore.losses import is_gone, is_set_back
from tests.chaos.explore.model import Model, State, add, items_of, marks_of
from tests.chaos.explore.outcome import AFTER_A_FAILURE, NOT_THERE_ANY_MORE, HasEndedError, Outcome, WrongError
from tests.chaos.explore.patience import HangError, Pulse, in_time
from tests.chaos.explore.places import Other, Place
from tests.chaos.explore.points import HANG_SECONDS, Injection, Points
from tests.chaos.explore.statements import WATCH
from tests.chaos.marks import USER

T = TypeVar("T")

# A program that does what the errors tell it is through after so many attempts.
ATTEMPTS: Final = 8
_chats = itertools.count()


class Run:
    """A program's context and store, and the calls of the program with what comes after a failure.

    Args:
        place: Where.
        injection: What is done, and at which point; None to count the points.
        pulse: What the machine owes.
        patient: Whether a save that failed is done again at once, rather than with whatever comes next.
        retry_seconds: As of `open_store`.
        strict: As of `open_store`.
    """

    def __init__(
        self,
        place: Place,
        injection: Injection | None,
        pulse: Pulse,
        *,
        patient: bool,
        retry_seconds: float,
        strict: bool,
    ) -> None:
        self.place, self.injection, self.pulse = place, injection, pulse
        self.patient, self.retry_seconds, self.strict = patient, retry_seconds, strict
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SteppingLoop)
        self.points = Points(loop, injection, lambda action: act(self, action))
        loop.on_step, WATCH.listener = self.points.step, self.points.statement
        self.outcome = Outcome(self.points.counts)
        # Each run has a user of its own, so that pruning is about this run.
        self.chat = self.first_chat = f"explored-{next(_chats)}"
        self.data = {"user_id": f"{USER}-{self.chat}", "chat_id": self.chat}
        self.ticks = itertools.count()
        # How often the program changed whose context it is, and heard that it was gone; and what it copied.
        self.moves = self.losses = 0
        self.copied: set[str] = set()
        self.engine = place.engine()
        self.other: Other | None = None
        self.closing: asyncio.Task[None] | None = None
        # While a call was under way: what was added, whether a call was refused because of what is unsaved, and whether
        # something was edited; and whether somebody ever deleted the context.
        self.meanwhile: list[str] = []
        self.refused = self.is_edited = self.is_deleted = False
        # An operation whose outcome is open: the states before and after.
        self.open_operation: tuple[State, State] | None = None
        self.is_settled = True
        # How often the program called for a restore or an undo.
        self.done: dict[str, int] = {}
        # What the database was set back to, until the program has heard of it.
        self.set_back_to: Model | None = None
        self.was_set_back = False

    async def begin(self) -> None:
        self.store = await self.place.open(self.engine, strict=self.strict, retry_seconds=self.retry_seconds)
        self.model = Model(self.store.features)
        self.context = self.new_context()

    def new_context(self) -> TaskContext:
        return TaskContext(self.data, store=self.store, clock=lambda: 1_700_000_000.0 + next(self.ticks) / 8)

    @property
    def keeps_revisions(self) -> bool:
        return Feature.REVISIONS in self.store.features

    def wrong(self, *problems: str) -> None:
        self.outcome.problems += problems

    # The calls.

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Call, with the points counted, and see that it ends."""
        started = time.monotonic()
        task = asyncio.ensure_future(work())
        self.points.caller = task
        try:
            await self.in_time(task, self.retry_seconds + HANG_SECONDS)
        finally:
            self.points.caller = None
        self.outcome.longest = max(self.outcome.longest, time.monotonic() - started)
        return await task

    async def in_time(self, task: asyncio.Future[Any], seconds: float) -> None:
        """Wait for something, as long as it may take on a machine that may be busy."""
        try:
            late = await in_time(self.pulse, task, seconds)
        except HangError as error:
            raise WrongError(str(error)) from error
        self.outcome.late = max(self.outcome.late, late)

    async def until_done(self, work: Callable[[], Coroutine[Any, Any, T]], beside: TaskContext | None = None) -> T:
        """Call, and after a failure do what the errors tell, until it is done.

        Args:
            work: The call.
            beside: The context that it is about, if that is not the program's own.
        """
        last = ""
        for attempt in range(ATTEMPTS):
            try:
                return await self.call(work)
            except asyncio.CancelledError:
                last = "CancelledError"
            except LostContextError as error:
                await self.lost(error, beside)
                last = "LostContextError"
            except UnsavedChangesError:
                self.refused = True
                last = "UnsavedChangesError"
                await self.until_saved()
            except StoreClosedError as error:
                if self.closing is None:
                    raise WrongError(f"StoreClosedError, and nobody closed it: {error}") from error
                raise HasEndedError from error
            except NOT_THERE_ANY_MORE as error:
                if not (self.is_deleted or self.model.pruned):
                    raise WrongError(f"refused: {type(error).__name__}: {error}") from error
                raise
            except AFTER_A_FAILURE as error:
                last = f"{type(error).__name__}: {error}"
                if not self.points.fired:
                    raise WrongError(last) from error
                # A lock of somebody else's, for one; or of a COMMIT that is done later, on a busy server.
                await asyncio.sleep(0.02 * attempt)
                if attempt > ATTEMPTS // 2 and WATCH.late:
                    await asyncio.wait(WATCH.late, timeout=HANG_SECONDS)
            except Exception as error:
                raise WrongError(f"{type(error).__name__}: {error}") from error
            self.outcome.trace.append(last)
        raise WrongError(f"there is no way out: {last}, again and again")

    async def until_saved(self) -> None:
        await self.until_done(self.context.save)
        self.acknowledge()
        self.is_settled = True

    def acknowledge(self) -> None:
        """A save returned. What was added while it was under way may belong to the next one."""
        before = marks_of(self.model.acknowledged)
        self.model.acknowledged = {
            item: value for item, value in self.model.present.items() if item[1].partition("/")[0] not in self.meanwhile
        }
        self.outcome.acknowledged += len(marks_of(self.model.acknowledged) - before)

    async def settle(self) -> None:
        """Save until nothing is unsaved, before an operation."""
        for _ in range(ATTEMPTS):
            await self.until_saved()
            if not self.context.has_unsaved_changes:
                break
        self.meanwhile.clear()
        self.refused = self.is_edited = False

    async def save(self) -> None:
        """Save, as patiently as this program does."""
        if self.patient or self.points.fired:
            await self.until_saved()
            return
        try:
            await self.call(self.context.save)
            self.acknowledge()
        except (asyncio.CancelledError, *AFTER_A_FAILURE) as error:
            # Whatever comes next settles it.
            self.is_settled = False
            self.outcome.trace.append(f"went on after {type(error).__name__}")
        except StoreClosedError as error:
            raise HasEndedError from error
        except LostContextError as error:
            await self.lost(error)
            await self.until_saved()

    async def lost(self, error: LostContextError, beside: TaskContext | None = None) -> None:
        if not self.is_deleted and not self.was_set_back:
            raise WrongError(f"LostContextError, and nobody deleted it: {error}") from error
        if beside is not None:
            # Whether the program's own is gone, too, its next call tells.
            await self.until_done(beside.load, beside)
            return
        await self.until_done(self.context.load)
        if self.set_back_to is not None and not self.model.gone:
            is_set_back(self, self.set_back_to)
        else:
            is_gone(self, items_of(self.context, self.model.features))
        self.set_back_to = None

    async def too_early(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Call what refuses unsaved changes while there are some; an update comes before they are saved."""
        if self.is_settled or not self.context.has_unsaved_changes:
            return
        try:
            await self.call(work)
        except UnsavedChangesError:
            mark = self.model.new_mark()
            add(self.context, mark)
            self.model.added(mark)
        except (asyncio.CancelledError, *AFTER_A_FAILURE):
            return
        except LostContextError as error:
            await self.lost(error)
        else:
            self.wrong("it was done, with unsaved changes")

    async def or_interrupted(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Call until it is done; where it broke off, nobody sees a part of the context."""
        try:
            await self.call(work)
        except (asyncio.CancelledError, *AFTER_A_FAILURE) as error:
            self.outcome.trace.append(f"broke off with {type(error).__name__}")
            gone = self.model.gone
            await self.compare("what is seen after it broke off")
            self.model.gone = gone
            await self.until_done(work)

    # What came of it.

    async def after_step(self) -> None:
        """See what is stored once a call of the program is over."""
        if self.other is not None:
            for error in await self.other.finish(HANG_SECONDS):
                if not isinstance(error, StoreError):
                    self.wrong(f"the second writer got {type(error).__name__}: {error}")
        if self.closing is not None:
            raise HasEndedError
        self.meanwhile.clear()
        self.refused = self.is_edited = False
        if self.is_settled and not self.context.has_unsaved_changes:
            await self.compare("the store")

    async def fresh(self, revision: int | None = None, chat: str | None = None) -> TaskContext:
        context = self.new_context()
        context.chat_id = chat or self.chat
        await context.load(revision=revision)
        return context

    async def compare(self, what: str) -> State:
        context = await self.fresh()
        state = items_of(context, self.model.features)
        self.wrong(*self.model.faults_of(state, what), *self.model.torn(state, what))
        if self.keeps_revisions and context.revision:
            was = state if self.model.gone else self.model.past.get(context.revision, state)
            if was != state:
                self.wrong(f"revision {context.revision} is the newest still, and is another one now")
            self.model.past[context.revision] = state
        if self.outcome.problems:
            raise WrongError("")
        if self.model.gone and items_of(self.context, self.model.features) == state:
            is_gone(self, state)
        return state

    async def end(self) -> None:
        """A last save with nothing done to it, and the comparison of all there is."""
        self.points.end()
        mark = self.model.new_mark()
        add(self.context, mark)
        self.model.added(mark)
        await self.until_saved()
        if self.context.has_unsaved_changes:
            self.wrong("after a save it has unsaved changes")
        self.context_memory = items_of(self.context, self.model.features)
        state = await self.compare("the end")
        self.wrong(*self.model.faults_of(self.context_memory, "memory"))
        missing = [item for item in self.context_memory if item not in state]
        # A file that somebody deleted and another one made anew is, to its writers, one that others changed.
        if missing and (self.keeps_revisions or not self.is_deleted):
            self.wrong(f"memory has what the store has not: {missing}")
        again = await self.fresh()
        if self.keeps_revisions:
            await look_back(self, again.revision)

    async def close(self) -> None:
        """Close all, and see that nothing is left behind."""
        WATCH.listener = None
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SteppingLoop)
        loop.on_step = None
        if self.closing is not None:
            await self.in_time(self.closing, HANG_SECONDS)
            await self.closing
        closing = asyncio.ensure_future(self.store.close())
        await self.in_time(closing, HANG_SECONDS)
        await closing
        if self.other is not None:
            await self.other.finish(HANG_SECONDS)
            other, self.other = self.other, None
            await asyncio.to_thread(other.close)
        late, WATCH.late[:] = list(WATCH.late), []
        await asyncio.gather(*late, return_exceptions=True)
        if self.engine is not None:
            pool: Any = self.engine.pool
            if out := pool.checkedout() if hasattr(pool, "checkedout") else 0:
                self.wrong(f"{out} connections of the engine were not given back")
            await self.engine.dispose()
        await nothing_is_left(self)
