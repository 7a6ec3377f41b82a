"""The rows of reports as files: ``export --format parquet``."""

from __future__ import annotations

from pathlib import Path

import click

from taskctx_sql import transfer
from taskctx_sql.cli import output
from taskctx_sql.cli.progress import transfer_progress
from taskctx_sql.cli.stores import reached
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.opening import open_store
from taskctx_sql.plain_text import counted


async def export_rows(
    url: str,
    schema: str | None,
    folder: Path,
    file_format: transfer.RowFormat,
    reports: tuple[str, ...],
    form: str,
    *,
    replace: bool,
    filters: Filters,
) -> None:
    """Write a file for each report, and print how many rows each has."""
    await reached(url)
    async with open_store(url, schema=schema) as store:
        with transfer_progress("rows") as progress:
            try:
                written = await transfer.export_rows(
                    store,
                    folder,
                    file_format,
                    reports=reports or transfer.EXPORTED,
                    replace=replace,
                    progress=progress,
                    **filters,
                )
            except FileExistsError as error:
                raise click.ClickException(f"{error}: --replace does that") from error
    if form == "json":
        output.print_json({str(path): rows for path, rows in written.items()})
    else:
        for path, rows in written.items():
            output.print_parts(f"{path}: {counted(rows, 'row')}")
