"""Writing a history file in the original's format from a long history, and comparing both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from taskctx_sql import codec
from taskctx_sql.concurrency import on_thread
from taskctx_sql.json_files import files, recovery
from taskctx_sql.json_files.threads import in_thread, patience_of
from taskctx_sql.locations import LOCK_SECONDS, Patience, folder_lock
from taskctx_sql.model import ContextUpdate, TransferOutcome

# Updates, some at a time.
Batches = AsyncIterator[Sequence[ContextUpdate]]

_CHUNK: Final = 1 << 20
_END: Final = b"\n]"
# What an editor puts at the beginning of a file.
_MARK: Final = b"\xef\xbb\xbf"


async def write_history(path: Path, batches: Batches, *, replace: bool) -> tuple[TransferOutcome, int]:
    """Write a history file, and put it in its place if nothing is lost by that.

    A file that is there already is left alone if it is the same, and replaced if the new one only goes on after it.

    Args:
        path: The file.
        batches: The updates.
        replace: Replace a file that has something else, too.

    Returns:
        What was done, and how many updates there are.

    Raises:
        StoreUnavailableError: Somebody else held the folder for too long.
        OSError: The file cannot be written.
    """
    count = 0
    with files.NewFile(path) as new:
        async for batch in batches:
            await on_thread(_write, new, batch, count == 0)
            count += len(batch)
        await on_thread(_close, new, count)
        outcome: TransferOutcome = await in_thread(
            "export", lambda patience: _take_place(new, replace, patience), patience_of(LOCK_SECONDS)
        )
    return outcome, count


def _write(new: files.NewFile, batch: Sequence[ContextUpdate], first: bool) -> None:
    texts = [files.entry_text(update, f"update {at}", strict=False) for at, update in enumerate(batch)]
    if texts:
        new.write(("[\n" if first else ",\n") + ",\n".join(texts))


def _close(new: files.NewFile, count: int) -> None:
    new.write("\n]" if count else "[]")
    new.finish()


def _take_place(new: files.NewFile, replace: bool, patience: Patience) -> TransferOutcome:
    # Nobody of this library saves to the folder between the look and the replacing.
    with folder_lock(new.path.parent, patience):
        outcome = _compared(new)
        if outcome == "refused" and replace:
            outcome = "extended"
        if outcome in ("added", "extended"):
            new.take_place()
            files.sync_folder(new.path.parent)
    return outcome


def _compared(new: files.NewFile) -> TransferOutcome:
    """Tell what the new file is to the one that is there."""
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
    """Return a file's updates, some at a time, read on a thread; what is no whole entry is left out.

    Raises:
        OSError: The file cannot be read.
    """
    parts = recovery.read_entries(path)

    def some() -> list[ContextUpdate]:
        taken: list[ContextUpdate] = []
        for part in parts:
            if isinstance(part, recovery.Entry):
                taken.append(part.update)
                if len(taken) == 500:
                    break
        return taken

    while taken := await on_thread(some):
        yield taken


async def first_difference(path: Path, batches: Batches) -> tuple[int, str | None]:
    """Compare a file with what it was to hold, entry by entry, each value with its type.

    Returns:
        How many are the same from the beginning on, and what is wrong with the next one, if there is one.
    """
    same = 0
    waiting: list[bytes] = []
    history = read_history(path)
    async for batch in batches:
        expected = await on_thread(_texts, batch)
        while len(waiting) < len(expected) and (more := await anext(history, None)) is not None:
            waiting += await on_thread(_texts, more)
        found, waiting = waiting[: len(expected)], waiting[len(expected) :]
        if found != expected:
            pairs = zip(found, expected, strict=False)
            agreeing = next((at for at, (one, other) in enumerate(pairs) if one != other), len(found))
            what = "missing in" if agreeing == len(found) else "not the same in"
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
