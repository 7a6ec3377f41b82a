"""Progress of transfers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from taskctx_sql.cli import terminal
from taskctx_sql.model import TransferProgress
from taskctx_sql.plain_text import plain


@contextmanager
def transfer_progress(unit: str) -> Iterator[TransferProgress]:
    """Yield a function that updates a progress bar, at most ten times a second."""
    with terminal.progress() as bars:
        bar = bars.add_task("Reading", total=None)
        last = 0.0

        def update(doing: str, done: int, total: int | None) -> None:
            nonlocal last
            if time.monotonic() - last > 0.1:
                last = time.monotonic()
                bars.update(bar, completed=done, total=total, description=f"{plain(doing[-50:])} {unit}")

        yield update
