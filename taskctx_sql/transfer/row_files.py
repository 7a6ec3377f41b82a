"""Files of rows that are written portion by portion: Parquet, JSON lines, and CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

from taskctx_sql.errors import MissingPackageError
from taskctx_sql.model.report_rows import column_fields

RowFormat = Literal["parquet", "jsonl", "csv"]
"""The name of a format."""
FORMATS: Final[tuple[RowFormat, ...]] = get_args(RowFormat)
"""The formats that `export_rows` writes."""


class RowFile(Protocol):
    """A file that is being written."""

    def write(self, rows: Sequence[Any]) -> None:
        """Append rows."""

    def close(self) -> None:
        """Complete the file."""


class ParquetFile:
    """Columns with types: see `taskctx_sql.sql.reports.arrow`."""

    def __init__(self, path: Path, row_type: type[Any]) -> None:
        from taskctx_sql.sql.reports import arrow

        self._batch = arrow.batch
        self._schema = arrow.schema_of(row_type)
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise MissingPackageError("pyarrow", "arrow") from error
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Sequence[Any]) -> None:
        """Append a group of rows."""
        self._writer.write_batch(self._batch(rows, self._schema))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


class JsonLinesFile:
    """An object a line. Days are texts, labels objects, and what is missing is null, as are numbers that JSON lacks."""

    def __init__(self, path: Path, row_type: type[Any]) -> None:
        self._names = [field.name for field in column_fields(row_type)]
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def write(self, rows: Sequence[Any]) -> None:
        """Append lines."""
        for row in rows:
            values = {name: _plain(getattr(row, name)) for name in self._names}
            self._file.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")

    def close(self) -> None:
        """Flush the file."""
        self._file.close()


class CsvFile:
    """A heading, and a line for each row; what is missing is empty, flags are 0 and 1, labels JSON.

    Texts are as they are stored: for a spreadsheet, which takes some of them for formulas, use ``taskctx report``.
    """

    def __init__(self, path: Path, row_type: type[Any]) -> None:
        self._names = [field.name for field in column_fields(row_type)]
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(self._names)

    def write(self, rows: Sequence[Any]) -> None:
        """Append lines."""
        self._writer.writerows([_cell(getattr(row, name)) for name in self._names] for row in rows)

    def close(self) -> None:
        """Flush the file."""
        self._file.close()


FILES: Final[Mapping[RowFormat, Callable[[Path, type[Any]], RowFile]]] = {
    "parquet": ParquetFile,
    "jsonl": JsonLinesFile,
    "csv": CsvFile,
}


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return dict(value) if isinstance(value, Mapping) else value


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return json.dumps(dict(value), ensure_ascii=False) if isinstance(value, Mapping) else value
