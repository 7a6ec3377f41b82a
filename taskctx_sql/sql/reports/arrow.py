"""Rows of reports for Apache Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field
from typing import TYPE_CHECKING, Any, Final

from taskctx_sql.errors import MissingPackageError
from taskctx_sql.model.report_rows import column_fields

if TYPE_CHECKING:
    import pyarrow as pa

_OPTIONAL: Final = " | None"


def schema_of(row_type: type[Any]) -> pa.Schema:
    """Return the schema of a report's rows: texts, 64-bit numbers, flags, days (date32), and maps of texts for labels.

    A column is nullable if the row's field can be None.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    return pyarrow().schema([_field(field) for field in column_fields(row_type)])


def batch(rows: Sequence[Any], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as a batch of records."""
    columns = [_column([getattr(row, field.name) for row in rows], field.type) for field in schema]
    return pyarrow().record_batch(columns, schema=schema)


def pyarrow() -> Any:
    """Return the package.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise MissingPackageError("pyarrow", "arrow") from error
    return pyarrow


def _field(field: Field[Any]) -> pa.Field:
    name = str(field.type)
    return pyarrow().field(field.name, _type(name.removesuffix(_OPTIONAL)), nullable=name.endswith(_OPTIONAL))


def _type(name: str) -> Any:
    pa = pyarrow()
    types = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "date": pa.date32()}
    return types.get(name) or pa.map_(pa.string(), pa.string())


def _column(values: list[Any], kind: Any) -> Any:
    pa = pyarrow()
    return pa.array([list(one.items()) for one in values] if pa.types.is_map(kind) else values, kind)
