"""Copying the history files of one folder to another."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from taskctx_sql.concurrency import on_thread
from taskctx_sql.json_files import chat_files, first_difference, read_history, recovery, signature_of, write_history
from taskctx_sql.locations import json_address, make_folder
from taskctx_sql.model import Damage, TransferOutcome, TransferProgress, Transferred, sum_progress

# How often a file that somebody writes to meanwhile is copied again.
ATTEMPTS: Final = 10


async def copy_files(
    source: Path, target: Path, chat_id: str | None, verify: bool, progress: TransferProgress | None
) -> Transferred:
    """Copy a folder's files, or one chat's; see `transfer.copy`."""
    started = time.monotonic()
    chats, _ = chat_files(source, chat_id)
    result = Transferred(json_address(source), json_address(target), verified=0 if verify else None)
    await on_thread(make_folder, target)
    paths = [path for paths in chats.values() for path in paths]
    report = sum_progress(progress, len(paths))
    for path in paths:
        report(f"copying {path.name}", 1)
        result.contexts += 1
        try:
            outcome: TransferOutcome = "unchanged"
            for _ in range(ATTEMPTS):
                before = signature_of(path)
                last, updates, verified, problems = await _copy_file(path, target / path.name, verify)
                outcome = last if outcome == "unchanged" or last == "refused" else outcome
                if not problems or signature_of(path) == before:
                    break
                # Somebody wrote to it meanwhile: differences may only be newer entries, or half-written ones.
        except OSError as error:
            # One file that is not a regular file, or cannot be read, does not stop the others.
            result.refuse(path.name, str(error))
            continue
        result.outcomes[outcome] += 1
        result.updates += updates
        result.added += updates if outcome in ("added", "extended") else 0
        if result.verified is not None:
            result.verified += verified
        for problem in problems:
            result.add_problem(path.name, problem)
    result.seconds = time.monotonic() - started
    return result


async def _copy_file(path: Path, target: Path, verify: bool) -> tuple[TransferOutcome, int, int, list[str]]:
    """Return the outcome, how many updates the file has, how many are the same in the target, and the problems."""
    damage = await on_thread(lambda: [part for part in recovery.read_entries(path) if isinstance(part, Damage)])
    problems = [str(part) for part in damage]
    outcome, count = await write_history(target, read_history(path), replace=False)
    same = 0
    if outcome == "refused":
        problems.append(f"{target} has something else: move it away")
    elif verify:
        same, difference = await first_difference(target, read_history(path))
        problems += [] if difference is None else [difference]
    return outcome, count, same, problems
