"""Everything the library raises on purpose.

Each error keeps its facts as attributes; its message is built once, here, and one that a user can mend says how.
"""

from __future__ import annotations

from typing import Any


class TaskContextError(Exception):
    """Base of all of the library's errors. They can be sent to other processes, facts and all."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by the arguments, which are only the message.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[TaskContextError], args: tuple[Any, ...], facts: dict[str, Any]) -> TaskContextError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


def shown(value: object, most: int = 200) -> str:
    """Return how a value is shown in a message, whatever its ``repr`` does."""
    try:
        # A lone surrogate could not be printed.
        text = repr(value).encode("utf-8", "backslashreplace").decode()
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= most else f"{text[:most]}..."


# What a caller handed in.


class InvalidContextError(TaskContextError, TypeError):
    """The data a context is made from is not what it must be."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field} must be {expected}, and is a {type(value).__name__}")
        self.field, self.value, self.expected = field, value, expected


class SaveOrderError(TaskContextError, RuntimeError):
    """A save of a context was begun while another one is under way, or its outcome came twice. Nothing was changed."""

    def __init__(self) -> None:
        super().__init__(
            "a save of this context is under way, perhaps in another event loop: "
            "await it there first, and use a context in one event loop at a time"
        )


class InvalidIdError(TaskContextError, ValueError):
    """A user_id or chat_id that cannot name a context."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field} {shown(value, 60)} cannot be used: {reason}")
        self.field, self.value, self.reason = field, value, reason


class InvalidSettingError(TaskContextError, ValueError):
    """An environment variable has a value that is not allowed."""

    def __init__(self, variable: str, value: str, allowed: str) -> None:
        super().__init__(f"{variable}={value!r} is not allowed: set it to {allowed}")
        self.variable, self.value, self.allowed = variable, value, allowed


class InvalidDatabaseUrlError(TaskContextError, ValueError):
    """A database URL that is not understood. The message never shows a password."""

    def __init__(self, database_url: str, reason: str) -> None:
        super().__init__(
            f"{database_url!r} is not a database URL of a store: {reason}. "
            "Use sqlite:///tasks.db, postgresql://user@host/database or json:///folder"
        )
        self.database_url, self.reason = database_url, reason


class InvalidArgumentError(TaskContextError, ValueError):
    """An argument has a value that makes no sense."""

    def __init__(self, argument: str, value: object, allowed: str) -> None:
        super().__init__(f"{argument}={shown(value)} makes no sense: give {allowed}")
        self.argument, self.value, self.allowed = argument, value, allowed


class InvalidRetentionError(TaskContextError, ValueError):
    """What is to be removed is not said, or makes no sense."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this cannot be removed: {reason}. Give a limit such as an age, or name the chat")
        self.reason = reason


class MissingHistoriesError(TaskContextError, ValueError):
    """A folder or a file that histories were to be read from is not there, or has none."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"there is nothing to read in {place}: {reason}. Check the path")
        self.place, self.reason = place, reason


class MissingUserError(TaskContextError, ValueError):
    """History files do not know their user, and a database needs one."""

    def __init__(self, database_url: str) -> None:
        super().__init__(
            f"the files of {database_url} do not say whose they are: name the user with --user or user_id="
        )
        self.database_url = database_url


class MissingDriverError(TaskContextError, ImportError):
    """The driver for a database is not installed."""

    def __init__(self, database: str, extra: str) -> None:
        super().__init__(f"no driver for {database} is installed: run `pip install 'taskctx_sql[{extra}]'`")
        self.database, self.extra = database, extra


class MissingPackageError(TaskContextError, ImportError):
    """A package that only some need is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: run `pip install 'taskctx_sql[{extra}]'`")
        self.package, self.extra = package, extra


class UnstorableValueError(TaskContextError, ValueError):
    """In strict mode: a value that would come back as something else than it was.

    Nothing was written, and the context still has it as unsaved.
    """

    def __init__(self, place: str, value: object, reason: str) -> None:
        super().__init__(
            f"{place} is a {type(value).__name__} that cannot be stored as it is ({reason}): "
            "replace it, or open the store without strict=True to keep its text"
        )
        self.place, self.type_name, self.reason = place, type(value).__name__, reason


class LimitExceededError(TaskContextError, ValueError):
    """Something is larger than what can be kept. Nothing was written, and the context still has it as unsaved."""

    def __init__(self, what: str, size: int, limit: int, remedy: str) -> None:
        super().__init__(f"{what}: {size:,}, and the limit is {limit:,}: {remedy}")
        self.what, self.size, self.limit, self.remedy = what, size, limit, remedy


class UnknownKeyWarning(UserWarning):
    """The data that a context is created from has a key that is not known, and ignored."""


class LossyValueWarning(UserWarning):
    """A value was stored as its text. Said once for each type."""


# What a store could not do.


class StoreError(TaskContextError):
    """A store could not do its work. What was unsaved is still unsaved, and the next save writes it.

    ``outcome_unknown`` is True when the connection broke while the commit was on its way, so the work may or may
    not be done. A context repeats such a save under the same identity, which is harmless either way. ``denied`` is True
    when the place, or the account, may be read and not be written to.
    """

    outcome_unknown = False
    denied = False


class StoreFailedError(StoreError):
    """The database or the file system failed; its own error is the ``__cause__``.

    ``outcome_unknown`` says that it may have been written all the same. ``looked`` says that a save was refused after
    the store had looked for an earlier copy of it, and found none.
    """

    def __init__(
        self, doing: str, database_url: str, reason: str, *, outcome_unknown: bool = False, looked: bool = False
    ) -> None:
        doubt = "; whether it was written is not known, and saving again is safe" if outcome_unknown else ""
        super().__init__(f"could not {doing} in {database_url}: {reason}{doubt}")
        self.doing, self.database_url, self.reason, self.outcome_unknown = doing, database_url, reason, outcome_unknown
        self.looked = looked


class SaveRefusedError(StoreFailedError):
    """The database refuses what a save holds, and will refuse it again: a trigger, a constraint, a quota, a policy.

    Nothing was written, and all of it is unsaved still. Its own error is the ``__cause__``.
    """

    def __init__(self, database_url: str, reason: str, *, looked: bool = True) -> None:
        remedy = "nothing was written: mend or remove what it names and save() again, or discard() what is unsaved"
        super().__init__("save", database_url, f"the database refuses it ({reason}); {remedy}", looked=looked)


class StoreUnavailableError(StoreError):
    """The store could not be reached, or stayed locked, for as long as retrying was allowed."""

    def __init__(
        self, doing: str, database_url: str, waited: float, reason: str, *, outcome_unknown: bool = False
    ) -> None:
        super().__init__(
            f"could not {doing} in {database_url} within {waited:.1f} s ({reason}); "
            "what is unsaved is kept: try again when the store is back"
        )
        self.doing, self.database_url, self.waited, self.reason = doing, database_url, waited, reason
        self.outcome_unknown = outcome_unknown


class StoreNotOpenedError(StoreError, AttributeError):
    """A store was used before it was opened."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the store is not open yet, so it has no {name!r}: use `async with open_store(...) as store`, "
            "`with open_store(...) as store` or `store = await open_store(...)`"
        )
        self.name = name


class StoreClosedError(StoreError):
    """The store was closed before."""

    def __init__(self, database_url: str) -> None:
        super().__init__(f"the store {database_url} is closed: open it again with open_store()")
        self.database_url = database_url


class WrongEventLoopError(StoreError):
    """A store was used from another event loop, or another process, than the one it was opened in."""

    def __init__(self, database_url: str) -> None:
        super().__init__(
            f"the store {database_url} belongs to another event loop or process: open one store in each "
            "(after a fork, in the child), or use `with open_store(...)` and blocking() from any thread"
        )
        self.database_url = database_url


class AsyncioNeededError(StoreError):
    """It was awaited where no asyncio event loop runs, such as under trio."""

    def __init__(self, doing: str) -> None:
        super().__init__(
            f"could not {doing}: no asyncio event loop runs here, as under trio. "
            "Run it under asyncio, or use `with open_store(...)` and blocking() in a thread of its own"
        )
        self.doing = doing


class ReplacedQueuesError(StoreError):
    """gevent has replaced the queues at which threads wait, and not the threads: none would ever be told anything."""

    def __init__(self) -> None:
        super().__init__(
            "gevent has replaced the queues and not the threads, which wait at them for ever: "
            "patch both with monkey.patch_all(), or neither with monkey.patch_all(thread=False, queue=False)"
        )


class ContextExistsError(StoreError):
    """A context that was to be made is there already. Nothing was changed."""

    def __init__(self, key: object) -> None:
        super().__init__(f"context {key} is there already: choose another chat, or delete it first")
        self.key = key


class RevisionNotFoundError(StoreError):
    """A context has no such revision, or no longer has all of it. Nothing was changed.

    ``asked`` is the revision, or the time as a float; ``newest`` and ``pruned_until`` say which there are.
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
            f"It has revisions {first} to {newest}; `taskctx log` lists them"
        )
        self.key, self.asked, self.newest, self.pruned_until = key, asked, newest, pruned_until


class NothingToUndoError(StoreError):
    """Nothing was optimized, truncated or restored that is not taken back already. Nothing was changed."""

    def __init__(self, key: object) -> None:
        super().__init__(
            f"context {key} has no optimize, truncate or restore to take back; `taskctx log` lists what was done"
        )
        self.key = key


class PastContextError(StoreError):
    """A context that shows an earlier revision cannot do this. Nothing was changed, in memory or in the store."""

    def __init__(self, key: object, revision: int, doing: str) -> None:
        super().__init__(
            f"context {key} shows its revision {revision}, and cannot {doing} there: load() the present "
            "(changes are kept), or restore() or fork() that revision"
        )
        self.key, self.revision, self.doing = key, revision, doing


class UnsavedChangesError(StoreError):
    """A context has unsaved changes that would be mixed up with another state. Nothing was changed."""

    def __init__(self, key: object, doing: str) -> None:
        super().__init__(f"context {key} has unsaved changes, and cannot {doing}: save() first, then do it again")
        self.key, self.doing = key, doing


class StaleContextError(StoreError):
    """A save with ``if_unchanged=True`` was refused: another writer saved since this context was loaded.

    Without it, ``rewritten`` is True: other writers wrote again and again anew what was to be changed.
    """

    def __init__(self, key: object, expected: int, found: int, *, rewritten: bool = False) -> None:
        super().__init__(
            f"context {key} is at revision {found}, and was loaded at {expected}: "
            "load() to see what is new (unsaved changes are kept), then save() again"
        )
        self.key, self.expected, self.found, self.rewritten = key, expected, found, rewritten


class LostContextError(StoreError):
    """The context was deleted while this program worked on it, or the database was set back to an older copy."""

    def __init__(self, key: object) -> None:
        super().__init__(
            f"context {key} was deleted from the store after it was loaded, or the store was set back to an older "
            "copy: load() to take what is there now (unsaved changes are kept), then save() again"
        )
        self.key = key


class ContextNotFoundError(StoreError):
    """The store does not have the context: it was never saved, or was deleted, perhaps a moment ago."""

    def __init__(self, key: object) -> None:
        super().__init__(
            f"there is no context {key} in the store, or no longer: check the user and the chat; "
            "`taskctx list` shows which there are"
        )
        self.key = key


class UnsupportedByStoreError(StoreError):
    """This kind of store cannot do it; `Store.features` tells what a store keeps."""

    def __init__(self, doing: str, database_url: str, feature: str) -> None:
        super().__init__(
            f"{database_url} cannot {doing}, for it does not keep {feature}: "
            "use a database, such as sqlite:///tasks.db; `taskctx import` brings a folder into one"
        )
        self.doing, self.database_url, self.feature = doing, database_url, feature


class RowLevelSecurityError(StoreError):
    """An account that sees one user at a time was asked for something of all users."""

    def __init__(self, doing: str, database_url: str) -> None:
        super().__init__(
            f"could not {doing} in {database_url}: row-level security shows this account one user at a time. "
            "Name the user, or connect as the owner of the tables or a role with BYPASSRLS"
        )
        self.doing, self.database_url = doing, database_url


class CorruptRecordError(StoreError):
    """A row or an entry that cannot be read back. Nothing was changed."""

    def __init__(self, key: object, where: str, reason: str) -> None:
        super().__init__(f"context {key}: {where} cannot be read: {reason}. Restore it from a backup, or remove it")
        self.key, self.where, self.reason = key, where, reason


class UnreadableFileError(StoreError):
    """A history file that is not what it must be. It was set aside under ``moved_to``, whole."""

    def __init__(self, path: str, moved_to: str | None, reason: str) -> None:
        fate = f"it was kept as {moved_to}" if moved_to else "it could not be set aside and is where it was"
        super().__init__(f"{path} is not a readable history ({reason}): {fate}. Mend it and move it back")
        self.path, self.moved_to, self.reason = path, moved_to, reason


# The schema of a database.


class SchemaError(StoreError):
    """A database's schema is not one that this version of the library can use."""


class SchemaMissingError(SchemaError):
    """The database has no tables of this library."""

    def __init__(self, database_url: str) -> None:
        super().__init__(f"{database_url} has no taskctx tables yet: run `taskctx upgrade {database_url}`")
        self.database_url = database_url


class SchemaTooOldError(SchemaError):
    """The database's schema is older than this version of the library."""

    def __init__(self, database_url: str, found: str, needed: str) -> None:
        super().__init__(
            f"the schema of {database_url} is at {found}, this version needs {needed}: "
            f"run `taskctx upgrade {database_url}`"
        )
        self.database_url, self.found, self.needed = database_url, found, needed


class SchemaTooNewError(SchemaError):
    """The database's schema was made by a newer version of the library."""

    def __init__(self, database_url: str, found: str, known: str) -> None:
        super().__init__(
            f"the schema of {database_url} is at {found}, which this version (it knows {known}) does not: "
            "run `pip install --upgrade taskctx_sql`"
        )
        self.database_url, self.found, self.known = database_url, found, known


class ForeignSchemaError(SchemaError):
    """The database has tables with our names that this library did not make."""

    def __init__(self, database_url: str, tables: list[str]) -> None:
        super().__init__(
            f"{database_url} has {', '.join(tables)} but no taskctx_alembic_version: they were not made by "
            "this library. Use another database, or on Postgres another schema="
        )
        self.database_url, self.tables = database_url, tables


class UnsupportedEncodingError(SchemaError):
    """The database was made with a character set that has no sign for most texts. Nothing was changed."""

    def __init__(self, database_url: str, found: str) -> None:
        super().__init__(
            f"{database_url} has the character set {found}, which cannot hold every text: "
            "make a database with UTF8, on Postgres with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
        self.database_url, self.found = database_url, found


class NotADatabaseError(SchemaError):
    """The file is no SQLite database."""

    def __init__(self, database_url: str) -> None:
        super().__init__(f"{database_url} is not a SQLite database: check the path; the file was not changed")
        self.database_url = database_url


class RowLevelSecurityUnavailableError(SchemaError):
    """Row-level security cannot be switched on in this database. Nothing was changed."""

    def __init__(self, database_url: str, reason: str, remedy: str) -> None:
        super().__init__(f"{database_url} cannot have row-level security: {reason}: {remedy}")
        self.database_url, self.reason, self.remedy = database_url, reason, remedy


def add_note(error: BaseException, failure: BaseException, doing: str) -> None:
    """Tell on ``error``, which wins, that something failed after it."""
    error.add_note(f"and {doing} failed too: {type(failure).__name__}: {failure}")


__all__: list[Any] = [name for name, value in globals().items() if isinstance(value, type)]
