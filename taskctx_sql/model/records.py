"""The values a context is made of, and what travels between a context and a store.

Nothing here does I/O or knows a store. Times are seconds since the epoch, UTC, as ``float``.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from uuid import UUID

from taskctx_sql.errors import InvalidIdError

# As UTF-8 this is at most 1,020 bytes, so that an index entry of both ids fits every engine.
MAX_ID_LENGTH: Final = 255

RunOutcome = Literal["completed", "failed", "cancelled"]
# What makes a revision that is no ordinary save.
Operation = Literal["optimize", "truncate", "restore", "undo", "fork"]

_set, _get = object.__setattr__, object.__getattribute__

# Held for a moment, when what was read of a text becomes an update's own: several threads may look at one history.
# One that may be entered twice, because a collection of garbage may run a program's code anywhere.
_reading = threading.RLock()


def _renew_lock() -> None:
    global _reading
    _reading = threading.RLock()


if hasattr(os, "register_at_fork"):
    # Another thread may have held it when the process was copied, and will not give it back here.
    os.register_at_fork(after_in_child=_renew_lock)


class Source(NamedTuple):
    """Where updates come from that are not read yet.

    ``read`` makes data and metadata of an update's seq and text; ``edit_logs`` is who hears of edits.
    """

    read: Callable[[int, bytes], tuple[Any, Any]]
    edit_logs: tuple[dict[int, Any], ...] = ()

    def with_field(self, name: str, value: Any) -> Source:
        """Return a source that has this value for one of the two."""

        def read(seq: int, text: bytes) -> tuple[Any, Any]:
            data, metadata = self.read(seq, text)
            return (value, metadata) if name == "data" else (data, value)

        return Source(read, self.edit_logs)


@dataclass(init=False)
class ContextUpdate:
    """One entry of a context's history.

    Attributes:
        timestamp: When it was made, seconds since the epoch, UTC.
        update_type: What it is: "message", "metadata", "resource", "file_operation", "model_usage", or your own.
        data: The content. What each kind of value becomes on reload: docs/values.md.
        metadata: More about it.

    Setting an attribute of a saved update is noticed by the context that holds it, and the next save writes it.
    A change deep inside ``data`` or ``metadata`` is not noticed.
    """

    __slots__ = ("_edit_logs", "_seq", "_source", "_text", "data", "metadata", "timestamp", "update_type")

    timestamp: float
    update_type: str
    data: Any
    metadata: dict[str, Any]

    if TYPE_CHECKING:
        # Who hears of edits; no field, so that only the four make two updates equal.
        _edit_logs: tuple[dict[int, Any], ...]
        # What data and metadata are read of when one of them is asked for first; the text is dropped then, for None.
        _seq: int
        _text: bytes | None
        _source: Source

    def __init__(self, timestamp: float, update_type: str, data: Any, metadata: dict[str, Any]) -> None:
        """Make an update; a context's ``add_context_update`` does this for you."""
        # Past our own __setattr__, which is for edits after the making.
        _set(self, "timestamp", timestamp)
        _set(self, "update_type", update_type)
        _set(self, "data", data)
        _set(self, "metadata", metadata)
        _set(self, "_edit_logs", ())

    @classmethod
    def unread(
        cls,
        timestamps: Iterable[float],
        update_types: Iterable[str],
        seqs: Iterable[int],
        texts: Sequence[bytes],
        source: Source,
    ) -> list[ContextUpdate]:
        """Make updates whose data and metadata the source reads when one of them is asked for.

        A long history is loaded several times as fast, and takes little more memory than its text, until it is used.
        """
        made = list(map(object.__new__, repeat(cls, len(texts))))
        columns: dict[str, Iterable[Any]] = {
            "timestamp": timestamps,
            "update_type": update_types,
            "_seq": seqs,
            "_text": texts,
            "_source": repeat(source),
        }
        for name, values in columns.items():
            # Slot by slot, without a line of Python for each update: ten times as fast as a constructor.
            deque(map(cls.__dict__[name].__set__, made, values), maxlen=0)
        return made

    def __getattr__(self, name: str) -> Any:
        # Only a slot that has no value comes here: one that was not read yet.
        if name == "_edit_logs":
            return self._source.edit_logs
        if name not in ("data", "metadata"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        while True:
            try:
                source, text = self._source, self._text
            except AttributeError:
                # Made here, and deleted here.
                return _get(self, name)
            if text is None:
                # Another thread read it a moment ago.
                with _reading:
                    return _get(self, name)
            data, metadata = source.read(self._seq, text)
            with _reading:
                # If another thread read or set one of them meanwhile, that one stays: all of them see the same objects.
                if self._text is text:
                    _put_data(self, data)
                    _put_metadata(self, metadata)
                    _put_text(self, None)
                    return data if name == "data" else metadata

    def __setattr__(self, name: str, value: Any) -> None:
        with _reading:
            if name in ("data", "metadata"):
                # What is read later must not come in its place. An update that was made here has no source.
                with contextlib.suppress(AttributeError):
                    if self._text is not None:
                        _set(self, "_source", self._source.with_field(name, value))
                        # Another object, by which a thread that reads it just now sees that it comes too late.
                        _put_text(self, _Again(self._text))
            _set(self, name, value)
        for log in self._edit_logs:
            log[id(self)] = self

    def watch(self, log: dict[int, Any]) -> None:
        """Note later edits of this update in ``log``, by identity."""
        if any(known is log for known in self._edit_logs):
            return
        _set(self, "_edit_logs", (*self._edit_logs, log))

    def unwatch(self, log: dict[int, Any]) -> None:
        """Note later edits in ``log`` no more."""
        _set(self, "_edit_logs", tuple(known for known in self._edit_logs if known is not log))

    @classmethod
    def watch_all(cls, updates: Sequence[ContextUpdate], log: dict[int, Any]) -> None:
        """Do for many what `watch` does for one."""
        slot = cls.__dict__["_edit_logs"]
        try:
            unwatched = not any(map(slot.__get__, updates))
        except AttributeError:
            unwatched = False
        if unwatched:
            deque(map(slot.__set__, updates, repeat((log,))), maxlen=0)
        else:
            for update in updates:
                update.watch(log)

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles are updates of their own: no context watches them. The content may contain the update.
        content = {"data": self.data, "metadata": self.metadata}
        return (ContextUpdate, (self.timestamp, self.update_type, None, {}), (None, content))

    def to_dict(self) -> dict[str, Any]:
        """Return the four fields, in the reference's order."""
        return {
            "timestamp": self.timestamp,
            "update_type": self.update_type,
            "data": self.data,
            "metadata": self.metadata,
        }


class _Again(bytes):
    """A text that is an object of its own."""


# By slot, in half the time: a load is used update by update.
_put_data, _put_metadata, _put_text = (ContextUpdate.__dict__[name].__set__ for name in ("data", "metadata", "_text"))


@dataclass(frozen=True, slots=True)
class ContextKey:
    """Who and which chat: the identity of a context.

    Strings are taken as they are, to the character: no folding of case or look-alikes. Whole numbers and UUIDs are
    taken as their text, as the original did for its file names. Each is at most `MAX_ID_LENGTH` characters.

    Raises:
        InvalidIdError: An id is of another type, too long, or has characters that no database takes.
    """

    user_id: str
    chat_id: str

    def __post_init__(self) -> None:
        _set(self, "user_id", _checked_id("user_id", self.user_id))
        _set(self, "chat_id", _checked_id("chat_id", self.chat_id))

    def __str__(self) -> str:
        return f"({self.user_id!r}, {self.chat_id!r})"


def _checked_id(field: str, value: object) -> str:
    if isinstance(value, int | UUID) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidIdError(field, value, f"it is a {type(value).__name__}, and ids are strings")
    if len(value) > MAX_ID_LENGTH:
        raise InvalidIdError(field, value, f"it has {len(value)} characters, and the limit is {MAX_ID_LENGTH}")
    if "\x00" in value or (not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value)):
        raise InvalidIdError(field, value, "NUL and lone surrogates cannot be kept in a database")
    return str.__str__(value)


@dataclass(frozen=True, slots=True)
class Run:
    """One entering of a context: a ``with`` block, or the time from a first save to the last one.

    ``saves`` counts this run's saves, the one that carries it included. Together with ``run_id`` it is the
    identity of a save: a store that finds the counter already there has written that very save before.
    """

    run_id: str
    saves: int
    started_at: float
    ended_at: float | None = None
    outcome: RunOutcome | None = None
    error: str | None = None

    def next_save(self) -> Run:
        """Return the run with its next save."""
        return Run(self.run_id, self.saves + 1, self.started_at, self.ended_at, self.outcome, self.error)

    def after(self, saved: Run) -> Run:
        """Return the run as it is after the save that ``saved`` was of: it may have ended meanwhile."""
        if self.ended_at == saved.ended_at:
            return saved
        return Run(self.run_id, saved.saves, self.started_at, self.ended_at, self.outcome, self.error)


@dataclass(frozen=True, slots=True)
class FileChange:
    """A tracked file that is new or changed, or no longer tracked.

    ``position`` is its place in the tracker as the store gave it, or None for one that goes to the end.
    """

    path: Any
    entry: Any
    position: int | None
    removed: bool = False


@dataclass(frozen=True, slots=True)
class MappingChange:
    """A mapping as it is now, and how it differs from what this writer last saw in the store."""

    whole: Any
    changed: Mapping[Any, Any]
    removed: Sequence[Any]


# Not frozen: setting seventeen fields past a frozen class's guard would cost each save some microseconds.
@dataclass(slots=True)
class Delta:
    """What a save writes: all that changed since the last one, and nothing else.

    Attributes:
        key: Whose context.
        run: The run that saves, and the number of this save in it.
        base: What the store returned as ``base`` with the last load or save, or None if there was none.
        updates: New updates, in order.
        removed_updates: The seqs of updates that left the history.
        models: New model uses, in order.
        removed_models: The seqs of model uses that left the tracker.
        files: Changed files, in the tracker's order.
        metadata: The metadata, if it changed.
        toggles: The metadata toggles, if they changed.
        operation: What it was made by, if it is no ordinary save. A restore or an undo has no other content.
        dropped: Those of ``removed_updates`` that an optimize or truncate took out: a revision of their own.
        source_revision: The revision that a restore makes current.
        if_unchanged: Refuse when another writer saved since this context was last loaded.
        if_there: Refuse when another writer wrote anew what is to leave, or took out what is to come again.
        again_updates: Those of ``removed_updates`` that are among ``updates`` again: edited, or after a change.
        again_models: The same of model uses.
        at: When the save was made, seconds since the epoch, UTC.
        sent: What a store prepared to write: a delta that is saved again is written as it was the first time.
    """

    key: ContextKey
    run: Run
    base: Any
    at: float
    updates: Sequence[ContextUpdate] = ()
    removed_updates: Sequence[int] = ()
    models: Sequence[Mapping[str, Any]] = ()
    removed_models: Sequence[int] = ()
    files: Sequence[FileChange] = ()
    metadata: MappingChange | None = None
    toggles: MappingChange | None = None
    operation: Operation | None = None
    dropped: Sequence[int] = ()
    source_revision: int | None = None
    if_unchanged: bool = False
    if_there: bool = False
    again_updates: Collection[int] = ()
    again_models: Collection[int] = ()
    sent: Any = field(default=None, compare=False, repr=False)

    @property
    def has_content(self) -> bool:
        """Whether it changes the context itself, and not only its run."""
        return self.is_operation or self.has_changes

    @property
    def is_operation(self) -> bool:
        """Whether a revision of it is made by its operation."""
        return bool(self.dropped) or self.operation in ("restore", "undo")

    @property
    def has_changes(self) -> bool:
        """Whether it has anything beside what its operation does."""
        return bool(
            self.updates
            or len(self.removed_updates) > len(self.dropped)
            or self.models
            or self.removed_models
            or self.files
            or self.metadata
            or self.toggles
        )


@dataclass(frozen=True, slots=True)
class Saved:
    """What a store gave to a delta.

    Attributes:
        revision: The context's revision, counted from 1, that this save made.
        first_seq: The seq of the delta's first update; the others follow without a gap.
        first_model: The seq of its first model use, likewise.
        first_position: The position of its first file that the store had not seen, likewise.
        base: To be handed back with the next delta.
        complete: Whether nobody else saved since the base: memory and store agree.
    """

    revision: int
    first_seq: int
    first_model: int
    first_position: int
    base: Any
    complete: bool


@dataclass(frozen=True, slots=True)
class StoredUpdate:
    """An update with its place in the history: seqs rise, and start at 1."""

    seq: int
    update: ContextUpdate


@dataclass(frozen=True, slots=True)
class Loaded:
    """A context as a store holds it.

    ``history`` has the updates in their order, and ``seqs`` their seqs; ``earlier`` tells whether older ones exist
    that ``history_limit`` kept out. ``models`` are (seq, entry), ``files`` are (position, path, entry), in order.
    Edits of the updates are noted in ``edits``, unless it is None.
    """

    revision: int
    base: Any
    history: Sequence[ContextUpdate] = ()
    seqs: Sequence[int] = ()
    edits: dict[int, Any] | None = None
    earlier: bool = False
    models: Sequence[tuple[int, dict[str, Any]]] = ()
    files: Sequence[tuple[int, Any, Any]] = ()
    metadata: Any = field(default_factory=dict)
    toggles: Any = field(default_factory=dict)

    @property
    def updates(self) -> list[StoredUpdate]:
        """The history with its seqs."""
        return list(map(StoredUpdate, self.seqs, self.history))


@dataclass(frozen=True, slots=True)
class ContextSummary:
    """A context in a list. ``created_at`` and ``revision`` are None where the store does not keep them."""

    user_id: str
    chat_id: str
    revision: int | None
    created_at: float | None
    updated_at: float
