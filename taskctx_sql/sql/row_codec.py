"""Between a context's records and the rows of the tables. No I/O."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import operator
import uuid
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, partial
from numbers import Real
from typing import Any, Final, NamedTuple

from sqlalchemy import Row

from taskctx_sql import codec, limits
from taskctx_sql.codec import is_same
from taskctx_sql.errors import CorruptRecordError
from taskctx_sql.model import ContextKey, ContextUpdate, Delta, FileChange, MappingChange, Source

AnyRow = Row[*tuple[Any, ...]]

_NAMESPACE: Final = uuid.UUID("7e5a1c34-2f0d-5c0e-9c4b-6b1d0a6f1e21")

_FILE_FIELDS: Final = ("operation", "source", "timestamp", "state")
_MODEL_FIELDS: Final = ("model_id", "provider_id", "mode", "timestamp")
_MEASURES: Final = ("input_tokens", "output_tokens", "cost", "duration")

# What `read_files` and `read_models` take, in this order.
FILE_COLUMNS: Final = ("position", "path", "exact", *_FILE_FIELDS)
MODEL_COLUMNS: Final = ("seq", "exact", *_MODEL_FIELDS, *_MEASURES)
# About 2 ms of encoding.
SLICE: Final = 200
# What a BIGINT holds.
_LARGEST: Final = 2**63 - 1

# A character that JSON has only escaped.
BETWEEN: Final = "\x1f"
_BETWEEN: Final = BETWEEN.encode()

_DECODING_ERRORS: Final = (ValueError, TypeError, KeyError, RecursionError)


@lru_cache(maxsize=10_000)
def context_id(key: ContextKey) -> str:
    """Return the id derived from user and chat: a UUID, version 5, of both as a JSON list."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps([key.user_id, key.chat_id])))


def path_id(path: Any) -> str:
    """Return the identity of a tracked path, whatever its length and type."""
    return hashlib.sha256(codec.encode(path, "the path", warn=False).encode()).hexdigest()


# Columns in the order of the tables, without what a save adds around them.
UpdateRow = tuple[float | None, str, str, str, str | None]
FileRow = tuple[Any, ...]
ModelRow = tuple[Any, ...]


class Encoded:
    """A delta's values as they go into columns. Made before anything is written, so that a bad value costs nothing.

    The revision, the seqs and the positions are not in it: the database gives them.

    Attributes:
        context_id: Whose.
        updates: (timestamp, update_type, data, metadata, exact).
        models: (model_id, ..., duration, exact).
        files: (path_id, path, operation, source, timestamp, state, exact).
        positions: Each file's place in the tracker, or None for one that goes to the end.
        changed_paths: The path_id of each file whose version until now is replaced.
        metadata: JSON text of the metadata, if it changed.
        toggles: The same of the metadata toggles.
        error: The run's error.
    """

    __slots__ = (
        *("changed_paths", "context_id", "error", "files", "metadata"),
        *("models", "positions", "toggles", "unplaced_files", "updates"),
    )

    def __init__(self, delta: Delta, updates: list[UpdateRow], *, strict: bool) -> None:
        """Encode everything but the updates, which are encoded already.

        Raises:
            UnstorableValueError: In strict mode, naming the tracker entry, and the place in it.
        """
        self.context_id = context_id(delta.key)
        self.updates = updates
        self.models = [_model_row(entry, f"new model use {at}", strict) for at, entry in enumerate(delta.models)]
        self.files: list[FileRow] = []
        self.positions: list[int | None] = []
        self.changed_paths: list[str] = []
        for change in delta.files:
            self.changed_paths.append(path_id(change.path))
            if not change.removed:
                self.files.append(_file_row(change, strict))
                self.positions.append(change.position)
        self.unplaced_files = self.positions.count(None)
        self.metadata = _mapping_text(delta.metadata, "metadata", strict)
        self.toggles = _mapping_text(delta.toggles, "metadata_toggles", strict)
        self.error = None if delta.run.error is None else _column_text(delta.run.error)


async def encode(delta: Delta, *, strict: bool) -> Encoded:
    """Encode a delta, in slices: between them the event loop sees to others.

    On the loop and not on a thread, because a program may change its values while a thread looks at them.

    Raises:
        UnstorableValueError: In strict mode, naming the update or the tracker entry, and the place in it.
    """
    new: list[UpdateRow] = []
    for start in range(0, len(delta.updates), SLICE):
        if start:
            await asyncio.sleep(0)
        new += [update_row(update, at, strict) for at, update in enumerate(delta.updates[start : start + SLICE], start)]
    return Encoded(delta, new, strict=strict)


def _mapping_text(change: Any, place: str, strict: bool) -> str | None:
    return None if change is None else limits.check_text(codec.encode(change.whole, place, strict=strict), place)


def update_row(update: ContextUpdate, place: int, strict: bool) -> UpdateRow:
    """Return an update's columns; ``place`` is what errors call it.

    Raises:
        UnstorableValueError: In strict mode.
    """
    timestamp, kind, data, metadata = update.timestamp, update.update_type, update.data, update.metadata
    is_exact = _is_column_float(timestamp) and _is_column_text(kind)
    return (
        timestamp if is_exact else _column_float(timestamp),
        kind if is_exact else "None" if kind is None else _column_text(kind),
        _text(data, place, kind, "data", strict),
        _text(metadata, place, kind, "metadata", strict),
        None if is_exact else codec.encode([timestamp, kind], _where(place, kind), strict=strict),
    )


def _text(value: Any, place: int, kind: Any, field: str, strict: bool) -> str:
    text = codec.encode_plain(value)
    # What to call it is put together only where somebody may be told.
    if text is None:
        text = codec.encode(value, f"{_where(place, kind)}.{field}", strict=strict)
    if len(text) > limits.MAX_VALUE_CHARACTERS:
        limits.check_text(text, f"{_where(place, kind)}.{field}")
    return text


def _where(place: int, kind: Any) -> str:
    return f"new update {place} ({codec.shown(kind)})"


def _file_row(change: FileChange, strict: bool) -> FileRow:
    path, entry = change.path, change.entry
    fields = entry if isinstance(entry, dict) else {}
    is_exact = (
        _is_column_text(path)
        and is_same(tuple(fields), _FILE_FIELDS)
        and all(_is_column_text(fields[name]) for name in ("operation", "source", "state"))
        and _is_column_float(fields["timestamp"])
    )
    return (
        path_id(path),
        "None" if path is None else _column_text(path),
        _column_text(fields.get("operation")),
        _column_text(fields.get("source")),
        _column_float(fields.get("timestamp")),
        _column_text(fields.get("state")),
        None if is_exact else codec.encode([path, entry], f"tracked file {codec.shown(path)}", strict=strict),
    )


def _model_row(entry: Any, where: str, strict: bool) -> ModelRow:
    fields = entry if isinstance(entry, Mapping) else {}
    row: dict[str, Any] = {
        "model_id": _column_text(fields.get("model_id")),
        "provider_id": _column_text(fields.get("provider_id")),
        "mode": _column_text(fields.get("mode")),
        "timestamp": _column_float(fields.get("timestamp")),
        "input_tokens": _column_integer(fields.get("input_tokens")),
        "output_tokens": _column_integer(fields.get("output_tokens")),
        "cost": _column_float(fields.get("cost")),
        "duration": _column_float(fields.get("duration")),
    }
    is_exact = isinstance(entry, dict) and _same_to_the_bit(_model_entry(row), entry)
    return (*row.values(), None if is_exact else codec.encode(entry, where, strict=strict))


def _model_entry(row: Mapping[str, Any]) -> dict[str, Any]:
    entry = {name: row[name] for name in _MODEL_FIELDS}
    entry.update((name, row[name]) for name in _MEASURES if row[name] is not None)
    return entry


def _same_to_the_bit(one: dict[Any, Any], other: dict[Any, Any]) -> bool:
    # Equal is not enough: 1 is 1.0, and the order of the keys counts.
    return is_same(list(one), list(other)) and codec.encode(one, warn=False) == codec.encode(other, warn=False)


class History(NamedTuple):
    """Updates in order, their seqs, and where their later edits will be noted."""

    updates: list[ContextUpdate]
    seqs: Sequence[int]
    edits: dict[int, Any]


def read_updates(key: ContextKey, rows: Sequence[Sequence[Any]]) -> History:
    """Return the updates of rows (seq, timestamp, update_type, text, exact), where `BETWEEN` joins data and metadata.

    Their data and metadata are read when they are asked for; a row whose text is damaged raises
    `CorruptRecordError`, which names its seq, then, and costs none of its neighbors.

    Raises:
        CorruptRecordError: The exact timestamp or type of a row cannot be read back; it names the seq.
    """
    edits: dict[int, Any] = {}
    if not rows:
        return History([], (), edits)
    seqs, timestamps, update_types, texts, exacts = zip(*rows, strict=True)
    # A handful of types: each is kept once.
    known: dict[str, str] = {}
    shared = map(known.setdefault, update_types, update_types)
    source = Source(partial(_read_text, key), (edits,))
    updates = ContextUpdate.unread(timestamps, shared, seqs, texts, source)
    if any(exacts):
        for seq, update, exact in zip(seqs, updates, exacts, strict=True):
            if exact is not None:
                try:
                    update.timestamp, update.update_type = codec.decode(exact)
                except _DECODING_ERRORS as error:
                    raise _corrupt_update(key, seq, error) from error
        edits.clear()
    return History(updates, seqs, edits)


def update_of_row(
    key: ContextKey, seq: int, timestamp: Any, update_type: Any, data: str, metadata: str, exact: str | None
) -> ContextUpdate:
    """Return the update of one row, read at once.

    Raises:
        CorruptRecordError: It cannot be read back; it names the seq.
    """
    try:
        if exact is not None:
            timestamp, update_type = codec.decode(exact)
        return ContextUpdate(timestamp, update_type, codec.decode(data), codec.decode(metadata))
    except _DECODING_ERRORS as error:
        raise _corrupt_update(key, seq, error) from error


def _read_text(key: ContextKey, seq: int, text: bytes) -> tuple[Any, Any]:
    try:
        data, metadata = text.split(_BETWEEN)
        # Asked once for both: it takes as long as a third of the reading.
        decode = codec.decode if codec.may_have_tags(text) else codec.decode_untagged
        return decode(data), decode(metadata)
    except _DECODING_ERRORS as error:
        raise _corrupt_update(key, seq, error) from error


def _corrupt_update(key: ContextKey, seq: int, error: Exception) -> CorruptRecordError:
    return CorruptRecordError(key, f"update seq {seq}", f"{type(error).__name__}: {error}")


def read_files(key: ContextKey, rows: Iterable[Sequence[Any]]) -> list[tuple[int, Any, Any]]:
    """Return (position, path, entry) of rows of `FILE_COLUMNS`.

    Raises:
        CorruptRecordError: A row cannot be read back; it names the path.
    """
    found = []
    for position, shown, exact, *fields in rows:
        path, entry = shown, dict(zip(_FILE_FIELDS, fields, strict=True))
        if exact is not None:
            try:
                path, entry = codec.decode(exact)
            except _DECODING_ERRORS as error:
                raise CorruptRecordError(key, f"file {shown!r}", f"{type(error).__name__}: {error}") from error
        found.append((position, path, entry))
    return found


def read_models(key: ContextKey, rows: Iterable[Sequence[Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Return (seq, entry) of rows of `MODEL_COLUMNS`.

    Raises:
        CorruptRecordError: A row cannot be read back; it names the seq.
    """
    found = []
    for seq, exact, *fields in rows:
        entry = _model_entry(dict(zip((*_MODEL_FIELDS, *_MEASURES), fields, strict=True)))
        if exact is not None:
            try:
                entry = codec.decode(exact)
            except _DECODING_ERRORS as error:
                raise CorruptRecordError(key, f"model use seq {seq}", f"{type(error).__name__}: {error}") from error
        found.append((seq, entry))
    return found


def read_mapping(key: ContextKey, name: str, text: str) -> Any:
    """Return the metadata or the toggles.

    Raises:
        CorruptRecordError: The text cannot be read back.
    """
    try:
        return codec.decode(text)
    except _DECODING_ERRORS as error:
        raise CorruptRecordError(key, name, f"{type(error).__name__}: {error}") from error


def _is_column_text(value: Any) -> bool:
    return type(value) is str and _column_text(value) == value


def column_text(text: str) -> str:
    """Return a text as a column has it: NUL and lone surrogates are escaped there."""
    return str(_column_text(text))


def _column_text(value: Any) -> Any:
    """Return a text that every engine takes, and that reads like the value; None stays None."""
    if value is None:
        return None
    text = value if type(value) is str else codec.text_of(value)
    if "\x00" in text:
        text = text.replace("\x00", "\\u0000")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _is_column_float(value: Any) -> bool:
    return type(value) is float and (value > 0.0 or repr(_column_float(value)) == repr(value))


def _column_float(value: Any) -> float | None:
    if type(value) is float:
        # SQLite would turn a NaN into NULL and -0.0 into 0.0 by itself; so does this, on every engine.
        return value + 0.0 if value == value else None
    if not isinstance(value, Real | Decimal) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except Exception:
        # Too large, or a class of somebody's own, which may raise anything.
        return None
    return number if math.isfinite(number) else None


def _column_integer(value: Any) -> int | None:
    """Return the whole number that a count is, or is nearest to: programs that compute have 10.0 and numpy's 10."""
    if type(value) is int:
        return value if -_LARGEST <= value <= _LARGEST else None
    if not isinstance(value, Real | Decimal) or isinstance(value, bool):
        return None
    try:
        # Compared first: as an int, Decimal("1E999999") has a million digits.
        count: Any = value
        number = operator.index(round(count)) if -_LARGEST <= count <= _LARGEST else None
    except Exception:
        # A NaN that refuses to be compared, or a class of somebody's own, which may raise anything.
        return None
    return number if number is not None and -_LARGEST <= number <= _LARGEST else None


def merged_text(key: ContextKey, name: str, stored: str, change: MappingChange, *, strict: bool) -> str:
    """Return a mapping's text after a change to some of its keys, whatever others did to the rest."""
    before = read_mapping(key, name, stored)
    if not isinstance(before, dict) or not isinstance(change.whole, dict):
        return codec.encode(change.whole, name, strict=strict)
    removed = set(change.removed)
    kept = {item: value for item, value in before.items() if item not in removed}
    return codec.encode(kept | dict(change.changed), name, strict=strict)
