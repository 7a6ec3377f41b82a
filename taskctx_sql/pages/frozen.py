"""The views in one file, which needs no server and no network: the overview, lists, and tasks themselves."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from hashlib import sha256
from itertools import chain
from typing import Any, Final, Unpack

from taskctx_sql.errors import StoreError
from taskctx_sql.model import ContextKey, Revision
from taskctx_sql.model.report_filters import Filters, Moment
from taskctx_sql.pages.lists import ListView, collect_list
from taskctx_sql.pages.overview import Overview, collect_overview
from taskctx_sql.pages.parts import WHOLE
from taskctx_sql.pages.render import asset, render
from taskctx_sql.pages.selection import Selection, now
from taskctx_sql.pages.task import Details, TaskView, collect_details, collect_task
from taskctx_sql.stores import Store

# The lists that a file has.
_SHOWN: Final = ("tasks", "runs", "models", "tools", "errors", "files", "users")
# How many rows a list has, and how many tasks are in the file; how many updates each of them has, and one alone.
ROWS: Final = 50
TASKS: Final = 25
UPDATES: Final = 100
UPDATES_OF_ONE: Final = 1_000
REVISIONS: Final = 50


@dataclass(frozen=True, slots=True)
class FrozenTask:
    """A task in the file."""

    view: TaskView
    details: Details
    revisions: Sequence[Revision]


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a file shows.

    Attributes:
        database_url: Where it is from, without a password.
        selection: The period, and whose.
        at: When it was read.
        overview: The overview; None of one task.
        lists: The lists, with their first rows.
        tasks: The tasks themselves: those that the overview names, and the newest.
        task_count: How many tasks there are.
        chat_id: The chat that was asked for, or None.
        may_read: Whether the account may read the tasks themselves.
    """

    database_url: str
    selection: Selection
    at: datetime
    overview: Overview | None
    lists: Sequence[ListView]
    tasks: Sequence[FrozenTask]
    task_count: int
    chat_id: str | None
    may_read: bool = True


async def collect_frozen(store: Store, **filters: Unpack[Filters]) -> Frozen:
    """Return what a file shows, with ``chat_id`` tasks alone; ``limit`` is the number of rows and of tasks.

    Raises:
        UnsupportedByStoreError: The store is not a database.
    """
    at, limit, chat_id = now(), filters.get("limit"), filters.get("chat_id")
    selection = _selection(filters)
    wanted: Filters = {**filters, "limit": TASKS if limit is None else limit}
    newest = store.reports.tasks(**wanted)
    count = await newest.count()
    overview, lists = None, []
    if chat_id is None:
        overview = await collect_overview(store, selection, at, WHOLE)
        for name in _SHOWN:
            found = await collect_list(store, name, selection, at, WHOLE, rows=limit or ROWS)
            lists.append(found)
    costly = () if overview is None else overview.dearest or ()
    failing = () if overview is None else overview.failing or ()
    keys = {(row.user_id or "", row.chat_id or ""): None for row in costly}
    keys |= {(task.user_id, task.chat_id): None for task in chain(failing, await newest)}
    most = UPDATES if chat_id is None else UPDATES_OF_ONE
    may_read = True
    tasks: list[FrozenTask] = []
    try:
        async for task in _tasks(store, list(keys)[: wanted["limit"]], most):
            tasks.append(task)
    except StoreError as error:
        # An analyst's account reads what was counted, and not what was said.
        if not getattr(error, "denied", False):
            raise
        may_read = False
    return Frozen(store.database_url, selection, at, overview, lists, tasks, count, chat_id, may_read)


async def _tasks(store: Store, keys: Sequence[tuple[str, str]], most: int) -> AsyncIterator[FrozenTask]:
    for user_id, chat_id in keys:
        key = ContextKey(user_id, chat_id)
        view = await collect_task(store, key, size=most)
        yield FrozenTask(view, await collect_details(store, key), await store.revisions(key, limit=REVISIONS))


def render_frozen(page: Frozen) -> str:
    """Return the file as HTML.

    Raises:
        MissingPackageError: Jinja is not installed.
    """
    links = FileLinks(page)
    shown = {"selection": page.selection, "store": page.database_url, "user_id": page.selection.user, "links": links}
    bare: dict[str, Any] = {**shown, "frame": "bare.html.jinja", "frozen": True}
    del bare["links"]
    overview = "" if page.overview is None else render("overview", links, view=page.overview, **bare)
    lists = [(found, render("list", links, view=found, **bare)) for found in page.lists]
    style = asset("style.css")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return render(
        "frozen",
        links,
        page=page,
        overview=overview,
        lists=lists,
        style=style,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        **{name: value for name, value in bare.items() if name != "frame"},
    )


class FileLinks:
    """The `Links` of a file: anchors for what is in it, and None for what is not."""

    def __init__(self, page: Frozen) -> None:
        """Note what is in the file."""
        self._base = page.selection.in_period()
        self._has_overview = page.overview is not None
        self._lists = {found.name for found in page.lists}
        self._tasks: Mapping[tuple[str, str], int] = {
            (task.view.head.key.user_id, task.view.head.key.chat_id): number
            for number, task in enumerate(page.tasks, 1)
        }
        self._seqs = {
            number: {entry.seq for entry in task.view.conversation.entries} for number, task in enumerate(page.tasks, 1)
        }

    def overview(self, selection: Selection, /) -> str | None:
        """See `Links.overview`."""
        return "#overview" if self._has_overview and selection == self._base else None

    def list(self, name: str, selection: Selection, /, *, form: str = "") -> str | None:
        """See `Links.list`: the file has each list as it stands, without filters."""
        is_whole = replace(selection, sort=None, page=1, by=None) == self._base
        return f"#list-{name}" if name in self._lists and is_whole and not form else None

    def search(self, selection: Selection, /) -> str | None:
        """See `Links.search`: a file is searched with the browser."""
        return None

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
        """See `Links.task`."""
        number = self._tasks.get((user_id, chat_id))
        if number is None or revision is not None or page or part == "update":
            return None
        if seq is not None and seq in self._seqs[number]:
            return f"#{self.anchor(user_id, chat_id, seq)}"
        return f"#t{number}" + (f"-{part}" if part else "")

    def anchor(self, user_id: str, chat_id: str, seq: int, /) -> str:
        """See `Links.anchor`."""
        return f"t{self._tasks.get((user_id, chat_id), 0)}-u{seq}"

    def changes(self, user_id: str, chat_id: str, old: int, new: int, /) -> str | None:
        """See `Links.changes`: a file has none."""
        return None

    def events(self, user_id: str, chat_id: str, after: int, revision: int, /) -> str | None:
        """See `Links.events`: nothing comes to a file."""
        return None

    def asset(self, name: str, /) -> str | None:
        """See `Links.asset`: the style is in the file, and there is no script."""
        return None


def _selection(filters: Filters) -> Selection:
    since, until = _moment(filters.get("since")), _moment(filters.get("until"))
    period = "all" if since is None and until is None else ""
    return Selection(period, since, until, user=filters.get("user_id"))


def _moment(moment: Moment | None) -> date | datetime | None:
    """Return a moment as a selection has it; one that is in no calendar is none."""
    if isinstance(moment, int | float):
        try:
            return datetime.fromtimestamp(moment, UTC)
        except (ValueError, OverflowError, OSError):
            return None
    return moment
