"""What an integration needs beside this library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from taskctx_sql.errors import MissingPackageError


@contextmanager
def needs(package: str, extra: str | None) -> Iterator[None]:
    """Import a framework in this block, and raise MissingPackageError, with the remedy, if it is not installed.

    Args:
        package: The framework's package, as pip names it.
        extra: The extra that installs it, or None if there is none.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackageError(package, extra) from error
