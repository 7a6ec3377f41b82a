"""Power cuts: a disk keeps what was fsynced, and of the rest any 512-byte blocks, torn as they may be."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.chaos.databases import integrity
from tests.chaos.kills import write_a_while
from tests.chaos.ledger import Ledger
from tests.chaos.shim import Step, environment, read_record
from tests.chaos.trial import Result, Setup, Trial
from tests.chaos.writer import Job
from tests.chaos.zygote import Zygote
from tests.support.connections import Connection

CUTS_A_FILE: Final = 10
MOST_WRITERS: Final = 3
BLOCK: Final = 512
# How much of what was not fsynced was on the disk nevertheless.
SHARES: Final = (0.0, 0.2, 0.5, 0.8, 1.0)


async def cut_power(setup: Setup) -> Result:
    result = Result()
    disk, record = setup.folder / "disk", setup.folder / "record"
    variables = environment(disk, setup.folder / "shim.so", record=record, breaks=setup.breaks)
    disk.mkdir()
    with Zygote(variables) as zygote:
        while result.cycles < setup.cycles:
            path = disk / f"tasks-{result.cycles}.db"
            ledger = Ledger(Connection("sqlite", f"sqlite:///{path}"), setup.folder)
            for _ in range(min(CUTS_A_FILE, setup.cycles - result.cycles)):
                chat = f"chat-{result.cycles}"
                await _write_until_the_cut(zygote, setup, ledger, chat, record)
                result.cycles += 1
                setup.tell(f"cut {result.cycles:,} of {setup.cycles:,}")
                result.problems += integrity(path)
                await ledger.check([chat])
                if ledger.problems:
                    break
            await ledger.close(result)
            for file in disk.iterdir():
                file.unlink()
            if ledger.problems:
                break
    return result


async def _write_until_the_cut(zygote: Zygote, setup: Setup, ledger: Ledger, chat: str, record: Path) -> None:
    disk = setup.folder / "disk"
    record.write_bytes(b"")
    before = {file.name: file.read_bytes() for file in disk.iterdir()}
    # The journal is on the disk too, so that the record tells what was acknowledged before which write.
    journal = disk / ledger.journal(chat).name
    writers = [
        zygote.start(Job(ledger.connection, chat, f"{chat}w{number}", str(journal)))
        for number in range(random.randint(1, MOST_WRITERS))
    ]
    await write_a_while(journal)
    zygote.kill(*writers)
    steps = list(read_record(record))
    steps = steps[: _moment(steps)]
    acknowledged = b"".join(step.data for step in steps if step.name == journal.name)
    ledger.journal(chat).write_bytes(acknowledged)
    remaining = what_remains(before, [step for step in steps if step.name != journal.name], random.choice(SHARES))
    for file in disk.iterdir():
        file.unlink()
    for name, content in remaining.items():
        (disk / name).write_bytes(content)


def _moment(steps: list[Step]) -> int:
    """Return the place of the cut: where the writers were killed, or anywhere before, or amid a checkpoint."""
    anywhere = range(len(steps))
    checkpoints = [place for place, step in enumerate(steps) if step.name.endswith(".db")]
    places = random.choice([[len(steps)], [len(steps)], anywhere, checkpoints])
    return random.choice(places or [len(steps)])


def what_remains(before: dict[str, bytes], steps: Iterable[Step], share: float) -> dict[str, bytes]:
    """Return the files after a power cut.

    Args:
        before: The files when the writers began, all on the disk.
        steps: What the writers did since.
        share: Of what was not fsynced, how much is there nevertheless.
    """
    begun: dict[int, int] = {}
    synced: dict[str, int] = {}
    by_name: dict[str, list[tuple[int, Step]]] = {}
    for place, step in enumerate(steps):
        if step.what == "B":
            begun[step.offset] = place
        elif step.what == "S":
            synced[step.name] = max(synced.get(step.name, -1), begun[step.offset])
        else:
            by_name.setdefault(step.name, []).append((place, step))
    # Shared memory is gone.
    names = [name for name in {*before, *by_name} if not name.endswith("-shm")]
    remaining = {}
    for name in names:
        content = bytearray(before[name]) if name in before else None
        for place, step in by_name.get(name, []):
            is_sure = place < max(synced.get(name, -1), synced.get("", -1) if step.what == "U" else -1)
            if step.what == "U":
                if not is_sure and random.random() >= share:
                    # The name came back; what was written after belongs to a file that has none.
                    break
                content = None
            else:
                content = bytearray() if content is None else content
                _apply(content, step, 1.0 if is_sure else share)
        if content is not None:
            remaining[name] = bytes(content)
    return remaining


def _apply(content: bytearray, step: Step, share: float) -> None:
    """Do a write or a truncation to the share of its blocks that reached the disk."""
    if step.what == "T":
        if random.random() < share:
            content[:] = content[: step.offset].ljust(step.offset, b"\0")
        return
    at, end = step.offset, step.offset + len(step.data)
    while at < end:
        stop = min(end, (at // BLOCK + 1) * BLOCK)
        if random.random() < share:
            content.extend(bytes(max(0, stop - len(content))))
            content[at:stop] = step.data[at - step.offset : stop - step.offset]
        at = stop


TRIALS = [Trial("power-cut", "the power is cut under writers on a SQLite file", 600, 8, cut_power)]
