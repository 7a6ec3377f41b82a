"""Whatever a program hands in, it gets an error of the library that names it, or it is taken; and it can go on."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from taskctx_sql import ContextKey, ContextUpdate, SqlStore, Store, TaskContext, open_store, schema
from taskctx_sql.errors import (
    InvalidArgumentError,
    InvalidContextError,
    InvalidDatabaseUrlError,
    InvalidIdError,
    TaskContextError,
)
from taskctx_sql.maintenance import erase, examine, prune
from taskctx_sql.model import Retention
from taskctx_sql.reports import Reports
from taskctx_sql.transfer import copy
from tests.support.contract import loaded

pytestmark = pytest.mark.filterwarnings("ignore::taskctx_sql.errors.LossyValueWarning")


class Shy:
    """Cannot be shown or compared."""

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")


STRANGE: Final[list[Any]] = [None, -1, float("nan"), True, 2**70, "\ud800", b"y", [1], {1: 2}, object(), Shy()]


def setting(name: str) -> Callable[[TaskContext, Any], None]:
    return lambda context, value: setattr(context, name, value)


CALLS: Final[dict[str, Callable[[TaskContext, Any], Any]]] = {
    "add_context_update": lambda context, value: context.add_context_update(value, value),
    "track_file_operation": lambda context, value: context.track_file_operation(value, value, value),
    "track_model_usage": lambda context, value: context.track_model_usage(value, value, value, cost=value),
    "add_resource": lambda context, value: context.add_resource(value, value),
    "append to context_history": lambda context, value: context.context_history.append(value),
    "append to model_tracker": lambda context, value: context.model_tracker.append(value),
    "set an entry of file_tracker": lambda context, value: context.file_tracker.__setitem__("f", value),
    "optimize_context": lambda context, value: context.optimize_context(value),
    "truncate_context_history": lambda context, value: context.truncate_context_history(value),
    "load(revision)": lambda context, value: context.load(revision=value),
    "load(at)": lambda context, value: context.load(at=value),
    "load(max_chars)": lambda context, value: context.load(max_chars=value),
    "load(types)": lambda context, value: context.load(types=value),
    "restore": lambda context, value: context.restore(value),
    "fork": lambda context, value: context.fork(value),
    "revisions": lambda context, value: context.revisions(before=value),
    **{
        f"set {name}": setting(name)
        for name in ("context_history", "file_tracker", "model_tracker", "metadata", "metadata_toggles", "user_id")
    },
    "set a timestamp": lambda context, value: setattr(context.context_history[0], "timestamp", value),
}


async def wait_for(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


@pytest.mark.parametrize("call", CALLS)
async def test_a_strange_argument_is_taken_or_named(store: Store, user: str, call: str) -> None:
    for place, value in enumerate(STRANGE):
        context = await loaded(store, user, f"c{place}")
        context.add_context_update("m", 1)
        for after in (
            lambda context: CALLS[call](context, value),  # noqa: B023 - called at once
            TaskContext.to_dict,
            TaskContext.save,
            TaskContext.load,
            TaskContext.optimize_context,
            lambda context: context.truncate_context_history(0.5),
            TaskContext.discard,
        ):
            with contextlib.suppress(TaskContextError):
                await wait_for(after(context))


async def test_the_argument_is_named(store: Store, user: str) -> None:
    context = await loaded(store, user)
    context.add_context_update("m", 1)
    with pytest.raises(InvalidArgumentError, match="timestamp='x'"):
        await context.truncate_context_history("x")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=r"max_size=\[\]"):
        context.optimize_context([])  # type: ignore[call-overload]
    with pytest.raises(InvalidArgumentError, match="file_path"):
        context.track_file_operation([], "read")  # type: ignore[arg-type]
    with pytest.raises(InvalidContextError, match="model_tracker must be a list"):
        context.model_tracker = 1  # type: ignore[assignment]
    with pytest.raises(InvalidArgumentError, match="revision=<Shy>"):
        await context.load(revision=Shy())  # type: ignore[arg-type]
    assert [update.data for update in context.context_history] == [1]
    key = ContextKey(user, "c1")
    with pytest.raises(InvalidArgumentError, match="types='message'"):
        await anext(aiter(store.updates(key, types="message")))
    with pytest.raises(InvalidArgumentError, match="limit=-1"):
        await anext(aiter(store.updates(key, limit=-1)))


async def test_an_update_of_no_known_time_is_not_truncated(store: Store, user: str) -> None:
    context = await loaded(store, user)
    for made in (1.0, None, 9.0):
        context.context_history.append(ContextUpdate(made, "m", made, {}))  # type: ignore[arg-type]
    await context.truncate_context_history(5.0)
    assert [update.data for update in context.context_history] == [1.0, None]


NO_TIMES: Final[list[Any]] = ["x", b"x", float("nan"), True, 10**400, timedelta(1)]
NO_IDS: Final[list[Any]] = ["\x00", "\ud800", b"u", ["u"], 1.5, True, "x" * 256]
REPORTS: Final = [
    Reports.tasks, Reports.runs, Reports.models, Reports.files, Reports.activity, Reports.errors, Reports.largest,
    Reports.users, Reports.contexts,
]  # fmt: skip


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.__name__)
async def test_reports_name_what_they_cannot_be_asked_for(report: Any, sql_store: SqlStore) -> None:
    for argument in ("since", "until"):
        for value in NO_TIMES:
            with pytest.raises(InvalidArgumentError, match=f"{argument}="):
                await report(sql_store.reports, **{argument: value})
        await report(sql_store.reports, **{argument: float("inf")})
    for argument in ("user_id", "chat_id"):
        for value in NO_IDS:
            with pytest.raises(InvalidIdError, match=argument):
                await report(sql_store.reports, **{argument: value})
        await report(sql_store.reports, **{argument: 5})
    for argument in ("after", "sort"):
        with pytest.raises(InvalidArgumentError, match=f"{argument}="):
            await report(sql_store.reports, **{argument: 5})
    if report in (Reports.tasks, Reports.runs):
        with pytest.raises(InvalidArgumentError, match=r"outcome='broken'.*failed, unfinished, cancelled, completed"):
            await report(sql_store.reports, outcome="broken")


async def test_a_user_who_is_a_number_is_found_by_it(sql_store: SqlStore) -> None:
    context = TaskContext({"user_id": 5, "chat_id": 7}, store=sql_store)
    context.add_context_update("odd\x00\ud800", "a word")
    await context.save()
    filters: Any = {"user_id": 5, "chat_id": 7}
    assert [task.user_id for task in await sql_store.reports.tasks(**filters)] == ["5"]
    assert [found.seq for found in await sql_store.search("word", update_type="odd\x00\ud800")] == [1]
    context.chat_id = "0"
    await context.save()
    assert (await erase(sql_store, "5", 0)).chats == ("0",)  # type: ignore[arg-type]  # a number, as ids may be
    for strange in (None, 5, b"x"):
        with pytest.raises(InvalidArgumentError, match="text="):
            await sql_store.search(strange)  # type: ignore[arg-type]
    reports = sql_store.reports
    for report in (reports.timeline, reports.updates_by_type, reports.files_by_operation, reports.context_runs):
        with pytest.raises(InvalidArgumentError, match="a ContextKey"):
            await report(("5", "7"))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["x", float("nan"), True, 10**400, timedelta(1), [1]])
async def test_a_retention_names_a_limit_that_is_none(value: Any, store: Store) -> None:
    for limit in ("max_age", "max_contexts", "removed_age"):
        with pytest.raises(InvalidArgumentError, match=limit):
            Retention(**{limit: value})
    with pytest.raises(InvalidArgumentError, match="interval"):
        open_store("sqlite:///:memory:", retention=Retention(max_age=1), cleanup_interval=value)
    with pytest.raises(InvalidArgumentError, match="retry_seconds"):
        await open_store("sqlite:///:memory:", retry_seconds=value)
    with pytest.raises(InvalidArgumentError, match="now="):
        await prune(store, Retention(max_age=1), now="x")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="batch="):
        await prune(store, Retention(max_age=1), batch=0)
    with pytest.raises(InvalidIdError):
        await prune(store, Retention(max_age=1), user_id="\ud800")
    for count in (1.5, 2**63):
        with pytest.raises(InvalidArgumentError, match="max_contexts"):
            Retention(max_contexts=count)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", [None, 5, b"sqlite:///x.db", [], object()])
async def test_what_is_no_address_is_named_by_its_kind(address: Any, tmp_path: Path) -> None:
    for use in (
        open_store(address), schema.upgrade(address), schema.current(address), examine(address),
        copy(address, f"sqlite:///{tmp_path}/x.db"), copy(f"sqlite:///{tmp_path}/x.db", address),
    ):  # fmt: skip
        with pytest.raises(InvalidDatabaseUrlError, match=f"it is a {type(address).__name__}"):
            await use
    if address is not None:
        with pytest.raises(InvalidDatabaseUrlError, match=f"it is a {type(address).__name__}"):
            await open_store("postgresql://me@localhost:1/db", read_url=address)


@pytest.mark.parametrize("name", ["", "\x00", "\ud800", "x" * 64, 5])
async def test_what_is_no_schema_is_named(name: Any, database_url: str) -> None:
    for use in (open_store, schema.upgrade, schema.current):
        with pytest.raises(InvalidArgumentError, match="schema="):
            await use(database_url, schema=name)
    for revision in ("", " ", None, 5):
        with pytest.raises(InvalidArgumentError, match="revision="):
            await schema.upgrade(database_url, revision)  # type: ignore[arg-type]
