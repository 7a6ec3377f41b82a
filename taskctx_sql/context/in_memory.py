"""A context in memory: the reference's API. No I/O."""

from __future__ import annotations

import difflib
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, overload

from taskctx_sql import clock, prices, settings
from taskctx_sql.codec import is_same
from taskctx_sql.context.memory import Memory, checked_list, checked_mapping
from taskctx_sql.context.observable import ObservableDict, plain_entry
from taskctx_sql.context.optimize import OptimizePlan, plan
from taskctx_sql.context.resources import Resources
from taskctx_sql.context.unsaved import Unsaved
from taskctx_sql.errors import InvalidContextError, UnknownKeyWarning
from taskctx_sql.errors.base import shown
from taskctx_sql.limits import check_hashable
from taskctx_sql.locations import plain_folder
from taskctx_sql.model import ContextKey, ContextUpdate

Clock = Callable[[], float]

_KEYS: Final = ("user_id", "chat_id", "metadata", "metadata_toggles", "aiPreference")


class MemoryContext:
    """What a task did, in memory.

    Attributes:
        task_dir: The folder of JSON files.
        start_time: When the context was entered, seconds since the epoch, or None.
    """

    def __init__(
        self, data: Mapping[str, Any], task_dir: str | Path | None = None, *, clock: Clock | None = None
    ) -> None:
        """Create a context from ``data``: user_id, chat_id, metadata, metadata_toggles, aiPreference, all optional.

        Other keys are ignored, with an `UnknownKeyWarning`.
        """
        if not isinstance(data, Mapping):
            raise InvalidContextError("data", data, "a dict")
        _warn_of_unknown_keys(data)
        metadata = checked_mapping("metadata", data.get("metadata"))
        if "aiPreference" in data:
            metadata["aiPreference"] = data["aiPreference"]
        toggles = checked_mapping("metadata_toggles", data.get("metadata_toggles"))
        self._memory = Memory(data.get("user_id", "anonymous"), data.get("chat_id", "none"), metadata, toggles)
        self._unsaved = Unsaved(self._memory)
        self.task_dir: Path = plain_folder(settings.task_dir() if task_dir is None else task_dir)
        self.start_time: float | None = None
        self._clock = clock
        self._resources = Resources()

    # The reference's API.

    @property
    def user_id(self) -> Any:
        """The user; "anonymous" by default."""
        return self._memory.user_id

    @user_id.setter
    def user_id(self, user_id: Any) -> None:
        self._memory.user_id = user_id

    @property
    def chat_id(self) -> Any:
        """The chat; "none" by default."""
        return self._memory.chat_id

    @chat_id.setter
    def chat_id(self, chat_id: Any) -> None:
        self._memory.chat_id = chat_id

    @property
    def metadata(self) -> dict[str, Any]:
        """The task's metadata, including ``aiPreference`` of the data."""
        metadata: dict[str, Any] = self._memory.metadata
        return metadata

    @metadata.setter
    def metadata(self, metadata: dict[str, Any]) -> None:
        self._memory.metadata = metadata

    @property
    def metadata_toggles(self) -> dict[str, bool]:
        """Keys that are False here are left out of `get_active_metadata`."""
        toggles: dict[str, bool] = self._memory.toggles
        return toggles

    @metadata_toggles.setter
    def metadata_toggles(self, toggles: dict[str, bool]) -> None:
        self._memory.toggles = toggles

    @property
    def resources(self) -> dict[str, Any]:
        """The resources that are closed when the context is left, by name."""
        return self._resources.named

    @resources.setter
    def resources(self, resources: dict[str, Any]) -> None:
        self._resources.named = resources

    @property
    def context_history(self) -> list[ContextUpdate]:
        """The updates, oldest first."""
        return self._memory.history

    @context_history.setter
    def context_history(self, updates: Iterable[ContextUpdate]) -> None:
        self._memory.history = self._memory.history.replaced_by(checked_list("context_history", updates))

    @property
    def file_tracker(self) -> dict[Any, dict[str, Any]]:
        """The last operation on each file, by path."""
        return self._memory.files

    @file_tracker.setter
    def file_tracker(self, entries: Mapping[Any, dict[str, Any]]) -> None:
        self._memory.files = self._memory.files.replaced_by(checked_mapping("file_tracker", entries))

    @property
    def model_tracker(self) -> list[dict[str, Any]]:
        """The model uses, oldest first."""
        return self._memory.models

    @model_tracker.setter
    def model_tracker(self, entries: Iterable[dict[str, Any]]) -> None:
        self._memory.models = self._memory.models.replaced_by(checked_list("model_tracker", entries))

    def add_context_update(self, update_type: str, data: Any, metadata: dict[str, Any] | None = None) -> None:
        """Append an update to the history, with the current time."""
        self._memory.history.append(ContextUpdate(self._now(), update_type, data, metadata or {}))

    def add_resource(self, name: str, resource: Any) -> None:
        """Add a resource that is closed when the context is left; so is one that it replaces."""
        check_hashable("name", name)
        self._resources.add(name, resource)
        self.add_context_update("resource", {"name": name}, {"type": type(resource).__name__})

    def track_file_operation(self, file_path: str, operation: str, source: str = "task") -> None:
        """Record the last operation on a file, and append an update about it."""
        check_hashable("file_path", file_path)
        entry = {"operation": operation, "source": source, "timestamp": self._now(), "state": "active"}
        self._memory.files[file_path] = entry
        self.add_context_update("file_operation", {"path": file_path, "operation": operation}, {"source": source})

    def track_model_usage(
        self,
        model_id: str,
        provider_id: str,
        mode: str,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_read_tokens: int | None = None,
        cached_write_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        audio_tokens: int | None = None,
        cost: float | None = None,
        duration: float | None = None,
        error: str | None = None,
    ) -> None:
        """Record a use of a model, and append an update about it.

        Args:
            model_id: The model.
            provider_id: Its provider.
            mode: The purpose.
            input_tokens: The number of tokens it read, those from and into a cache and those of audio among them.
            output_tokens: The number of tokens it wrote, those of reasoning and of audio among them.
            cached_read_tokens: How many of ``input_tokens`` came from a cache.
            cached_write_tokens: How many of ``input_tokens`` were written into a cache.
            reasoning_tokens: How many of ``output_tokens`` were reasoning.
            audio_tokens: How many of both were audio.
            cost: The cost, in the currency of your choice; without one, it is estimated after `prices.enable`.
            duration: The duration in seconds.
            error: Why it failed; reports count it as a failure of the model.
        """
        at = self._now()
        entry = {"model_id": model_id, "provider_id": provider_id, "mode": mode, "timestamp": at}
        # In the order of the columns, which the entry is read back from.
        measured = {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cached_read_tokens": cached_read_tokens,
            "cached_write_tokens": cached_write_tokens,
            "reasoning_tokens": reasoning_tokens,
            "audio_tokens": audio_tokens,
        }
        priced: dict[str, Any] = {"cost": cost}
        if cost is None and prices.is_enabled():
            price = prices.estimate(model_id, provider_id, **measured, at=at)
            priced = {} if price is None else {"cost": price.cost, "price_list": price.price_list}
        known = {**measured, **priced, "duration": duration, "error": error}
        entry.update((name, value) for name, value in known.items() if value is not None)
        if not self._memory.models or not is_same(self._memory.models[-1], entry):
            self._memory.models.append(ObservableDict(entry))
            self.add_context_update("model_usage", entry)

    @overload
    def optimize_context(self, max_size: int | None = ..., *, dry_run: Literal[False] = ...) -> bool: ...

    @overload
    def optimize_context(self, max_size: int | None = ..., *, dry_run: Literal[True]) -> OptimizePlan: ...

    def optimize_context(self, max_size: int | None = None, *, dry_run: bool = False) -> bool | OptimizePlan:
        """Remove duplicates, and updates that do not fit into ``max_size`` characters of data, newest first.

        Without ``max_size``, ``AIECS_MAX_CONTEXT_SIZE`` decides. A database keeps what is removed in its record.

        Args:
            max_size: How many characters may stay.
            dry_run: Change nothing, and return what would be removed, and why.

        Returns:
            Whether anything was removed; with ``dry_run`` a plan, which is true if anything would be removed.
        """
        size = settings.max_context_size() if max_size is None else max_size
        planned = plan(self._memory.own_history(), size)
        if dry_run:
            return planned
        if planned:
            self._memory.keep(planned.kept, "optimize")
        return bool(planned)

    def get_active_metadata(self) -> dict[str, Any]:
        """Return the metadata without the keys whose toggle is False.

        Raises:
            InvalidContextError: Metadata or toggles were set to something other than a dict.
        """
        metadata = checked_mapping("metadata", self.metadata)
        toggles = checked_mapping("metadata_toggles", self.metadata_toggles)
        return {key: value for key, value in metadata.items() if toggles.get(key) is not False}

    def to_dict(self) -> dict[str, Any]:
        """Return the context as a plain dictionary: ids, active metadata, history and trackers."""
        return {
            "user_id": self.user_id,
            "chat_id": self.chat_id,
            "metadata": self.get_active_metadata(),
            "context_history": [update.to_dict() for update in self._memory.own_history()],
            "file_tracker": {path: plain_entry(entry) for path, entry in self._memory.files.items()},
            "model_tracker": [plain_entry(entry) for entry in self._memory.models],
        }

    # What is unsaved.

    @property
    def key(self) -> ContextKey:
        """The identity of the context.

        Raises:
            InvalidIdError: An id is invalid.
        """
        return self._unsaved.key

    @property
    def revision(self) -> int:
        """The store's revision that this memory last saw; 0 if none."""
        return self._unsaved.revision

    @property
    def is_new(self) -> bool:
        """Whether no store is known to have the context."""
        return self._unsaved.is_new

    @property
    def is_past(self) -> bool:
        """Whether memory shows an earlier revision, which cannot be saved."""
        return self._unsaved.is_past

    @property
    def history_complete(self) -> bool:
        """Whether memory has the whole history."""
        return self._unsaved.history_complete

    @property
    def has_unsaved_changes(self) -> bool:
        """Whether a save would write something, is in progress, or is in doubt."""
        return self._unsaved.has_changes

    def _now(self) -> float:
        return clock.now(time.time) if self._clock is None else self._clock()


def _warn_of_unknown_keys(data: Mapping[Any, Any]) -> None:
    for key in data:
        if key not in _KEYS:
            close = difflib.get_close_matches(str(key), _KEYS, 1)
            remedy = f"did you mean {close[0]!r}?" if close else f"known keys are {', '.join(_KEYS)}"
            warnings.warn(f"data has the unknown key {shown(key)}, which is ignored: {remedy}", UnknownKeyWarning, 2)
