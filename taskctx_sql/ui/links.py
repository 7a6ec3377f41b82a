"""The addresses of the application's views.

A task is named by the parameters ``user`` and ``chat``, as ids may be anything: empty, ``..`` or full of slashes, which
browsers and proxies change in a path.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from urllib.parse import quote, urlencode

from taskctx_sql.pages import Selection
from taskctx_sql.pages.render import asset


class ServerLinks:
    """The `Links` of the application."""

    def overview(self, selection: Selection, /) -> str:
        """See `Links.overview`."""
        return _address("/", selection.parameters())

    def list(self, name: str, selection: Selection, /, *, form: str = "") -> str:
        """See `Links.list`."""
        return _address(f"/{name}" + (f".{form}" if form else ""), selection.parameters())

    def search(self, selection: Selection, /) -> str:
        """See `Links.search`."""
        return _address("/search", selection.parameters())

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
    ) -> str:
        """See `Links.task`."""
        more = {"revision": revision, "seq": seq, "part": part or None, "page": page or None}
        named = [(name, str(value)) for name, value in more.items() if value is not None]
        place = f"#{self.anchor(user_id, chat_id, seq)}" if seq is not None and not part else ""
        return _address("/task", [("user", user_id), ("chat", chat_id), *named]) + place

    def anchor(self, user_id: str, chat_id: str, seq: int, /) -> str:
        """See `Links.anchor`: a page is about one task."""
        return f"u{seq}"

    def changes(self, user_id: str, chat_id: str, old: int, new: int, /) -> str:
        """See `Links.changes`."""
        return _address("/task/changes", [("user", user_id), ("chat", chat_id), ("old", str(old)), ("new", str(new))])

    def events(self, user_id: str, chat_id: str, after: int, revision: int, /) -> str:
        """See `Links.events`."""
        known = [("after", str(after)), ("revision", str(revision))]
        return _address("/task/events", [("user", user_id), ("chat", chat_id), *known])

    def asset(self, name: str, /) -> str:
        """See `Links.asset`; the address changes with the text, so that browsers may keep it."""
        return f"/static/{name}?v={_digest(name)}"


@cache
def _digest(name: str) -> str:
    return blake2b(asset(name).encode(), digest_size=6).hexdigest()


def _address(path: str, parameters: list[tuple[str, str]]) -> str:
    return path + (f"?{urlencode(parameters, quote_via=quote)}" if parameters else "")
