"""Stores that other packages bring, found by the scheme of their addresses."""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoint
from typing import Any, Protocol

from taskctx_sql import observing
from taskctx_sql.errors import InvalidArgumentError, StorePluginError, TaskContextError, UnknownSchemeError
from taskctx_sql.locations import BUILT_IN, hidden, installed_schemes, without_secrets
from taskctx_sql.stores.protocol import Store


class StoreOpener(Protocol):
    """What an entry point of the group ``taskctx_sql.stores`` names: it opens the stores of one address scheme.

    The entry point's name is the scheme: ``myscheme = "package.module:open_it"`` opens ``myscheme://...``.
    """

    async def __call__(self, database_url: str, /, *, strict: bool, retry_seconds: float | None) -> Store:
        """Open the store at an address.

        Whatever else the store can be told belongs in the address.

        Args:
            database_url: The address as the user wrote it.
            strict: Refuse values that would come back as their text, with `UnstorableValueError`.
            retry_seconds: How long to retry while the store cannot be reached; None for the store's own default.

        Returns:
            An open store: an instance of a subclass of `Store`, or anything else that has all of its methods.

        Raises:
            InvalidDatabaseUrlError: The address is not one of the store's.
            StoreError: The store could not be reached, or refused.
        """


async def open_third_store(
    database_url: str, scheme: str, *, strict: bool, retry_seconds: float | None, others: dict[str, Any]
) -> Store:
    """Open a store that another package brings.

    Args:
        database_url: The address.
        scheme: Its scheme, which is not built in.
        strict: See `StoreOpener`.
        retry_seconds: See `StoreOpener`.
        others: Options of `open_store` that only databases have; None and False mean that they were not given.

    Raises:
        UnknownSchemeError: No installed package has stores of the scheme.
        StorePluginError: A package has them, and is broken; or several do.
        InvalidArgumentError: An option is given that only databases have.
        TaskContextError: The package's own reason not to open the address.
    """
    installed = installed_schemes()
    points = installed.get(scheme, [])
    if not points:
        raise UnknownSchemeError(hidden(database_url), scheme, (*BUILT_IN, *sorted(installed)))
    if len(points) > 1:
        several = ", ".join(sorted(map(_package, points)))
        raise StorePluginError(scheme, several, "only one package may open a scheme: uninstall the others")
    (point,) = points
    for option, value in others.items():
        if value is not None and value is not False:
            raise InvalidArgumentError(option, value, f"it to databases only, which {scheme}: is not")
    opener = _load(point)
    try:
        store = await opener(database_url, strict=strict, retry_seconds=retry_seconds)
    except TaskContextError:
        raise
    except Exception as error:
        raise StorePluginError(scheme, _package(point), f"opening failed: {_reason(error)}") from error
    _check(store, point)
    observing.observer().store_opened(store, None, ())
    return store


def _load(point: EntryPoint) -> StoreOpener:
    try:
        opener: StoreOpener = point.load()
    except Exception as error:
        raise StorePluginError(
            point.name, _package(point), f"importing {point.value} failed: {_reason(error)}"
        ) from error
    if not callable(opener):
        raise StorePluginError(point.name, _package(point), f"{point.value} is not a function that opens a store")
    return opener


def _check(store: object, point: EntryPoint) -> None:
    """Raise StorePluginError if it is not a store."""
    # Not by looking them up: a store without reports raises that error when it is asked for them.
    members = [name for kind in Store.__mro__ for name in vars(kind) if not name.startswith("_")]
    if missing := sorted({name for name in members if inspect.getattr_static(store, name, None) is None}):
        reason = f"what {point.value} opened is a {type(store).__name__} without {', '.join(missing)}"
        raise StorePluginError(point.name, _package(point), f"{reason}: subclass taskctx_sql.Store")


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.module


def _reason(error: Exception) -> str:
    # The address may have a password, and be in the text.
    return without_secrets(f"{type(error).__name__}: {error}")
