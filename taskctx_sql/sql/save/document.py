"""Saves and answers as JSON: what `taskctx_save_v1` takes and returns. The page "Schema" of the docs describes both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from taskctx_sql import codec
from taskctx_sql.errors import (
    LostContextError,
    NothingToUndoError,
    RevisionNotFoundError,
    StaleContextError,
    TaskContextError,
)
from taskctx_sql.model import MappingChange, Saved
from taskctx_sql.sql.context_row import ContextHead
from taskctx_sql.sql.row_codec import StateRow
from taskctx_sql.sql.save.request import Removed, SaveRequest, removed_by

_UPDATE: Final = ("timestamp", "update_type", "data", "metadata", "exact")
_MODEL: Final = (
    *("model_id", "provider_id", "mode", "timestamp", "input_tokens", "output_tokens", "cached_read_tokens"),
    *("cached_write_tokens", "reasoning_tokens", "audio_tokens", "cost", "price_list", "duration", "exact"),
)
_STATE: Final = StateRow._fields
_FILE: Final = ("path_id", "path", "operation", "source", "timestamp", "state", "exact")

# JSON has no infinities, and Postgres reads them from their names.
_INFINITIES: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}


def document(requests: Sequence[SaveRequest], *, with_updates: bool = True) -> str:
    """Return the request of saves to different contexts."""
    return orjson.dumps([_save(request, with_updates) for request in requests]).decode()


def _save(request: SaveRequest, with_updates: bool) -> dict[str, Any]:
    delta, base, run = request.delta, request.base, request.delta.run
    removed = removed_by(delta)
    save: dict[str, Any] = {
        "context_id": request.context_id,
        "saved_at": delta.at,
        "run_id": run.run_id,
        "save_number": run.saves,
        "started_at": run.started_at,
        "base_revision": base.revision,
        "base_newest": base.newest,
        "makes_revision": request.makes_revision,
        "update_count": len(request.updates),
        "model_count": len(request.models),
        "position_count": request.unplaced_files,
    }
    if base.created_at is None:
        save |= {"user_id": delta.key.user_id, "chat_id": delta.key.chat_id}
    else:
        save["base_created_at"] = base.created_at
    if run.ended_at is not None or run.outcome is not None or request.error is not None:
        save |= {"ended_at": run.ended_at, "outcome": run.outcome, "error": request.error}
    if request.if_unchanged:
        save["if_unchanged"] = True
    if request.rls_user is not None:
        save["rls_user"] = request.rls_user
    if with_updates and request.updates:
        save["updates"] = _records(_UPDATE, request.updates)
    if delta.is_operation:
        save["operation"] = delta.operation
    if request.metadata is not None:
        save["metadata"] = request.metadata
    if request.toggles is not None:
        save["toggles"] = request.toggles
    if changes := _changes(request, removed):
        save["changes"] = changes
    return save


def _changes(request: SaveRequest, removed: Removed) -> dict[str, Any]:
    """Return what only some saves have."""
    delta = request.delta
    changes: dict[str, Any] = {}
    if delta.source_revision is not None:
        changes["source_revision"] = delta.source_revision
    for name, change in (("metadata", delta.metadata), ("toggles", delta.toggles)):
        if change is not None:
            changes |= _keys(name, change)
    if any(removed):
        changes |= {
            "if_there": delta.if_there,
            "removed_updates": removed.updates or None,
            "dropped_updates": removed.dropped or None,
            "removed_models": removed.models or None,
            "again_updates": list(delta.again_updates),
            "again_models": list(delta.again_models),
        }
    if request.models:
        changes["models"] = _records(_MODEL, request.models)
    if request.changed_paths:
        changes["changed_paths"] = request.changed_paths
    if request.files:
        files = _records(_FILE, request.files)
        changes["files"] = [
            file | {"position": position} for file, position in zip(files, request.positions, strict=True)
        ]
    if request.state:
        changes["state"] = _records(_STATE, request.state)
    return changes


def _keys(name: str, change: MappingChange) -> Mapping[str, orjson.Fragment]:
    """Return the keys of a mapping that changed, and those that were removed, for a merge."""
    changed, removed = (codec.encode(list(keys), name, warn=False) for keys in (change.changed, change.removed))
    return {f"{name}_changed": orjson.Fragment(changed), f"{name}_removed": orjson.Fragment(removed)}


def _records(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    records = [{name: value for name, value in zip(names, row, strict=True) if value is not None} for row in rows]
    for record in records:
        for name in ("timestamp", "cost", "duration", "expires_at"):
            if record.get(name) in _INFINITIES:
                record[name] = _INFINITIES[record[name]]
    return records


def answers(requests: Sequence[SaveRequest], text: str) -> list[Saved | TaskContextError]:
    """Return the answers to saves, or the errors why some were refused."""
    return [_answer(request, answer) for request, answer in zip(requests, orjson.loads(text), strict=True)]


def is_repeated(text: str) -> bool:
    """Whether a save was written before, and the call of its copy has written nothing."""
    return bool(orjson.loads(text)[0][0] == "saved before")


def _answer(request: SaveRequest, answer: list[Any]) -> Saved | TaskContextError:
    key = request.delta.key
    match answer:
        case ["saved" | "saved before", *head]:
            return request.saved(ContextHead(*head))
        case ["lost"]:
            return LostContextError(key)
        case ["stale", revision, rewritten]:
            return StaleContextError(key, request.base.revision, revision, rewritten=rewritten)
        case ["no such revision", newest, pruned_until]:
            return RevisionNotFoundError(key, request.delta.source_revision or 0, newest, pruned_until or 0)
        case ["nothing to undo"]:
            return NothingToUndoError(key)
    raise ValueError(f"an answer of a newer version: {answer}")
