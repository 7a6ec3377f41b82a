"""``python -m tests.chaos rolling``: a database is upgraded while programs of an earlier version go on saving to it.

Six of them save, the schema is upgraded under them, and six of this version join: nothing is lost, doubled or torn.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from rich.console import Console

from tests.chaos.figures import figures, table
from tests.chaos.ledger import Ledger
from tests.chaos.marks import USER, read_journal
from tests.chaos.trial import Result
from tests.support.connections import PLAIN, Connection
from tests.support.postgres import Server, new_database

PROJECT = Path(__file__).parents[2]
# The last one whose schema was 0004.
AT_0004 = "72c8e2ac62c7"
WRITERS = 6
CHATS = 3
# Each writer has saved so often before the upgrade, and saves so often after it.
BEFORE, AFTER = 10, 20
PATIENCE = 60.0

# By public names that each version has. It acknowledges as `marks.Journal` does, and ends when it is killed.
PROGRAM = """
import asyncio, os, sys, time
from taskctx_sql import TaskContext, open_store
from taskctx_sql.errors import StoreError

async def main(url, user, chat, writer, path):
    journal = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    async with open_store(url) as store:
        context = TaskContext({"user_id": user, "chat_id": chat}, store=store)
        await context.load()
        number = 0
        while True:
            number += 1
            mark = f"{writer}.{number}"
            context.add_context_update("message", {"mark": mark}, {"number": number})
            context.track_file_operation(mark, "write")
            context.track_model_usage(mark, "provider", "chaos", input_tokens=number)
            started = time.monotonic()
            while True:
                try:
                    await context.save()
                    break
                except StoreError as error:
                    text = " ".join(f"{type(error).__name__}: {error}".split())
                    os.write(journal, f"failed {writer} {text}\\n".encode())
                    await asyncio.sleep(0.02)
            now = time.monotonic()
            os.write(journal, f"saved {writer} {number} {now:.6f} {now - started:.6f}\\n".encode())
            await asyncio.sleep(0.01)

asyncio.run(main(*sys.argv[1:]))
"""


class Version:
    """A version of the library, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def upgrade(self, url: str) -> None:
        """Bring a database to this version's schema, as `taskctx upgrade` does."""
        command = [sys.executable, "-m", "taskctx_sql", "upgrade", "-d", url]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder, env=self._environment)

    def start(self, url: str, chat: str, writer: str, journal: Path) -> subprocess.Popen[bytes]:
        """Start a writer."""
        command = [sys.executable, "-c", PROGRAM, url, USER, chat, writer, str(journal)]
        return subprocess.Popen(command, cwd=self._folder, env=self._environment)

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self._folder)}


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Yield a folder with the files of a commit of this repository."""
    with tempfile.TemporaryDirectory(prefix="taskctx-rolling-") as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=PROJECT, check=True, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", folder], check=True, input=archive.stdout)
        yield Path(folder)


async def upgrade_in_use(old: Version, server_url: str, result: Result, folder: Path) -> None:
    """Upgrade one database under its writers, and compare at the end what is there with what was acknowledged."""
    new = Version(PROJECT)
    async with new_database(server_url, upgraded=False) as url:
        await asyncio.to_thread(old.upgrade, url)
        ledger = Ledger(Connection(PLAIN, url), folder)
        chats = [f"chat-{result.cycles}-{number}" for number in range(CHATS)] * (WRITERS // CHATS)
        journals = {chat: ledger.journal(chat) for chat in chats}
        running: list[subprocess.Popen[bytes]] = []

        def start(version: Version, name: str) -> None:
            running.extend(version.start(url, chat, f"{name}{at}", journals[chat]) for at, chat in enumerate(chats))

        try:
            start(old, "old")
            await _until_all_saved(journals, running, 0.0, BEFORE, result)
            await asyncio.to_thread(new.upgrade, url)
            start(new, "new")
            await _until_all_saved(journals, running, time.monotonic(), AFTER, result)
        finally:
            for writer in running:
                writer.kill()
            for writer in running:
                writer.wait()
        await ledger.close(result)
    result.cycles += 1


async def _until_all_saved(
    journals: dict[str, Path],
    running: list[subprocess.Popen[bytes]],
    since: float,
    times: int,
    result: Result,
) -> None:
    """Wait until each writer has so many saves acknowledged after a moment."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        counts: dict[str, int] = {}
        for journal in journals.values():
            for entry in read_journal(journal).saved:
                counts[entry.writer] = counts.get(entry.writer, 0) + (entry.at > since)
        if len(counts) == len(running) and min(counts.values()) >= times:
            return
        if ended := [writer.returncode for writer in running if writer.poll() is not None]:
            result.problems.append(f"writers ended, with {ended}")
            return
        await asyncio.sleep(0.05)
    result.problems.append(f"after {PATIENCE:g} s a writer had not saved {times} times: {counts}")


@click.command()
@click.option("--old", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A checkout of the version.")
@click.option("--commit", default=AT_0004, show_default=True, help="Without --old: the commit of the earlier version.")
@click.option("--cycles", type=click.IntRange(min=1), default=5, show_default=True, help="How many databases.")
@click.option("--postgres-url", envvar="TASKCTX_TEST_POSTGRES_URL", help="A server; without it one of our own is used.")
def main(old: Path | None, commit: str, cycles: int, postgres_url: str | None) -> None:
    """Upgrade databases under six writers of an earlier version while six of this one begin; exit with 1 if any is bad.

    The earlier version is a commit of this repository whose schema is 0004, unless another one is named.
    """
    result = Result()
    console = Console(stderr=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskctx-chaos-")))
        version = Version(old.absolute() if old is not None else stack.enter_context(checkout(commit)))
        server_url = postgres_url or stack.enter_context(Server()).url
        status = stack.enter_context(console.status("Starting"))
        while result.cycles < cycles:
            status.update(f"database {result.cycles + 1} of {cycles}")
            asyncio.run(upgrade_in_use(version, server_url, result, folder))
    Console(width=None if sys.stdout.isatty() else 150).print(table([figures("rolling", PLAIN, result)]))
    for complaint in result.complaints:
        click.echo(f"rolling: {complaint}", err=True)
    sys.exit(1 if result.complaints else 0)
