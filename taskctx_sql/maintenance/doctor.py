"""Looking a store over: what endangers data or time there, and what to do about it. Nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from taskctx_sql import json_files
from taskctx_sql.concurrency import on_thread
from taskctx_sql.errors import InvalidDatabaseUrlError
from taskctx_sql.json_files import recovery
from taskctx_sql.locations import is_json_address, json_address, json_folder
from taskctx_sql.maintenance.self_checks import diagnose_context_optimization_issue, diagnose_resource_cleanup_issue
from taskctx_sql.model import Damage, Examination, Finding

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

# A file is written as a whole at each save.
LARGE_FILE = 10_000_000


async def examine(address: str | AsyncEngine, *, schema: str | None = None) -> Examination:
    """Look a store over: its schema, the settings that endanger data, indexes, orphans, the largest contexts.

    Args:
        address: What `open_store` takes; an engine is examined as it is set.
        schema: On Postgres, the schema that the tables are in.

    Raises:
        InvalidDatabaseUrlError: The address names no store.
        StoreUnavailableError: The database could not be reached.
    """
    if isinstance(address, str) and is_json_address(address):
        folder = json_folder(address)
        findings = await on_thread(lambda: list(_look_at_folder(folder)))
        shown = json_address(folder)
    else:
        if not isinstance(address, str) and not hasattr(address, "url"):
            raise InvalidDatabaseUrlError("***", f"it is a {type(address).__name__}")
        from taskctx_sql.sql import engines
        from taskctx_sql.sql.maintenance import checks

        findings = await checks.examine(address, schema)
        shown = engines.mask(address if isinstance(address, str) else str(address.url))
    return Examination(shown, (*findings, *await on_thread(lambda: list(_library()))))


def _look_at_folder(folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        yield Finding("folder", "error", f"there is no folder {folder}", "check the path; the first save makes it")
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("folder", "error", f"{folder} may not be read and written", "give its owner the permission")
        return
    histories = [path for path in sorted(folder.iterdir()) if json_files.chat_id(path.name) is not None]
    yield Finding("folder", "ok", f"{folder} has {len(histories):,} histories")
    for path in sorted(folder.iterdir()):
        if json_files.set_aside_from(path.name) is not None:
            remedy = "bring what is whole in it into a database with `taskctx import`, and move it away"
            yield Finding("set aside", "warning", f"{path.name} was not readable", remedy)
        elif path.name.startswith(".taskctx-"):
            yield Finding("left over", "note", f"{path.name} is of a save that broke off", "remove it")
    for path in histories:
        yield from _look_at_file(path)


def _look_at_file(path: Path) -> Iterator[Finding]:
    try:
        damage = next((part for part in recovery.read_entries(path) if isinstance(part, Damage)), None)
    except OSError as error:
        yield Finding("histories", "error", f"{path.name} cannot be read: {error.strerror}", "check its permissions")
        return
    if damage is not None:
        remedy = "bring what is whole in it into a database with `taskctx import`: the next load sets it aside"
        yield Finding("histories", "error", f"{path.name}, {damage}", remedy)
    elif path.stat().st_size > LARGE_FILE:
        size = f"{path.name} has {path.stat().st_size / 1e6:,.0f} MB"
        yield Finding("histories", "note", size, "each save writes all of it: move to a database with `taskctx import`")


def _library() -> Iterator[Finding]:
    """The reference's own checks of closing and optimizing."""
    for diagnose in (diagnose_resource_cleanup_issue, diagnose_context_optimization_issue):
        yield from diagnose().findings
