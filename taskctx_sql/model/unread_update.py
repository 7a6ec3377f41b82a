"""Updates of a loaded history, decoded when they are first used.

A long history loads several times as fast that way, and takes little more memory than its text until it is used.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any

from taskctx_sql.concurrency import after_fork
from taskctx_sql.model.update import ContextUpdate

# Held for moments only, since threads may read one history at once. It may be entered twice, since the garbage
# collector may run a program's code anywhere.
_lock = threading.RLock()


@after_fork
def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


@dataclass(frozen=True, slots=True)
class Source:
    """What unread updates come from: ``decode`` returns an update's data and metadata, given its seq and text.

    ``edits`` has the fields that were set since the update was loaded.
    """

    decode: Callable[[int, bytes], dict[str, Any]]
    edit_logs: tuple[dict[int, Any], ...] = ()
    edits: Mapping[str, Any] = field(default_factory=dict)


_slots = {name: ContextUpdate.__dict__[name] for name in ContextUpdate.__slots__}
_get_edit_logs = _slots["_edit_logs"].__get__
_set_data, _set_metadata, _set_edit_logs = (_slots[name].__set__ for name in ("data", "metadata", "_edit_logs"))
_set_class = object.__dict__["__class__"].__set__


def _read(update: Any, name: str = "data") -> Any:
    while True:
        try:
            # The source last, since it is replaced first: while it is there, the other two belong to it.
            seq, text, source = update._seq, update._text, update._source
        except AttributeError:
            # Another thread has decoded it a moment ago.
            return _slots[name].__get__(update)
        if type(source) is not Source:
            # Another thread is decoding it.
            return source[name] if type(source) is dict else _slots[name].__get__(update)
        edits = source.edits
        if name in edits:
            return edits[name]
        fields = source.decode(seq, text)
        if edits:
            fields |= edits
        logs = fields["_edit_logs"] = source.edit_logs
        with _lock:
            # If it was decoded or edited meanwhile, that stays: all threads see the same objects.
            if _get_edit_logs(update) is source:
                # Seen before all slots are set by another thread, or by code that the garbage collector runs here.
                _set_edit_logs(update, fields)
                _set_data(update, fields["data"])
                _set_metadata(update, fields["metadata"])
                _set_edit_logs(update, logs)
                _set_class(update, ContextUpdate)
                return fields[name]


def _edit(update: ContextUpdate, value: Any, *, name: str) -> None:
    with _lock:
        source = _get_edit_logs(update)
        if type(source) is Source:
            # Another source, by which a thread that decodes the update just now sees that it is too late.
            _set_edit_logs(update, replace(source, edits={**source.edits, name: value}))
        else:
            _slots[name].__set__(update, value)


def _logs_of(update: ContextUpdate) -> Any:
    source = _get_edit_logs(update)
    if type(source) is dict:
        return source["_edit_logs"]
    return source.edit_logs if type(source) is Source else source


def _set_logs(update: ContextUpdate, logs: tuple[dict[int, Any], ...]) -> None:
    with _lock:
        source = _get_edit_logs(update)
        _set_edit_logs(update, replace(source, edit_logs=logs) if type(source) is Source else logs)


# A dataclass itself, because orjson looks for the fields in an object's own class.
@dataclass(init=False, repr=False, eq=False)
class _UnreadUpdate(ContextUpdate):
    """An update that is not decoded yet. Reading its data or metadata turns it into a plain `ContextUpdate`.

    Until then its slots hold other things. While they are set, ``_edit_logs`` holds all that they are about to hold.
    """

    __slots__ = ()

    if not TYPE_CHECKING:
        # What its slots hold: read as attributes, in a fraction of the time of a call.
        _text, _seq, _source = _slots["data"], _slots["metadata"], _slots["_edit_logs"]
        # Equality and repr depend on it.
        __class__ = property(lambda update: ContextUpdate)
        data = property(_read, partial(_edit, name="data"))
        metadata = property(lambda update: _read(update, "metadata"), partial(_edit, name="metadata"))
        _edit_logs = property(_logs_of, _set_logs)


def unread_updates(
    timestamps: Iterable[float],
    update_types: Iterable[str],
    seqs: Iterable[int],
    texts: Sequence[bytes],
    source: Source,
) -> list[ContextUpdate]:
    """Return updates whose data and metadata the source decodes when one of the two is first read or compared."""
    updates: list[ContextUpdate] = list(map(object.__new__, repeat(_UnreadUpdate, len(texts))))
    columns: dict[str, Iterable[Any]] = {
        "timestamp": timestamps,
        "update_type": update_types,
        "data": texts,
        "metadata": seqs,
        "_edit_logs": repeat(source),
    }
    for name, values in columns.items():
        # Slot by slot, without a line of Python for each update: ten times as fast as a constructor.
        deque(map(_slots[name].__set__, updates, values), maxlen=0)
    return updates
