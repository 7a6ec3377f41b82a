"""A streaming replica of a server of the tests' own, made with the same binaries."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from tests.support.postgres import Server, ask


class Standby:
    """Follows a server, can be held back, and can be stopped.

    Args:
        primary: The server to follow.
    """

    def __init__(self, primary: Server) -> None:
        self._primary = primary
        self._folder = Path(tempfile.mkdtemp(prefix="taskctx-standby-"))
        if primary.system_user is not None:
            shutil.chown(self._folder, primary.system_user)

    def __enter__(self) -> Self:
        socket = urlsplit(self._primary.url).query.removeprefix("host=")
        into = ("-D", f"{self._folder}/data", "-R", "-X", "stream", "-c", "fast")
        self._primary.execute("pg_basebackup", "-h", socket.replace("%2F", "/"), "-U", "postgres", *into)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, of_primary: str) -> str:
        """Return where to read what the primary has there."""
        return urlunsplit(urlsplit(of_primary)._replace(query=f"host={self._folder}"))

    def start(self) -> None:
        options = f"-h '' -k {self._folder}"
        self._control("-o", options, "-l", f"{self._folder}/log", "start")

    def stop(self) -> None:
        """Stop it; harmless if it is."""
        if (self._folder / "data" / "postmaster.pid").exists():
            self._control("-m", "immediate", "stop")

    async def pause(self) -> None:
        """Hold it back: it goes on answering, with what it has."""
        await ask(self.url(self._primary.url), "SELECT pg_wal_replay_pause()")

    async def resume(self) -> None:
        await ask(self.url(self._primary.url), "SELECT pg_wal_replay_resume()")

    async def catch_up(self) -> None:
        """Wait until it has what the primary has now."""
        place = await ask(self._primary.url, "SELECT pg_current_wal_insert_lsn()::text")
        caught_up = "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)"
        while not await ask(self.url(self._primary.url), caught_up, place):
            pass

    def _control(self, *arguments: str) -> None:
        self._primary.execute("pg_ctl", "-w", "-D", f"{self._folder}/data", *arguments)
