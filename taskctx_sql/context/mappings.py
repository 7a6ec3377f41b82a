"""Changes of metadata and toggles, key by key: detect, merge and undo them."""

from __future__ import annotations

from typing import Any, Final

from taskctx_sql import codec
from taskctx_sql.model import MappingChange

EMPTY: Final = codec.encode({})


def mapping_change(now: Any, saved_text: str) -> tuple[MappingChange | None, str]:
    """Return how a mapping differs from its saved text, if it does, and its text now."""
    if saved_text == EMPTY and type(now) is dict and not now:
        return None, EMPTY
    text = codec.encode(now, warn=False)
    if text == saved_text:
        return None, text
    # By the keys as the store has them: an enum's key is its value.
    saved, stored = codec.decode(saved_text), codec.decode(text)
    if not isinstance(now, dict) or not isinstance(saved, dict) or not isinstance(stored, dict):
        return MappingChange(now, {}, ()), text
    missing = object()
    changed = {
        key: now.get(key, value)
        for key, value in stored.items()
        if (old := saved.get(key, missing)) is missing or codec.encode(old) != codec.encode(value, warn=False)
    }
    return MappingChange(dict(now), changed, [key for key in saved if key not in stored]), text


def with_changes(stored: Any, here: Any, saved_text: str, *, removes: bool) -> tuple[Any, str]:
    """Return the stored mapping with the unsaved changes in memory on top, and the stored mapping's text.

    Keys that were removed in memory stay unless ``removes``.
    """
    if stored is None:
        # A store that does not keep it.
        return here, saved_text
    change, _ = mapping_change(here, saved_text)
    text = codec.encode(stored, warn=False)
    if change is None or not isinstance(stored, dict) or not isinstance(here, dict):
        return (stored if change is None else here), text
    removed = change.removed if removes else ()
    merged = {key: value for key, value in stored.items() if key not in removed} | dict(change.changed)
    return merged, text


def taken_back(before: str, after: str, now: str) -> str:
    """Return a mapping's text with a change undone, except for keys that were changed again since."""
    if now == after:
        return before
    change, _ = mapping_change(codec.decode(before), after)
    then, kept = codec.decode(after), codec.decode(now)
    if change is None or not (isinstance(change.whole, dict) and isinstance(then, dict) and isinstance(kept, dict)):
        return now

    def is_as_then(key: str) -> bool:
        if key not in then or key not in kept:
            return key not in then and key not in kept
        return codec.encode(kept[key], warn=False) == codec.encode(then[key], warn=False)

    kept |= {key: value for key, value in change.changed.items() if is_as_then(key)}
    kept = {key: value for key, value in kept.items() if key not in change.removed or not is_as_then(key)}
    return codec.encode(kept, warn=False)
