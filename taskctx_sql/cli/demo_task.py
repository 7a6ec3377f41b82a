"""The demo's task: it indexes the text files of a folder, as JSON.

A context records what it did, so that a second run continues and knows what changed since.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Final

from taskctx_sql.json_files import open_file, replace_file
from taskctx_sql.locations import make_folder
from taskctx_sql.opening import open_store
from taskctx_sql.plain_text import counted
from taskctx_sql.task import TaskContext, task_context

USER_ID: Final = "demo"
MODEL_ID: Final = "term-frequency"
SUFFIXES: Final = frozenset({".md", ".txt", ".rst", ".py", ".toml", ".ini", ".cfg", ".yaml", ".yml"})
# Larger files are data rather than documents.
LARGEST_FILE: Final = 2_000_000
CHECKPOINT_EVERY: Final = 10
TERMS: Final = 8

_WORD: Final = re.compile(r"[^\W\d_]{2,}(?:['\u2019-][^\W\d_]+)*")
_HEADING: Final = re.compile(r"^(?:#{1,6}\s+(.+?)\s*#*|(?:class|(?:async )?def)\s+(\w+).*)$", re.MULTILINE)
_NO_TEXT: Final = re.compile("[\ud800-\udfff]")
_COMMON: Final = frozenset(
    """
    a about after all also an and any are as at be been but by can def do does for from has have if in into is it its
    new no none not of on only one or other our out over self str that the their them then there they this to true
    false up was we what when where which who will with you your import return class int bool dict list else elif try
    except raise async await assert
    """.split()  # noqa: SIM905  # words read better than a list of them
)


@dataclass(frozen=True, slots=True)
class Document:
    """The index entry of one file. ``terms`` are the most frequent ones, with their counts."""

    path: str
    digest: str
    words: int
    lines: int
    headings: list[str]
    terms: list[tuple[str, int]]


# An index is recognized by these.
_FIELDS: Final = {one.name for one in fields(Document)}


@dataclass(slots=True)
class Changes:
    """The paths that changed since the last run."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run."""

    folder: Path
    index: Path
    user_id: str
    chat_id: str
    documents: int
    words: int
    unreadable: list[str]
    terms: list[tuple[str, int]]
    changes: Changes
    resumed: bool
    seconds: float


async def index_folder(
    folder: Path,
    index: Path,
    database_url: str,
    *,
    progress: Callable[[str, int, int], None],
    schema: str | None = None,
) -> Result:
    """Index a folder's text files, and record that in a context of the folder, whose path is absolute.

    ``progress`` is called for each file with its path, its number from 1, and the total. If the store fails,
    everything up to the last checkpoint is saved.
    """
    started = time.perf_counter()
    await asyncio.to_thread(_check_replaceable, index)
    chat_id = f"index-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    data = {"user_id": USER_ID, "chat_id": chat_id, "metadata": {"folder": str(folder), "task": "index"}}
    paths = await asyncio.to_thread(lambda: sorted(_text_files(folder, leave_out=index)))
    async with open_store(database_url, schema=schema) as store, task_context(data, store=store) as context:
        resumed = bool(context.context_history)
        before = _known_documents(context)
        context.add_context_update("message", f"Indexing {counted(len(paths), 'file')}", {"source": "system"})
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="demo-read")
        context.add_resource("reader", _Closing(pool))
        documents, unreadable, changes = {}, [], Changes()
        for number, path in enumerate(paths, 1):
            name = path.relative_to(folder).as_posix()
            progress(name, number, len(paths))
            context.track_file_operation(name, "read", "indexer")
            try:
                text = await asyncio.get_running_loop().run_in_executor(pool, partial(path.read_text, "utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                unreadable.append(name)
                context.add_context_update("error", f"{name}: {error}", {"step": "read"})
                continue
            documents[name] = _processed(context, name, text, before.get(name), changes)
            if number % CHECKPOINT_EVERY == 0:
                await context.save()
        _note_removed(context, before, documents, unreadable, changes)
        await asyncio.to_thread(_write_index, index, documents.values())
        context.track_file_operation(str(index), "write", "indexer")
        context.add_context_update("message", f"Indexed {counted(len(documents), 'file')}", {"source": "system"})
    terms = Counter[str]()
    for document in documents.values():
        terms.update(dict(document.terms))
    return Result(
        folder=folder,
        index=index,
        user_id=USER_ID,
        chat_id=chat_id,
        documents=len(documents),
        words=sum(document.words for document in documents.values()),
        unreadable=unreadable,
        terms=terms.most_common(TERMS),
        changes=changes,
        resumed=resumed,
        seconds=time.perf_counter() - started,
    )


def process(path: str, text: str, digest: str) -> Document:
    """Return the index entry of one file."""
    words = _WORD.findall(text)
    frequent = Counter(word.lower() for word in words if word.lower() not in _COMMON and len(word) > 2)
    headings = [first or second for first, second in _HEADING.findall(text)]
    return Document(path, digest, len(words), text.count("\n") + 1, headings[:50], frequent.most_common(TERMS))


class _Closing:
    """A thread pool with the method that a context calls."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def close(self) -> None:
        self._pool.shutdown()


def _processed(context: TaskContext, name: str, text: str, known: Document | None, changes: Changes) -> Document:
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    if known is not None and known.digest == digest:
        changes.unchanged.append(name)
        return known
    began = time.perf_counter()
    document = process(name, text, digest)
    context.track_model_usage(MODEL_ID, "local", "indexing", duration=time.perf_counter() - began)
    context.add_context_update("document", asdict(document), {"step": "index", "known": known is not None})
    (changes.added if known is None else changes.changed).append(name)
    return document


def _note_removed(
    context: TaskContext, before: dict[str, Document], now: dict[str, Any], unreadable: list[str], changes: Changes
) -> None:
    for name in before:
        if name not in now and name not in unreadable:
            changes.removed.append(name)
            context.track_file_operation(name, "gone", "indexer")
            context.add_context_update("document_removed", {"path": name}, {"step": "index"})


def _check_replaceable(index: Path) -> None:
    """Check that only an index of an earlier run is replaced."""
    try:
        with open_file(index) as file:
            entries = json.loads(file.read())
        is_index = isinstance(entries, list) and all(isinstance(one, dict) and set(one) == _FIELDS for one in entries)
    except FileNotFoundError:
        return
    except (ValueError, RecursionError):
        is_index = False
    if not is_index:
        raise FileExistsError(f"{index} exists, and is not an index of the demo: move it away, or use --output")


def _write_index(index: Path, documents: Iterable[Document]) -> None:
    make_folder(index.parent)
    text = json.dumps([asdict(document) for document in documents], indent=1, ensure_ascii=False)
    # File names may not be UTF-8; JSON escapes such characters.
    replace_file(index, _NO_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def _known_documents(context: TaskContext) -> dict[str, Document]:
    """Return the documents that earlier runs recorded."""
    known: dict[str, Document] = {}
    for update in context.context_history:
        if update.update_type == "document":
            document = Document(**update.data)
            known[document.path] = document
        elif update.update_type == "document_removed":
            known.pop(update.data["path"], None)
    return known


def _text_files(folder: Path, leave_out: Path) -> Iterator[Path]:
    own = leave_out.resolve().parent
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name in ("__pycache__", "node_modules", "build", "dist"):
            continue
        if path.is_dir() and not path.is_symlink():
            if path.resolve() != own and not path.name.endswith(".egg-info"):
                yield from _text_files(path, leave_out)
        elif path.suffix.lower() in SUFFIXES and path.is_file() and path.stat().st_size <= LARGEST_FILE:
            yield path
