"""Errors in what a caller passed, or in what is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskctx_sql.errors.base import TaskContextError, shown


class InvalidContextError(TaskContextError, TypeError):
    """The data that a context is created from has the wrong type."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field} must be {expected}, not a {type(value).__name__}")
        self.field: str = field
        self.value: Any = value
        self.expected: str = expected


class InvalidIdError(TaskContextError, ValueError):
    """A user_id or chat_id cannot identify a context."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field} {shown(value, 60)} cannot be used: {reason}")
        self.field: str = field
        self.value: Any = value
        self.reason: str = reason


class InvalidSettingError(TaskContextError, ValueError):
    """An environment variable has a value that is not allowed."""

    def __init__(self, variable: str, value: str, allowed: str) -> None:
        super().__init__(f"{variable}={value!r} is not allowed: set it to {allowed}")
        self.variable: str = variable
        self.value: str = value
        self.allowed: str = allowed


class InvalidDatabaseUrlError(TaskContextError, ValueError):
    """A database URL is not valid. The message never shows a password."""

    def __init__(self, database_url: str, reason: str) -> None:
        super().__init__(
            f"{database_url!r} is not a database URL: {reason}. "
            "Use sqlite:///tasks.db, postgresql://user@host/database or json:///folder"
        )
        self.database_url: str = database_url
        self.reason: str = reason


class UnknownSchemeError(InvalidDatabaseUrlError):
    """No store of this scheme is built in or installed. The message never shows a password."""

    def __init__(self, database_url: str, scheme: str, known: Sequence[str]) -> None:
        reason = f"{scheme} is not supported; the schemes of installed stores are {', '.join(known)}"
        super().__init__(database_url, reason)
        self.scheme: str = scheme
        self.known: Sequence[str] = known


class InvalidArgumentError(TaskContextError, ValueError):
    """An argument has a value that is not allowed."""

    def __init__(self, argument: str, value: object, allowed: str) -> None:
        super().__init__(f"{argument}={shown(value)} is not allowed: pass {allowed}")
        self.argument: str = argument
        self.value: Any = value
        self.allowed: str = allowed


class MissingHistoriesError(TaskContextError, ValueError):
    """A folder or file of histories does not exist, or has none."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"there is nothing to read in {path}: {reason}. Check the path")
        self.path: str = path
        self.reason: str = reason


class MissingUserError(TaskContextError, ValueError):
    """History files do not contain their user, and a database needs one."""

    def __init__(self, database_url: str) -> None:
        super().__init__(f"the files of {database_url} do not say whose they are: pass the user by --user or user_id=")
        self.database_url: str = database_url


class MissingDriverError(TaskContextError, ImportError):
    """The driver of a database is not installed."""

    def __init__(self, database: str, extra: str) -> None:
        super().__init__(f"the driver for {database} is not installed: run `pip install 'taskctx_sql[{extra}]'`")
        self.database: str = database
        self.extra: str = extra


class MissingPackageError(TaskContextError, ImportError):
    """An optional package is not installed. ``extra`` is the extra that installs it; None if there is none."""

    def __init__(self, package: str, extra: str | None) -> None:
        what = package if extra is None else f"'taskctx_sql[{extra}]'"
        super().__init__(f"{package} is not installed: run `pip install {what}`")
        self.package: str = package
        self.extra: str | None = extra


class UnstorableValueError(TaskContextError, ValueError):
    """In strict mode, a value would load as something else than it was.

    Nothing was written, and the value is still unsaved in the context.
    """

    def __init__(self, place: str, value: object, reason: str) -> None:
        super().__init__(
            f"{place} is a {type(value).__name__} that cannot be stored as it is ({reason}): "
            "replace it, or open the store without strict=True to keep its text"
        )
        self.place: str = place
        self.type_name: str = type(value).__name__
        self.reason: str = reason


class LimitExceededError(TaskContextError, ValueError):
    """Something is larger than a store can keep. Nothing was written, and it is still unsaved in the context."""

    def __init__(self, what: str, size: int, limit: int, remedy: str) -> None:
        super().__init__(f"{what}: {size:,}, and the limit is {limit:,}: {remedy}")
        self.what: str = what
        self.size: int = size
        self.limit: int = limit
        self.remedy: str = remedy


class UnknownKeyWarning(UserWarning):
    """The data that a context is created from has an unknown key, which is ignored."""


class LossyValueWarning(UserWarning):
    """A value was stored as its text. Issued once for each type."""
