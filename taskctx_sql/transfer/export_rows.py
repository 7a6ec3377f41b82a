"""Exporting the rows of reports, a file for each report."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Collection, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Final, Unpack

from taskctx_sql.concurrency import on_thread
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.locations import make_folder, move, plain_folder
from taskctx_sql.model import TransferProgress
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.sql.reports import Report
from taskctx_sql.stores import Store
from taskctx_sql.transfer.row_files import FILES, RowFile, RowFormat

EXPORTED: Final = ("users", "models", "tools", "activity", "tasks", "runs", "files", "calls", "errors", "updates")
"""The reports that are exported unless some are named, from the coarsest to the finest."""
# So many rows are in memory at a time.
PORTION: Final = 10_000


async def export_rows(
    store: Store,
    folder: str | Path,
    file_format: RowFormat,
    *,
    reports: Collection[str] = EXPORTED,
    replace: bool = False,
    progress: TransferProgress | None = None,
    **filters: Unpack[Filters],
) -> Mapping[Path, int]:
    """Write the rows of reports to files, such as ``tasks.parquet``, in memory that does not grow with them.

    Args:
        store: An open database; it is only read.
        folder: Where the files go; created if it is missing. Only their owner can read new files.
        file_format: "parquet", with the extra ``arrow``, "jsonl" or "csv". All have the columns of the report.
        reports: Which reports: names of the methods of ``store.reports``.
        replace: Replace files that are there. A file is replaced when the new one is complete.
        progress: Called with the file's name, the rows written, and None.
        **filters: Which rows.

    Returns:
        The number of rows in each file.

    Raises:
        InvalidArgumentError: There is no such report or format.
        FileExistsError: A file is there already; none was written.
        MissingPackageError: pyarrow is not installed.
        UnsupportedByStoreError: The store is not a database.
        StoreError: The database failed; files that were written before are whole.
        OSError: A file could not be written.
    """
    if file_format not in FILES:
        raise InvalidArgumentError("file_format", file_format, f"one of {', '.join(FILES)}")
    if unknown := [name for name in reports if name not in EXPORTED]:
        raise InvalidArgumentError("reports", unknown[0], f"some of {', '.join(EXPORTED)}")
    into = plain_folder(folder)
    found: dict[Path, Report[object]] = {
        into / f"{name}.{file_format}": getattr(store.reports, name)(**filters) for name in dict.fromkeys(reports)
    }
    await on_thread(make_folder, into)
    if not replace:
        await on_thread(_refuse_to_replace, found)
    return {path: await _write(report, path, file_format, progress) for path, report in found.items()}


async def _write(report: Report[object], path: Path, file_format: RowFormat, progress: TransferProgress | None) -> int:
    temporary = path.with_name(f".taskctx-{secrets.token_hex(8)}.tmp")
    count = 0
    try:
        file: RowFile = await on_thread(_created, temporary, report.row_type, file_format)
        try:
            async with aclosing(report.portions(PORTION)) as portions:
                async for rows in portions:
                    await on_thread(file.write, rows)
                    count += len(rows)
                    if progress is not None:
                        progress(path.name, count, None)
        finally:
            await on_thread(file.close)
        await on_thread(_finish, temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return count


def _created(path: Path, row_type: type[object], file_format: RowFormat) -> RowFile:
    # Before its writer opens it, so that nobody else can read it at any time.
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    return FILES[file_format](path, row_type)


def _finish(temporary: Path, path: Path) -> None:
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    move(temporary, path)


def _refuse_to_replace(paths: Collection[Path]) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists: use another folder, or ask for it to be replaced")
