"""From rows to a context's records. What cannot be read back raises `CorruptRecordError`, which names it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from taskctx_sql import codec
from taskctx_sql.errors import CorruptRecordError
from taskctx_sql.model import MODEL_FIELDS, MODEL_MEASURES, ContextKey, ContextUpdate, Source, unread_updates

FILE_FIELDS: Final = ("operation", "source", "timestamp", "state")

# What `read_files` and `read_models` take, in this order.
FILE_COLUMNS: Final = ("position", "path", "exact", *FILE_FIELDS)
MODEL_COLUMNS: Final = ("seq", "exact", *MODEL_FIELDS, *MODEL_MEASURES)

# Stands between an update's data and metadata where one column has both: JSON has it only escaped.
BETWEEN: Final = "\x1f"
_BETWEEN: Final = BETWEEN.encode()

_DECODING_ERRORS: Final = (ValueError, TypeError, KeyError, RecursionError)


class History(NamedTuple):
    """Updates in order, their seqs, and the dictionary in which later edits of them are noted."""

    updates: list[ContextUpdate]
    seqs: Sequence[int]
    edits: dict[int, Any]


def read_updates(key: ContextKey, rows: Sequence[Sequence[Any]]) -> History:
    """Return the updates of rows (seq, timestamp, update_type, text, exact), where `BETWEEN` joins data and metadata.

    Their data and metadata are decoded on first access; a row whose text is damaged raises then, and the others can be
    read.
    """
    edits: dict[int, Any] = {}
    if not rows:
        return History([], (), edits)
    seqs, timestamps, update_types, texts, exacts = zip(*rows, strict=True)
    # There are few types: each is kept once.
    known: dict[str, str] = {}
    shared = map(known.setdefault, update_types, update_types)
    source = Source(partial(_read_text, key), (edits,))
    updates = unread_updates(timestamps, shared, seqs, texts, source)
    if any(exacts):
        for seq, update, exact in zip(seqs, updates, exacts, strict=True):
            if exact is not None:
                try:
                    update.timestamp, update.update_type = codec.decode(exact)
                except _DECODING_ERRORS as error:
                    raise _corrupt(key, f"update seq {seq}", error) from error
        edits.clear()
    return History(updates, seqs, edits)


def read_data(key: ContextKey, rows: Sequence[tuple[int, str]]) -> list[Any]:
    """Return the data of updates in rows (seq, data)."""
    try:
        return codec.decode_all([text for _, text in rows])
    except _DECODING_ERRORS:
        # One by one, to name the damaged one.
        return [read_json(key, f"update seq {seq}", text) for seq, text in rows]


def update_of_row(
    key: ContextKey, seq: int, timestamp: Any, update_type: Any, data: str, metadata: str, exact: str | None
) -> ContextUpdate:
    """Return the update of one row, read at once."""
    try:
        if exact is not None:
            timestamp, update_type = codec.decode(exact)
        return ContextUpdate(timestamp, update_type, codec.decode(data), codec.decode(metadata))
    except _DECODING_ERRORS as error:
        raise _corrupt(key, f"update seq {seq}", error) from error


def _read_text(key: ContextKey, seq: int, text: bytes) -> dict[str, Any]:
    try:
        data, metadata = text.split(_BETWEEN)
        # Once for both: the check takes a third of the time of decoding.
        decode = codec.decode if codec.may_have_tags(text) else codec.decode_untagged
        return {"data": decode(data), "metadata": decode(metadata)}
    except _DECODING_ERRORS as error:
        raise _corrupt(key, f"update seq {seq}", error) from error


def _corrupt(key: ContextKey, what: str, error: Exception) -> CorruptRecordError:
    return CorruptRecordError(key, what, f"{type(error).__name__}: {error}")


def read_files(key: ContextKey, rows: Iterable[Sequence[Any]]) -> list[tuple[int, Any, Any]]:
    """Return (position, path, entry) of rows of `FILE_COLUMNS`."""
    entries = []
    for position, shown, exact, *fields in rows:
        path, entry = shown, dict(zip(FILE_FIELDS, fields, strict=True))
        if exact is not None:
            try:
                path, entry = codec.decode(exact)
            except _DECODING_ERRORS as error:
                raise _corrupt(key, f"file {shown!r}", error) from error
        entries.append((position, path, entry))
    return entries


def read_models(key: ContextKey, rows: Iterable[Sequence[Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Return (seq, entry) of rows of `MODEL_COLUMNS`."""
    entries = []
    for seq, exact, *fields in rows:
        if exact is None:
            entry = model_entry(dict(zip((*MODEL_FIELDS, *MODEL_MEASURES), fields, strict=True)))
        else:
            entry = read_json(key, f"model use seq {seq}", exact)
        entries.append((seq, entry))
    return entries


def read_json(key: ContextKey, what: str, text: str) -> Any:
    """Return a value of a context, such as the metadata; errors call it ``what``."""
    try:
        return codec.decode(text)
    except _DECODING_ERRORS as error:
        raise _corrupt(key, what, error) from error


def read_all_json(key: ContextKey, kind: str, names: Sequence[str], texts: Sequence[str]) -> list[Any]:
    """Return named values of a context; errors call one by its kind and name."""
    try:
        return codec.decode_all(texts)
    except _DECODING_ERRORS:
        # One by one, to name the damaged one.
        return [read_json(key, f"{kind} {name!r}", text) for name, text in zip(names, texts, strict=True)]


def model_entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of the model tracker that a row stands for."""
    entry = {name: row[name] for name in MODEL_FIELDS}
    entry.update((name, row[name]) for name in MODEL_MEASURES if row[name] is not None)
    return entry
