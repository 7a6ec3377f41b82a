"""Whatever a program hands in, it gets an error of the library that names it, or it is taken; and it can go on."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, Final

import pytest

from taskctx_sql import ContextUpdate, Store, TaskContext
from taskctx_sql.errors import InvalidArgumentError, InvalidContextError, TaskContextError
from tests.contract import loaded

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


async def test_an_update_of_no_known_time_is_not_truncated(store: Store, user: str) -> None:
    context = await loaded(store, user)
    for made in (1.0, None, 9.0):
        context.context_history.append(ContextUpdate(made, "m", made, {}))  # type: ignore[arg-type]
    await context.truncate_context_history(5.0)
    assert [update.data for update in context.context_history] == [1.0, None]
