"""Writing, reading and comparing long histories, a batch of updates at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from taskctx_sql import codec
from taskctx_sql.concurrency import on_thread
from taskctx_sql.json_files import files, history_format, recovery
from taskctx_sql.json_files.threads import lock_patience, run_in_thread
from taskctx_sql.locations import LOCK_SECONDS, Patience, folder_lock
from taskctx_sql.model import ContextUpdate, TransferOutcome

# Updates in batches.
Batches = AsyncIterator[Sequence[ContextUpdate]]

_BATCH: Final = 500
_CHUNK: Final = 1 << 20
_END: Final = b"\n]"
# The byte order mark that some editors write.
_MARK: Final = b"\xef\xbb\xbf"


async def write_history(path: Path, batches: Batches, *, replace: bool) -> tuple[TransferOutcome, int]:
    """Write a history file, and return what was done and how many updates there are.

    An existing file is left alone if it is the same, and replaced if the new one continues it or ``replace`` is given.
    """
    count = 0
    with files.NewFile(path) as new:
        async for batch in batches:
            await on_thread(_write, new, batch, count == 0)
            count += len(batch)
        await on_thread(new.finish, "\n]" if count else "[]")
        outcome = await run_in_thread("export", partial(_put, new, replace), lock_patience(LOCK_SECONDS))
    return outcome, count


def _write(new: files.NewFile, batch: Sequence[ContextUpdate], first: bool) -> None:
    texts = [history_format.entry_text(update, f"update {index}", strict=False) for index, update in enumerate(batch)]
    if texts:
        new.write(("[\n" if first else ",\n") + ",\n".join(texts))


def _put(new: files.NewFile, replace: bool, patience: Patience) -> TransferOutcome:
    # With the lock, nobody of this library saves to the folder between comparing and replacing.
    with folder_lock(new.path.parent, patience):
        outcome = _compare(new)
        if outcome == "refused" and replace:
            outcome = "extended"
        if outcome in ("added", "extended"):
            new.replace()
            files.sync_folder(new.path.parent)
    return outcome


def _compare(new: files.NewFile) -> TransferOutcome:
    try:
        there = files.open_file(new.path)
    except FileNotFoundError:
        return "added"
    with there, new.temporary.open("rb") as here:
        old_size, new_size = new.path.stat().st_size, new.temporary.stat().st_size
        begin = len(_MARK) if there.read(len(_MARK)) == _MARK else 0
        there.seek(begin)
        old_size -= begin
        if old_size == new_size:
            return "unchanged" if _same(there, here, old_size) else "refused"
        if there.read(3) == b"[]":
            return "extended"
        there.seek(begin)
        kept = old_size - len(_END)
        if 0 < kept < new_size and _same(there, here, kept) and there.read() == _END:
            return "extended"
    return "refused"


def _same(there: BinaryIO, here: BinaryIO, size: int) -> bool:
    while size:
        wanted = min(size, _CHUNK)
        old = there.read(wanted)
        if len(old) != wanted or old != here.read(wanted):
            return False
        size -= wanted
    return True


async def read_history(path: Path) -> Batches:
    """Yield a file's updates in batches, read on a thread. Damaged parts are left out."""
    updates = (part.update for part in recovery.read_entries(path) if isinstance(part, recovery.Entry))
    while batch := await on_thread(lambda: list(islice(updates, _BATCH))):
        yield batch


async def first_difference(path: Path, batches: Batches) -> tuple[int, str | None]:
    """Compare a file with the updates that it should hold, entry by entry, each value with its type.

    The result is how many are the same from the beginning, and what is wrong with the next one, or None.
    """
    same = 0
    waiting: list[bytes] = []
    history = read_history(path)
    async for batch in batches:
        expected = await on_thread(_texts, batch)
        while len(waiting) < len(expected) and (more := await anext(history, None)) is not None:
            waiting += await on_thread(_texts, more)
        actual, waiting = waiting[: len(expected)], waiting[len(expected) :]
        if actual != expected:
            pairs = zip(actual, expected, strict=False)
            agreeing = next((index for index, (one, other) in enumerate(pairs) if one != other), len(actual))
            what = "missing in" if agreeing == len(actual) else "not the same in"
            return same + agreeing, f"entry {same + agreeing} is {what} {path.name}"
        same += len(expected)
    if waiting or await anext(history, None) is not None:
        return same, f"{path.name} has more than {same} entries"
    return same, None


def _texts(batch: Sequence[ContextUpdate]) -> list[bytes]:
    return [
        codec.encode([update.timestamp, update.update_type, update.data, update.metadata], warn=False).encode()
        for update in batch
    ]
