"""Between a context's records and the rows of the tables. No I/O."""

from typing import Any

from sqlalchemy import Row

from taskctx_sql.sql.row_codec.column_values import column_text, is_column_text
from taskctx_sql.sql.row_codec.decode import (
    BETWEEN,
    FILE_COLUMNS,
    MODEL_COLUMNS,
    read_all_json,
    read_data,
    read_files,
    read_json,
    read_models,
    read_updates,
    update_of_row,
)
from taskctx_sql.sql.row_codec.encode import (
    StateRow,
    UpdateRow,
    file_row,
    mapping_text,
    merged_text,
    model_row,
    state_row,
    update_row,
)
from taskctx_sql.sql.row_codec.identity import context_id, path_id

AnyRow = Row[*tuple[Any, ...]]
