"""Errors of one context. Each has its ``key``."""

from __future__ import annotations

from typing import Any

from taskctx_sql.errors.base import TaskContextError
from taskctx_sql.errors.remedies import shell_command
from taskctx_sql.errors.stores import StoreError


class SaveOrderError(TaskContextError, RuntimeError):
    """Two saves of one context overlapped, as from two event loops. Nothing was changed."""

    def __init__(self) -> None:
        super().__init__(
            "a save of this context is under way, perhaps in another event loop: "
            "await it there first, and use a context in one event loop at a time"
        )


class ContextExistsError(StoreError):
    """A context that was to be created exists already. Nothing was changed."""

    def __init__(self, key: object) -> None:
        super().__init__(f"context {key} is there already: choose another chat, or delete it first")
        self.key: Any = key


class ContextNotFoundError(StoreError):
    """The store does not have the context: it was never saved, or was deleted, perhaps a moment ago."""

    def __init__(self, key: object) -> None:
        super().__init__(
            f"there is no context {key} in the store, or no longer: check the user and the chat; "
            "`taskctx list` shows which there are"
        )
        self.key: Any = key


class RevisionNotFoundError(StoreError):
    """A context has no such revision, or no longer has all of it. Nothing was changed.

    ``asked`` is the revision, or the time as a float; ``newest`` and ``pruned_until`` bound the revisions that exist.
    """

    def __init__(self, key: object, asked: int | float, newest: int, pruned_until: int = 0) -> None:
        if isinstance(asked, float):
            what, why = f"state at {asked}", "it began later"
        else:
            what = f"revision {asked}"
            why = "what was removed before was pruned" if 0 < asked < pruned_until else "there is none of that number"
        first = max(pruned_until, 1)
        super().__init__(
            f"context {key} has no {what} to show: {why}. "
            f"It has revisions {first} to {newest}; {_log_of(key)} lists them"
        )
        self.key: Any = key
        self.asked: int | float = asked
        self.newest: int = newest
        self.pruned_until: int = pruned_until


class NothingToUndoError(StoreError):
    """Every optimize, truncate and restore is already undone. Nothing was changed."""

    def __init__(self, key: object) -> None:
        super().__init__(
            f"context {key} has no optimize, truncate or restore to take back; {_log_of(key)} lists what was done"
        )
        self.key: Any = key


class PastContextError(StoreError):
    """A context that shows an earlier revision cannot do this. Nothing was changed, in memory or in the store."""

    def __init__(self, key: object, revision: int, doing: str) -> None:
        super().__init__(
            f"context {key} shows its revision {revision}, and cannot {doing} there: load() the present "
            "(changes are kept), or restore() or fork() that revision"
        )
        self.key: Any = key
        self.revision: int = revision
        self.doing: str = doing


class UnsavedChangesError(StoreError):
    """A context has unsaved changes that would be mixed up with another state. Nothing was changed."""

    def __init__(self, key: object, doing: str) -> None:
        super().__init__(f"context {key} has unsaved changes, and cannot {doing}: save() first, then do it again")
        self.key: Any = key
        self.doing: str = doing


class StaleContextError(StoreError):
    """A save was refused: another writer saved since this context was loaded, or it is not at the revision asked for.

    If neither ``if_unchanged`` nor ``if_revision`` asked for that, ``rewritten`` is True: other writers kept rewriting
    what the save would change.
    """

    def __init__(self, key: object, expected: int, found: int, *, rewritten: bool = False) -> None:
        super().__init__(
            f"context {key} is at revision {found}, and was expected at {expected}: "
            "load() to see what is new (unsaved changes are kept), then save() again"
        )
        self.key: Any = key
        self.expected: int = expected
        self.found: int = found
        self.rewritten: bool = rewritten


class LostContextError(StoreError):
    """The context was deleted while this program worked on it, or the database was set back to an older copy."""

    def __init__(self, key: object) -> None:
        super().__init__(
            f"context {key} was deleted from the store after it was loaded, or the store was set back to an older "
            "copy: load() to take what is there now (unsaved changes are kept), then save() again"
        )
        self.key: Any = key


class CorruptRecordError(StoreError):
    """A row or an entry cannot be read. Nothing was changed."""

    def __init__(self, key: object, where: str, reason: str) -> None:
        super().__init__(f"context {key}: {where} cannot be read: {reason}. Restore it from a backup, or remove it")
        self.key: Any = key
        self.where: str = where
        self.reason: str = reason


class UnreadableFileError(StoreError):
    """A history file is not valid. It was renamed to ``moved_to``, unchanged."""

    def __init__(self, path: str, moved_to: str | None, reason: str) -> None:
        fate = f"it was kept as {moved_to}" if moved_to else "it could not be renamed and is where it was"
        super().__init__(f"{path} is not a readable history ({reason}): {fate}. Correct it and rename it back")
        self.path: str = path
        self.moved_to: str | None = moved_to
        self.reason: str = reason


def _log_of(key: Any) -> str:
    return shell_command("log", str(key.user_id), str(key.chat_id))
