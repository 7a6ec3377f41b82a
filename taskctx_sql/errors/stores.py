"""Errors of a store as a whole: it could not be reached, used, or asked for this."""

from __future__ import annotations

from taskctx_sql.errors.base import TaskContextError


class StoreError(TaskContextError):
    """A store could not do its work. What was unsaved is still unsaved, and the next save writes it.

    ``outcome_unknown`` is True if the connection broke while the commit was under way, so that the work may or may
    not be done. A context repeats such a save under the same identity, which is harmless either way. ``denied`` is True
    if the account, or the process, may read there and not write.
    """

    outcome_unknown: bool = False
    denied: bool = False


class StoreFailedError(StoreError):
    """The database or the file system failed; its own error is the ``__cause__``.

    ``looked`` is True if a save was refused after the store had looked for an earlier copy of it, and found none.
    """

    def __init__(
        self, doing: str, database_url: str, reason: str, *, outcome_unknown: bool = False, looked: bool = False
    ) -> None:
        doubt = "; whether it was written is not known, and saving again is safe" if outcome_unknown else ""
        super().__init__(f"could not {doing} in {database_url}: {reason}{doubt}")
        self.doing: str = doing
        self.database_url: str = database_url
        self.reason: str = reason
        self.outcome_unknown = outcome_unknown
        self.looked: bool = looked


class SaveRefusedError(StoreFailedError):
    """The database refuses what a save holds, and will refuse it again: a trigger, a constraint, a quota, a policy.

    Nothing was written, and all of it is still unsaved. The database's error is the ``__cause__``.
    """

    def __init__(self, database_url: str, reason: str, *, looked: bool = True) -> None:
        remedy = "nothing was written: correct or remove what it names and save() again, or discard() what is unsaved"
        super().__init__("save", database_url, f"the database refuses it ({reason}); {remedy}", looked=looked)


class StoreUnavailableError(StoreError):
    """The store could not be reached, or stayed locked, for as long as retrying was allowed."""

    def __init__(
        self, doing: str, database_url: str, waited: float, reason: str, *, outcome_unknown: bool = False
    ) -> None:
        super().__init__(
            f"could not {doing} in {database_url} within {waited:.1f} s ({reason}); "
            "what is unsaved is kept: try again when the store is available"
        )
        self.doing: str = doing
        self.database_url: str = database_url
        self.waited: float = waited
        self.reason: str = reason
        self.outcome_unknown = outcome_unknown


class StoreNotOpenedError(StoreError, AttributeError):
    """A store was used before it was opened."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the store is not open yet, so it has no {name!r}: use `async with open_store(...) as store`, "
            "`with open_store(...) as store` or `store = await open_store(...)`"
        )
        self.name: str = name


class StoreClosedError(StoreError):
    """The store is closed."""

    def __init__(self, database_url: str) -> None:
        super().__init__(f"the store {database_url} is closed: open it again with open_store()")
        self.database_url: str = database_url


class WrongEventLoopError(StoreError):
    """A store was used from another event loop, or another process, than the one it was opened in."""

    def __init__(self, database_url: str) -> None:
        super().__init__(
            f"the store {database_url} belongs to another event loop or process: open one store in each "
            "(after a fork, in the child), or use `with open_store(...)` and blocking() from any thread"
        )
        self.database_url: str = database_url


class AsyncioNeededError(StoreError):
    """No asyncio event loop is running, as under trio."""

    def __init__(self, doing: str) -> None:
        super().__init__(
            f"could not {doing}: no asyncio event loop is running, as under trio. "
            "Run it under asyncio, or use `with open_store(...)` and blocking() in a separate thread"
        )
        self.doing: str = doing


class ReplacedQueuesError(StoreError):
    """gevent has replaced the queues that threads wait at, and not the threads, which would wait forever."""

    def __init__(self) -> None:
        super().__init__(
            "gevent has replaced the queues and not the threads, which wait at them forever: "
            "patch both with monkey.patch_all(), or neither with monkey.patch_all(thread=False, queue=False)"
        )


class UnsupportedByStoreError(StoreError):
    """This kind of store cannot do it; `Store.features` lists what a store keeps."""

    def __init__(self, doing: str, database_url: str, feature: str) -> None:
        super().__init__(
            f"{database_url} cannot {doing}, because it does not keep {feature}: "
            "use a database, such as sqlite:///tasks.db; "
            "`taskctx import FOLDER --user USER -d tasks.db` brings a folder into one"
        )
        self.doing: str = doing
        self.database_url: str = database_url
        self.feature: str = feature


class StorePluginError(StoreError):
    """A package that opens the stores of an address scheme is broken; its own error, if any, is the ``__cause__``."""

    def __init__(self, scheme: str, package: str, reason: str) -> None:
        super().__init__(
            f"the stores of {scheme}: come from {package}, which cannot open them: {reason}. "
            "Upgrade or uninstall the package, or report this to its authors"
        )
        self.scheme: str = scheme
        self.package: str = package
        self.reason: str = reason


class RowLevelSecurityError(StoreError):
    """An account that sees one user at a time asked for something of all users."""

    def __init__(self, doing: str, database_url: str) -> None:
        super().__init__(
            f"could not {doing} in {database_url}: row-level security shows this account one user at a time. "
            "Name the user, or connect as the owner of the tables or a role with BYPASSRLS"
        )
        self.doing: str = doing
        self.database_url: str = database_url
