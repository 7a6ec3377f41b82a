"""The turns of a transcript: each is a run, from what the user asked to the model's last answer."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

from taskctx_sql import Run
from taskctx_sql.integrations.claude_agent_sdk.entries import Entry, blocks_of, error_of, message_of, text_of, time_of

AnyEntry = TypeVar("AnyEntry", bound=Entry)

_INTERRUPTED: Final = "[Request interrupted by user"


def split(entries: Iterable[AnyEntry]) -> Iterator[list[AnyEntry]]:
    """Yield the entries in order, those of each turn together."""
    turn: list[AnyEntry] = []
    answered = False
    for entry in entries:
        if answered and _begins(entry):
            yield turn
            turn, answered = [], False
        turn.append(entry)
        answered = answered or entry.get("type") == "assistant" or _is_interruption(entry)
    if turn:
        yield turn


def run_of(entries: Sequence[Entry], current: Run | None, now: float) -> Run:
    """Return the run that saves these entries of one turn.

    Args:
        entries: Some entries of a turn, in order.
        current: The run of the entries before, or None. It goes on unless a turn begins here.
        now: The time of an entry that has none, seconds since the epoch.
    """
    if current is None or any(map(_begins, entries)):
        times = [at for entry in entries if (at := time_of(entry)) is not None]
        run = Run(uuid.uuid4().hex, 1, times[0] if times else now)
    else:
        run = current.next_save()
    last = next((entry for entry in reversed(entries) if message_of(entry)), None)
    if last is None:
        return run
    run.ended_at, run.outcome, run.error = time_of(last) or now, None, None
    if error := error_of(last):
        run.outcome, run.error = "failed", error
    elif _is_interruption(last):
        run.outcome = "cancelled"
    elif _ends(last):
        run.outcome = "completed"
    else:
        run.ended_at = None
    return run


def _begins(entry: Entry) -> bool:
    """Whether somebody asks something with this entry, rather than a tool answering."""
    if entry.get("type") != "user" or entry.get("isMeta") is True or entry.get("isCompactSummary") is True:
        return False
    return not _is_interruption(entry) and all(block.get("type") != "tool_result" for block in blocks_of(entry))


def _ends(entry: Entry) -> bool:
    """Whether the model has answered with this entry, and calls no tool."""
    if entry.get("type") != "assistant":
        return False
    reason = message_of(entry).get("stop_reason")
    # Some versions of Claude Code leave the reason out.
    return reason in ("end_turn", "stop_sequence", "max_tokens") or (
        reason is None and {block.get("type") for block in blocks_of(entry)} == {"text"}
    )


def _is_interruption(entry: Entry) -> bool:
    return entry.get("type") == "user" and text_of(message_of(entry).get("content")).startswith(_INTERRUPTED)
