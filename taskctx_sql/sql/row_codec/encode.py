"""From a context's records to columns, in the order of the tables and without what a save adds around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from taskctx_sql import codec, limits
from taskctx_sql.codec import is_same
from taskctx_sql.model import PARENT, TOKEN_KINDS, ContextKey, ContextUpdate, FileChange, MappingChange, StateChange
from taskctx_sql.sql.row_codec.column_values import (
    column_float,
    column_integer,
    column_text,
    is_column_float,
    is_column_text,
)
from taskctx_sql.sql.row_codec.decode import FILE_FIELDS, model_entry, read_json
from taskctx_sql.sql.row_codec.identity import context_id, path_id
from taskctx_sql.sql.row_codec.state_names import check_label, check_name

# (timestamp, update_type, data, metadata, exact)
UpdateRow = tuple[float | None, str, str, str, str | None]


class StateRow(NamedTuple):
    """A named value's columns; one that is only removed has no value."""

    kind: str
    name: str
    value: str | None
    expires_at: float | None
    parent_id: str | None


def update_row(update: ContextUpdate, number: int, strict: bool) -> UpdateRow:
    """Return an update's columns; errors call it by the number.

    Raises:
        UnstorableValueError: In strict mode, for a value that would come back as something else.
    """
    timestamp, kind, data, metadata = update.timestamp, update.update_type, update.data, update.metadata
    is_exact = is_column_float(timestamp) and is_column_text(kind)
    data_text = _text(data, number, kind, "data", strict)
    metadata_text = _text(metadata, number, kind, "metadata", strict)
    if is_exact:
        return timestamp, kind, data_text, metadata_text, None
    exact = codec.encode([timestamp, kind], _where(number, kind), strict=strict)
    kind = "None" if kind is None else column_text(kind)
    return column_float(timestamp), kind, data_text, metadata_text, exact


def _text(value: Any, number: int, kind: Any, field: str, strict: bool) -> str:
    text = codec.encode_plain(value)
    # The name for errors is built only where there may be one.
    if text is None:
        text = codec.encode(value, f"{_where(number, kind)}.{field}", strict=strict)
    if len(text) > limits.MAX_VALUE_CHARACTERS:
        limits.check_text(text, f"{_where(number, kind)}.{field}")
    return text


def _where(number: int, kind: Any) -> str:
    return f"new update {number} ({codec.shown(kind)})"


def file_row(change: FileChange, strict: bool) -> tuple[Any, ...]:
    """Return (path_id, path, operation, source, timestamp, state, exact) of a file. Raises as `update_row` does."""
    path, entry = change.path, change.entry
    fields = entry if isinstance(entry, dict) else {}
    is_exact = (
        is_column_text(path)
        and is_same(tuple(fields), FILE_FIELDS)
        and all(is_column_text(fields[name]) for name in ("operation", "source", "state"))
        and is_column_float(fields["timestamp"])
    )
    return (
        path_id(path),
        "None" if path is None else column_text(path),
        column_text(fields.get("operation")),
        column_text(fields.get("source")),
        column_float(fields.get("timestamp")),
        column_text(fields.get("state")),
        None if is_exact else codec.encode([path, entry], f"tracked file {codec.shown(path)}", strict=strict),
    )


def model_row(entry: Any, name: str, strict: bool) -> tuple[Any, ...]:
    """Return (model_id, ..., duration, exact) of a model use, named so in errors. Raises as `update_row` does."""
    fields = entry if isinstance(entry, Mapping) else {}
    row: dict[str, Any] = {
        "model_id": column_text(fields.get("model_id")),
        "provider_id": column_text(fields.get("provider_id")),
        "mode": column_text(fields.get("mode")),
        "timestamp": column_float(fields.get("timestamp")),
        **{name: column_integer(fields.get(name)) for name in TOKEN_KINDS},
        "cost": column_float(fields.get("cost")),
        "price_list": column_text(fields.get("price_list")),
        "duration": column_float(fields.get("duration")),
    }
    is_exact = isinstance(entry, dict) and _same_to_the_bit(model_entry(row), entry)
    return (*row.values(), None if is_exact else codec.encode(entry, name, strict=strict))


def _same_to_the_bit(one: dict[Any, Any], other: dict[Any, Any]) -> bool:
    # Equal is not enough: 1 is 1.0, and the order of the keys counts.
    return is_same(list(one), list(other)) and codec.encode(one, warn=False) == codec.encode(other, warn=False)


def state_row(user_id: str, change: StateChange, strict: bool) -> StateRow:
    """Return the row of a named value of a user's context; one that is removed has no value.

    Raises:
        InvalidArgumentError: The name, a label's text or the time is not what it must be.
        UnstorableValueError: In strict mode, for a value that would come back as something else.
    """
    kind, name = change.kind, change.name
    check_name(kind, name)
    if change.removed:
        return StateRow(kind, name, None, None, None)
    parent_id = None
    if kind == "label":
        check_label(change.value)
        parent_id = context_id(ContextKey(user_id, change.value)) if name == PARENT else None
    if change.expires_at is not None:
        limits.check_real("expires_at", change.expires_at, "a time in seconds since the epoch, or None")
    text = codec.encode_plain(change.value)
    if text is None:
        text = codec.encode(change.value, f"{kind} {name!r}", strict=strict)
    text = limits.check_text(text, f"{kind} {name!r}")
    return StateRow(kind, name, text, column_float(change.expires_at), parent_id)


def mapping_text(change: MappingChange | None, name: str, strict: bool) -> str | None:
    """Return the JSON text of a changed mapping; None if it did not change. Raises as `update_row` does."""
    return None if change is None else limits.check_text(codec.encode(change.whole, name, strict=strict), name)


def merged_text(key: ContextKey, name: str, stored: str, change: MappingChange, *, strict: bool) -> str:
    """Return a mapping's text after a change to some of its keys; the others are kept as they are stored."""
    before = read_json(key, name, stored)
    if not isinstance(before, dict) or not isinstance(change.whole, dict):
        return codec.encode(change.whole, name, strict=strict)
    removed = set(change.removed)
    kept = {item: value for item, value in before.items() if item not in removed}
    return codec.encode(kept | dict(change.changed), name, strict=strict)
