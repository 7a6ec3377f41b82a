"""The addresses of the views: an application has routes, and a file only what is in it."""

from __future__ import annotations

from typing import Protocol

from taskctx_sql.pages.selection import Selection

# The views that are a table of a report, by the name in their address, with their headings.
LISTS = {
    "tasks": "Tasks",
    "runs": "Runs",
    "calls": "Calls of tools",
    "models": "Models",
    "tools": "Tools",
    "errors": "Errors",
    "files": "Files",
    "costs": "Costs",
    "users": "Users",
}


# The parts of the view of a task, by the name in their address, with their headings; the first is the view itself.
PARTS = {"": "Task", "details": "Files and values", "history": "Revisions"}


class Links(Protocol):
    """Gives the address of each view, or None where there is none: then its text stands there without a link."""

    def overview(self, selection: Selection, /) -> str | None:
        """Return the address of the overview."""

    def list(self, name: str, selection: Selection, /, *, form: str = "") -> str | None:
        """Return the address of a list, a key of `LISTS`; ``form`` is "csv" for its file."""

    def search(self, selection: Selection, /) -> str | None:
        """Return the address of the search for the selection's text ``q``."""

    def task(
        self,
        user_id: str,
        chat_id: str,
        /,
        *,
        revision: int | None = None,
        seq: int | None = None,
        part: str = "",
        page: str = "",
    ) -> str | None:
        """Return the address of a task, now or at a revision; of an update, a part of its view, or a page of that."""

    def anchor(self, user_id: str, chat_id: str, seq: int, /) -> str:
        """Return the id of the element of an update of a task."""

    def changes(self, user_id: str, chat_id: str, old: int, new: int, /) -> str | None:
        """Return the address of what changed between two revisions of a task."""

    def events(self, user_id: str, chat_id: str, after: int, revision: int, /) -> str | None:
        """Return the address at which a task's new updates are sent, and what was removed since a revision."""

    def asset(self, name: str, /) -> str | None:
        """Return the address of ``style.css`` or ``page.js``."""
