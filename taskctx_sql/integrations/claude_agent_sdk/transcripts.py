"""Importing transcripts that Claude Code has written: a folder like ``~/.claude/projects``."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taskctx_sql import Store
from taskctx_sql.errors import MissingHistoriesError
from taskctx_sql.integrations.claude_agent_sdk.session_store import ContextSessionStore
from taskctx_sql.transfer import TransferProgress, Transferred

if TYPE_CHECKING:
    from claude_agent_sdk import SessionKey, SessionStoreEntry

_BATCH: Final = 500


async def import_transcripts(
    source: str | Path,
    store: Store,
    *,
    user_id: str,
    chat_id: str | None = None,
    verify: bool = True,
    progress: TransferProgress | None = None,
) -> Transferred:
    """Import transcripts of sessions and their subagents. The files are not changed.

    Entries that the database already has are not written again, so an import can be interrupted and repeated, and
    sessions that were mirrored by the SDK can be imported.

    Args:
        source: A folder like ``~/.claude/projects``: a folder for each project, in it ``<session>.jsonl``, and
            ``<session>/subagents/**/*.jsonl`` beside it.
        store: An open database.
        user_id: Whose sessions they are, which the files do not say.
        chat_id: Import only the session with this id.
        verify: Read each transcript back afterwards, and check that it has each entry of its file.
        progress: Called with the file, the bytes done and their total.

    Returns:
        The result; a problem for each line that is no entry.

    Raises:
        MissingHistoriesError: There is no such folder, or no transcript in it.
        StoreError: The database failed; what was imported before is there.
    """
    started = time.monotonic()
    files = [(path, key) for path, key in _transcripts(Path(source)) if chat_id in (None, key["session_id"])]
    if not files:
        raise MissingHistoriesError(str(source), "it has no transcripts, as <project>/<session>.jsonl")
    sessions = ContextSessionStore(store, user_id=user_id)
    result = Transferred(str(source), store.database_url, verified=0 if verify else None)
    total, done = sum(path.stat().st_size for path, _ in files), 0
    for path, key in files:
        await _import(sessions, path, key, result)
        done += path.stat().st_size
        if progress is not None:
            progress(path.name, done, total)
    result.contexts, result.seconds = len(files), time.monotonic() - started
    return result


async def _import(sessions: ContextSessionStore, path: Path, key: SessionKey, result: Transferred) -> None:
    entries = list(_entries(path, result))
    stored = await sessions.load(key)
    # A transcript may have two equal entries.
    known = Counter(map(_text, stored or ()))
    new = []
    for entry in entries:
        if known[text := _text(entry)]:
            known[text] -= 1
        else:
            new.append(entry)
    for first in range(0, len(new), _BATCH):
        await sessions.append(key, new[first : first + _BATCH])
    result.outcomes["added" if stored is None else "extended" if new else "unchanged"] += 1
    result.updates += len(entries)
    result.added += len(new)
    if result.verified is not None:
        missing = Counter(map(_text, entries)) - Counter(map(_text, await sessions.load(key) or ()))
        result.verified += len(entries) - missing.total()
        if missing:
            result.add_problem(str(path), f"{missing.total()} of its entries differ in the database")


def _transcripts(folder: Path) -> Iterator[tuple[Path, SessionKey]]:
    """Yield the transcripts of a folder of projects, those of a session before those of its subagents."""
    for path in sorted(folder.expanduser().glob("*/*.jsonl")):
        project, session = path.parent.name, path.stem
        yield path, {"project_key": project, "session_id": session}
        beside = path.with_suffix("")
        for other in sorted(beside.glob("subagents/**/*.jsonl")):
            subpath = other.relative_to(beside).with_suffix("").as_posix()
            yield other, {"project_key": project, "session_id": session, "subpath": subpath}


def _entries(path: Path, result: Transferred) -> Iterator[SessionStoreEntry]:
    """Yield the entries of a file, and of a subagent's also what describes it."""
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except ValueError as error:
                result.add_problem(f"{path}, line {number}", f"it is no JSON: {error}")
                continue
            if isinstance(entry, dict) and isinstance(entry.get("type"), str):
                yield entry  # type: ignore[misc]  # an entry is any object with a type
            else:
                result.add_problem(f"{path}, line {number}", "it is no object with a type")
    about = path.with_suffix(".meta.json")
    if about.exists():
        # The SDK mirrors it as an entry, which is not in the file.
        description: Any = {**json.loads(about.read_text()), "type": "agent_metadata"}
        yield description


def _text(entry: Any) -> str:
    return json.dumps(entry, sort_keys=True)
