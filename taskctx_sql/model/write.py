"""What is written to a context without loading it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from taskctx_sql import clock
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number
from taskctx_sql.model.delta import Delta, FileChange
from taskctx_sql.model.key import ContextKey
from taskctx_sql.model.model_use import model_use
from taskctx_sql.model.run import Run
from taskctx_sql.model.state import StateChange
from taskctx_sql.model.update import ContextUpdate
from taskctx_sql.random_ids import new_uuid

NewUpdate = ContextUpdate | tuple[str, Any] | tuple[str, Any, dict[str, Any]]

# The labels that have an argument of their own.
TITLE: Final = "title"
PARENT: Final = "parent"


@dataclass(frozen=True, slots=True)
class Write:
    """What is written to one context in one transaction, by a program that has not loaded it.

    Attributes:
        key: The context; one that is not there is created.
        updates: New updates, in order: `ContextUpdate`, or (update_type, data) or (update_type, data, metadata), which
            get the present time.
        models: New model uses, as entries of ``model_tracker``; without a timestamp, they get the present time.
        files: Tracked files that are new, changed or no longer tracked.
        state: Named values to set: by name, or as `StateChange`, which can expire.
        remove_state: The names of values to remove; one that is not there is no error.
        remove_updates: The seqs of updates to take out of the history; one that is not there is no error.
        labels: Labels to set; None removes one.
        title: The label "title".
        parent: The label "parent": the chat of the task that this one belongs to.
        if_revision: Refuse, unless the context is at this revision; 0: unless it is not there.
        run: The run that writes, and the number of this write in it. By default a run of this write alone, which is
            completed with it.
    """

    key: ContextKey
    updates: Sequence[NewUpdate] = ()
    models: Sequence[Mapping[str, Any]] = ()
    files: Sequence[FileChange] = ()
    state: Mapping[str, Any] | Sequence[StateChange] = ()
    remove_state: Sequence[str] = ()
    remove_updates: Sequence[int] = ()
    labels: Mapping[str, str | None] | None = None
    title: str | None = None
    parent: str | None = None
    if_revision: int | None = None
    run: Run | None = None

    def delta(self, base: Any = None) -> Delta:
        """Return what a store saves. ``base`` is what it returned for this program's last write to the context.

        Raises:
            InvalidArgumentError: A value is not what it must be.
        """
        if self.if_revision is not None:
            check_number("if_revision", self.if_revision, 0)
        at = clock.now()
        return Delta(
            key=self.key,
            run=self.run or Run(new_uuid(), 1, at, at, "completed"),
            base=base,
            at=at,
            updates=[update if type(update) is ContextUpdate else _update(update, at) for update in self.updates],
            removed_updates=list(self.remove_updates),
            models=[model_use(given, at) for given in self.models],
            files=list(self.files),
            state=self._state_changes() if self._has_state else (),
            if_revision=self.if_revision,
            is_blind=True,
        )

    @property
    def _has_state(self) -> bool:
        named = self.title is not None or self.parent is not None
        return bool(named or self.state or self.remove_state or self.labels)

    def _state_changes(self) -> tuple[StateChange, ...]:
        if isinstance(self.state, Mapping):
            changes = [StateChange(name, value) for name, value in self.state.items()]
        else:
            changes = list(self.state)
        if isinstance(self.remove_state, str):
            raise InvalidArgumentError("remove_state", self.remove_state, "a sequence of names")
        changes += [StateChange(name, removed=True) for name in self.remove_state]
        labels = {**(self.labels or {})}
        labels |= {name: text for name, text in ((TITLE, self.title), (PARENT, self.parent)) if text is not None}
        for name, text in labels.items():
            changes.append(StateChange(name, text, removed=text is None, kind="label"))
        return tuple(changes)


def _update(given: Any, at: float) -> ContextUpdate:
    if isinstance(given, ContextUpdate):
        return given
    match given:
        case (str() as update_type, data):
            return ContextUpdate(at, update_type, data, {})
        case (str() as update_type, data, Mapping() as metadata):
            return ContextUpdate(at, update_type, data, dict(metadata))
    allowed = "a ContextUpdate, (update_type, data) or (update_type, data, metadata)"
    raise InvalidArgumentError("updates", given, allowed)
