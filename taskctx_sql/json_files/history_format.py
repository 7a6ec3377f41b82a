"""The format of the original's history files: text to updates, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from taskctx_sql import codec, limits
from taskctx_sql.model import ContextUpdate


def decode_text(content: bytes) -> str:
    """Return a file's text. Editors may add a byte order mark or write UTF-16, and JSON readers accept both."""
    return content.decode(json.detect_encoding(content))


def parse(text: str) -> list[ContextUpdate]:
    """Return the updates of a file, or raise a `ValueError` that names the entry."""
    entries = codec.read_file_text(text)
    if not isinstance(entries, list):
        raise ValueError(f"it holds a {type(entries).__name__}, not a list of updates")
    return [update_of(entry, f"entry {position}") for position, entry in enumerate(entries)]


def update_of(entry: Any, place: str) -> ContextUpdate:
    """Return an entry of a file as an update; ``metadata`` may be missing. Errors call it ``place``."""
    if not isinstance(entry, dict):
        raise ValueError(f"{place} is a {type(entry).__name__}")
    missing = [name for name in ("timestamp", "update_type", "data") if name not in entry]
    if missing:
        raise ValueError(f"{place} has no {' and no '.join(missing)}")
    return ContextUpdate(entry["timestamp"], entry["update_type"], entry["data"], entry.get("metadata", {}))


def trackers(updates: Iterable[ContextUpdate]) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Return both trackers, rebuilt from the updates that tracking adds to the history."""
    files: dict[str, dict[str, Any]] = {}
    models: list[dict[str, Any]] = []
    for update in updates:
        data = update.data
        if not isinstance(data, dict):
            continue
        if update.update_type == "file_operation" and isinstance(data.get("path"), str) and "operation" in data:
            source = update.metadata.get("source", "task") if isinstance(update.metadata, dict) else "task"
            entry = {"operation": data["operation"], "source": source, "timestamp": update.timestamp, "state": "active"}
            files[data["path"]] = entry
        elif update.update_type == "model_usage" and "model_id" in data:
            models.append(dict(data))
    return files, models


def entry_text(update: ContextUpdate, place: str, *, strict: bool) -> str:
    """Return an update as the file has it, indented, without the comma. Errors call it ``place``."""
    tree = update.to_dict()
    # Most values are plain JSON, and checking that costs a tenth of converting them.
    if codec.encode_plain(list(tree.values())) is None:
        tree = {name: codec.to_file_tree(value, f"{place}.{name}", strict=strict) for name, value in tree.items()}
    # Line breaks inside strings are escaped, so each one here belongs to the layout.
    text = limits.check_text(codec.with_fresh_stack(lambda: json.dumps(tree, indent=2)), place)
    return "  " + text.replace("\n", "\n  ")


def whole_text(entries: Sequence[str]) -> str:
    """Return a file's text from its entries' texts."""
    return "[\n" + ",\n".join(entries) + "\n]" if entries else "[]"


def with_appended(text: str, entries: Sequence[str]) -> str | None:
    """Return a file's text with entries added, or None if its layout is not the original's."""
    if text == "[]":
        return whole_text(entries)
    if not (text.startswith("[\n") and text.endswith("\n]")):
        return None
    return text[:-2] + ",\n" + ",\n".join(entries) + "\n]" if entries else text
