"""The contexts that aiecs makes once this is installed, and what a model's response says of its use."""

from __future__ import annotations

import functools
import importlib
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from taskctx_sql import ContextStore, ContextUpdate, TaskContext, build_context
from taskctx_sql.integrations.requirements import needs

# What aiecs puts into the data of a context, though neither its own class nor ours reads it.
_UNREAD: Final = ("context_history", "file_tracker", "model_tracker", "tools")
# The last response in this task of the event loop, and how many seconds it took, until its use is recorded.
_last_response: Final[ContextVar[tuple[Any, float] | None]] = ContextVar("last_response", default=None)


class AiecsTaskContext(TaskContext):
    """A `TaskContext` as aiecs makes and uses it.

    It is kept where `install` said, or else where any other `TaskContext` is. A use of a model that aiecs records by
    its names alone gets the tokens, the cost and the duration of the response that it follows.
    """

    _store: ContextStore | None = None
    _database_url: str | None = None

    def __init__(self, data: Mapping[str, Any], task_dir: str | Path | None = None, **options: Any) -> None:
        """Create a context; the arguments are those of `TaskContext`."""
        if not options.keys() & {"store", "database_url"}:
            options |= {"store": self._store, "database_url": self._database_url}
        super().__init__({name: value for name, value in data.items() if name not in _UNREAD}, task_dir, **options)
        self._is_rebuilt = "context_history" in data

    async def load(self, **selection: Any) -> None:
        """Load what the store has; see `TaskContext.load`.

        A context that aiecs rebuilt from its cache has updates of the store: those are not saved once more.
        """
        rebuilt = list(self.context_history) if self._is_rebuilt else []
        if rebuilt:
            self.context_history = []
        try:
            await super().load(**selection)
            self._is_rebuilt = False
        finally:
            there = {_parts(update) for update in self.context_history} if rebuilt else set()
            self.context_history.extend(update for update in rebuilt if _parts(update) not in there)

    def track_model_usage(self, model_id: str, provider_id: str, mode: str, **measured: Any) -> None:
        """Record a use of a model; see `TaskContext.track_model_usage`."""
        found = _last_response.get()
        if not measured and found is not None and (found[0].model, found[0].provider) == (model_id, provider_id):
            _last_response.set(None)
            measured = _measured(*found)
        super().track_model_usage(model_id, provider_id, mode, **measured)


def _parts(update: ContextUpdate) -> tuple[Any, ...]:
    return update.timestamp, update.update_type, repr(update.data), repr(update.metadata)


def track_llm_response(context: TaskContext, response: Any, mode: str = "generate") -> None:
    """Record what a model returned as a use of the model: its tokens by kind, its cost and its duration.

    Args:
        context: Whose use it is.
        response: aiecs' ``LLMResponse``. A cost of 0, with which it says that it knows no price, is left out.
        mode: The purpose.
    """
    context.track_model_usage(response.model, response.provider, mode, **_measured(response, response.response_time))


def _measured(response: Any, seconds: float | None) -> dict[str, Any]:
    read, written, thought = response.cache_read_tokens, response.cache_creation_tokens, response.thinking_tokens
    prompt, completion = response.prompt_tokens, response.completion_tokens
    if prompt is not None and "anthropic" in response.provider.lower():
        # Its prompt tokens are those beside the cache; here, as with the others, the input has all of them.
        prompt += (read or 0) + (written or 0)
    if None not in (prompt, completion, thought) and (response.tokens_used or 0) >= prompt + completion + thought:
        # Google counts them beside the completion, and its total has both; here the output has all of them.
        completion += thought
    measured = {
        "input_tokens": prompt,
        "output_tokens": completion,
        "cached_read_tokens": read,
        "cached_write_tokens": written,
        "reasoning_tokens": thought,
        "cost": response.cost_estimate or None,
        "duration": seconds,
    }
    return {name: value for name, value in measured.items() if value is not None}


def install(*, store: ContextStore | None = None, database_url: str | None = None) -> None:
    """Let aiecs make contexts of this library, wherever it imports its own classes, now or later.

    Its ``TaskContext``, ``ContextUpdate``, ``task_context`` and ``build_context`` are replaced in each of its modules,
    those that are already imported too. Contexts that exist stay what they are, and so do names that a module of
    yours imported before. Calling it again changes where new contexts are kept.

    Args:
        store: An open store, which you close yourself, where new contexts are kept.
        database_url: What `open_store` takes, likewise. Without both, ``TASKCTX_DATABASE_URL`` decides, as always.

    Raises:
        MissingPackageError: aiecs is not installed.
    """
    # Whatever may have these names: what is imported later takes them from here.
    with needs("aiecs", None):
        source = importlib.import_module("aiecs.domain.task.task_context")
        manager = importlib.import_module("aiecs.llm.client_factory").LLMClientManager
    AiecsTaskContext._store, AiecsTaskContext._database_url = store, database_url
    if _replaced:
        return
    _replaced.update({name: getattr(source, name) for name in _REPLACEMENTS})
    _generate.append((manager, manager.generate_text))
    manager.generate_text = _remembering(manager.generate_text)
    _exchange({id(_replaced[name]): ours for name, ours in _REPLACEMENTS.items()})


def uninstall() -> None:
    """Give aiecs its own classes back, wherever it imports them. Contexts that exist stay what they are."""
    _exchange({id(ours): _replaced[name] for name, ours in _REPLACEMENTS.items() if _replaced})
    for manager, generate_text in _generate:
        manager.generate_text = generate_text
    _replaced.clear()
    _generate.clear()
    AiecsTaskContext._store, AiecsTaskContext._database_url = None, None


_REPLACEMENTS: Final[dict[str, Any]] = {
    "TaskContext": AiecsTaskContext,
    "ContextUpdate": ContextUpdate,
    "task_context": lambda data, task_dir=None: AiecsTaskContext(data, task_dir),
    "build_context": build_context,
}
# What aiecs had, while it is replaced.
_replaced: Final[dict[str, Any]] = {}
_generate: Final[list[tuple[Any, Any]]] = []


def _exchange(values: Mapping[int, Any]) -> None:
    """Put values in place of others, by their ids, in each of aiecs' modules."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "aiecs":
            for attribute, value in list(vars(module).items()):
                if id(value) in values:
                    setattr(module, attribute, values[id(value)])


def _remembering(generate_text: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(generate_text)
    async def generate(*args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        response = await generate_text(*args, **options)
        _last_response.set((response, time.perf_counter() - started))
        return response

    return generate
