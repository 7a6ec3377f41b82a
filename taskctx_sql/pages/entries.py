"""An update as people read it: what it is, who says it, its text, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from taskctx_sql import codec
from taskctx_sql.errors import CorruptRecordError
from taskctx_sql.model import StoredUpdate
from taskctx_sql.model.context_rows import TimelineEntry
from taskctx_sql.pages import reading

# So much of the JSON text of an update is read for a page; the whole has an address of its own.
MAX_TEXT: Final = 4_000
# The text of a tool's call or result stands on one line of so many characters.
MAX_LINE: Final = 300

_HEADINGS: Final = {
    "tool_call": "call",
    "tool_result": "result",
    "file_operation": "file",
    "model_usage": "model",
    "handoff": "hand-over",
}
# Said by somebody, rather than noted.
_SAID: Final = ("message", "reasoning", "error", "handoff")


@dataclass(frozen=True, slots=True)
class Entry:
    """An update.

    Attributes:
        seq: Its place in the history.
        at: When it was created.
        update_type: Its type.
        role: Who says it: "user", "assistant", "system", "tool"; or "error", or "note" for what nobody says.
        heading: What it is, in a word.
        name: The name of a tool; an empty text for others.
        text: What it says, or what it is about on one line.
        data: Its JSON on lines, or the beginning of a long one; an empty text if it says no more than ``text``.
        metadata: The same of the metadata; an empty text if there is none.
        characters: How long its data is as JSON text.
        group: The call that it belongs to; an empty text for others.
        failed: Whether it is an error, or the result of a call that failed.
        run_id: The run that saved it.
        added_in: The revision that it came in.
        removed_in: The revision that it left in, or None.
        copy_of: The seq that it was first written under, if a restore or a fork wrote it again.
        is_cut: Whether some of its data or metadata is left out.
        is_broken: Whether it cannot be read back; then ``data`` is its text as it stands in the database.
    """

    seq: int
    at: float | None
    update_type: str
    role: str
    heading: str
    name: str
    text: str
    data: str
    metadata: str
    characters: int
    group: str
    failed: bool
    run_id: str
    added_in: int
    removed_in: int | None
    copy_of: int | None
    is_cut: bool
    is_broken: bool

    @property
    def is_said(self) -> bool:
        """Whether it is a part of the conversation, and not only noted beside it."""
        return self.update_type in _SAID


def entries_of(rows: Iterable[TimelineEntry], revision: int | None = None) -> list[Entry]:
    """Return the entries of a timeline, now or in a revision.

    Results have the name of their call's tool, if the call is among them.
    """
    found = [entry_of(row) for row in rows]
    if revision is not None:
        # What left the history later was in it then.
        found = [replace(entry, removed_in=None) for entry in found]
    names = {entry.group: entry.name for entry in found if entry.update_type == "tool_call" and entry.group}
    return [
        replace(entry, name=names.get(entry.group, ""))
        if entry.update_type == "tool_result" and not entry.name
        else entry
        for entry in found
    ]


def entry_of(row: TimelineEntry) -> Entry:
    """Return the entry of an update in a timeline."""
    is_cut = len(row.data) < row.data_characters
    is_metadata_cut = len(row.metadata) < row.metadata_characters
    try:
        data = reading.beginning_of(row.data) if is_cut else json.loads(row.data)
        metadata = reading.beginning_of(row.metadata) if is_metadata_cut else json.loads(row.metadata)
        shown = row.data if is_cut else reading.pretty(data)
        shown_metadata = row.metadata if is_metadata_cut else reading.pretty(metadata) if metadata else ""
        is_broken = False
    except reading.JSON_ERRORS:
        # As it stands there: deeper than Python reads it, cut in the middle of something, or no JSON at all.
        data, metadata, shown, shown_metadata = None, None, row.data, row.metadata
        is_broken = not (is_cut or is_metadata_cut or _is_json(row.data, row.metadata))
    said = _said(row.update_type, data, metadata)
    if isinstance(data, str) and said["text"] == data:
        shown = ""
    return Entry(
        seq=row.seq,
        at=row.timestamp,
        update_type=row.update_type,
        data=shown,
        metadata=shown_metadata,
        characters=row.data_characters,
        run_id=row.run_id,
        added_in=row.added_in,
        removed_in=row.removed_in,
        copy_of=None if row.copy_of == row.seq else row.copy_of,
        is_cut=is_cut or is_metadata_cut,
        is_broken=is_broken,
        **said,
    )


def entry_of_update(stored: StoredUpdate, most: int = MAX_TEXT) -> Entry:
    """Return the entry of an update that was read as a value."""
    update = stored.update
    data, metadata = texts_of(stored)
    at = update.timestamp if isinstance(update.timestamp, int | float) else None
    row = TimelineEntry(
        seq=stored.seq,
        timestamp=at,
        update_type=str(update.update_type),
        data=data[:most],
        removed=False,
        metadata=metadata[:most],
        data_characters=len(data),
        metadata_characters=len(metadata),
        run_id="",
        added_in=0,
        removed_in=None,
        copy_of=None,
    )
    return entry_of(row)


def texts_of(stored: StoredUpdate) -> tuple[str, str]:
    """Return the JSON text of an update's data and metadata; of one that cannot be read back, what is wrong with it."""
    try:
        return codec.encode(stored.update.data, warn=False), codec.encode(stored.update.metadata, warn=False)
    except CorruptRecordError as error:
        return f"{error}", "{}"


def _said(update_type: str, data: Any, metadata: Any) -> dict[str, Any]:
    heading, name, failed = _HEADINGS.get(update_type, update_type.replace("_", " ")), "", False
    if update_type == "message":
        role, text = reading.role_of(data, metadata) or "system", reading.text_of(data)
    elif update_type == "error":
        role, text, failed = "error", reading.error_of(data, metadata), True
    elif update_type == "tool_call":
        role, name, text = "tool", reading.tool_of(data, metadata), reading.arguments_of(data)
    elif update_type == "tool_result":
        failed = isinstance(metadata, dict) and metadata.get("error") is not None
        role, name = "tool", reading.tool_of(None, metadata)
        text = reading.error_of(data, metadata) if failed else reading.outcome_of(data)
    elif update_type == "reasoning":
        role, text = "assistant", reading.text_of(data)
    elif update_type == "file_operation":
        role, text = "note", reading.file_of(data)
    elif update_type == "model_usage":
        role, text = "note", reading.model_of(data)
    else:
        role, name, text = "note", reading.tool_of(None, metadata), reading.text_of(data)
    group = metadata.get("group") if isinstance(metadata, dict) else None
    if role in ("tool", "note"):
        text = _line(text)
    return {
        "role": role,
        "heading": heading,
        "name": name,
        "text": text,
        "failed": failed,
        "group": group if isinstance(group, str) else "",
    }


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} ..."


def _is_json(*texts: str) -> bool:
    """Return whether they are JSON, if deeper than it is read here."""
    try:
        for text in texts:
            codec.decode(text)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    return True
