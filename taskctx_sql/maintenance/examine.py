"""Checking a store for what endangers data or costs time, without changing anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taskctx_sql import json_files
from taskctx_sql.concurrency import on_thread
from taskctx_sql.errors import StoreClosedError
from taskctx_sql.errors.remedies import shell_command
from taskctx_sql.json_files import JsonStore, recovery
from taskctx_sql.locations import is_json_address, json_address, json_folder
from taskctx_sql.maintenance.self_checks import diagnose_context_optimization_issue, diagnose_resource_cleanup_issue
from taskctx_sql.model import Damage, Examination, Finding
from taskctx_sql.plain_text import counted
from taskctx_sql.stores import ContextStore

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

# Each save writes the whole file.
LARGE_FILE: Final = 10_000_000


async def examine(database_url: str | AsyncEngine | ContextStore, *, schema: str | None = None) -> Examination:
    """Check a store: its schema, settings that endanger data, indexes, orphaned rows, damaged files, and sizes.

    Args:
        database_url: A URL that `open_store` takes, an engine, whose own settings are checked, or an open store.
        schema: On Postgres, the schema of the tables. An open store knows its own.

    Raises:
        InvalidDatabaseUrlError: The URL is not understood, or the store is neither a database nor JSON files.
        StoreClosedError: The store is closed.
        StoreUnavailableError: The database could not be reached.
    """
    if isinstance(database_url, JsonStore) and database_url.is_closed:
        raise StoreClosedError(database_url.database_url)
    if isinstance(database_url, JsonStore) or (isinstance(database_url, str) and is_json_address(database_url)):
        folder = json_folder(database_url) if isinstance(database_url, str) else database_url.folder
        findings, url = await on_thread(lambda: list(_check_folder(folder))), json_address(folder)
    else:
        from taskctx_sql.sql.maintenance import checks

        findings, url = await checks.examine(database_url, schema)
    for diagnose in (diagnose_resource_cleanup_issue, diagnose_context_optimization_issue):
        findings += [replace(found, check="self-test") for found in (await on_thread(diagnose)).findings]
    return Examination(url, tuple(findings))


def _check_folder(folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        yield Finding("folder", "error", f"there is no folder {folder}", "check the path; the first save creates it")
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("folder", "error", f"{folder} is not readable and writable", "give its owner the permission")
        return
    paths = sorted(folder.iterdir())
    histories = [path for path in paths if json_files.chat_id(path.name) is not None]
    yield Finding("folder", "ok", f"{folder} has {counted(len(histories), 'history')}")
    for path in paths:
        if json_files.set_aside_from(path.name) is not None:
            remedy = f"import its whole entries into a database, by {_import_of(folder)}, and move it away"
            yield Finding("set-aside", "warning", f"{path.name} was not readable", remedy)
        elif path.name.startswith(".taskctx-"):
            yield Finding("left-over", "note", f"{path.name} was left by an interrupted save", "remove it")
    for path in histories:
        yield from _check_file(path)


def _check_file(path: Path) -> Iterator[Finding]:
    try:
        damage = next((part for part in recovery.read_entries(path) if isinstance(part, Damage)), None)
    except OSError as error:
        yield Finding("histories", "error", f"{path.name} cannot be read: {error.strerror}", "check its permissions")
        return
    if damage is not None:
        remedy = f"import its whole entries into a database, by {_import_of(path.parent)}: the next load sets it aside"
        yield Finding("histories", "error", f"{path.name}, {damage}", remedy)
    elif path.stat().st_size > LARGE_FILE:
        size = f"{path.name} has {path.stat().st_size / 1e6:,.0f} MB"
        yield Finding(
            "histories", "note", size, f"each save writes all of it: move to a database, by {_import_of(path.parent)}"
        )


def _import_of(folder: Path) -> str:
    return shell_command("import", str(folder), "--user", "USER", database_url="tasks.db")
