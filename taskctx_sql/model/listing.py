"""Which contexts to list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number, check_real
from taskctx_sql.model.key import ContextKey


@dataclass(frozen=True, slots=True)
class ContextSummary:
    """A context in a list.

    Attributes:
        user_id: Whose it is.
        chat_id: Its chat.
        revision: Its newest revision; None where the store does not keep it.
        created_at: When it was first saved, seconds since the epoch, UTC; None where the store does not keep it.
        updated_at: When it was last saved, likewise.
        title: Its label "title", or None.
        labels: All of its labels, the title included, in the order of their names.
        state: Those of its named values that the list was asked for, in the order of their names.
    """

    user_id: str
    chat_id: str
    revision: int | None
    created_at: float | None
    updated_at: float
    title: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    state: Mapping[str, Any] = field(default_factory=dict, hash=False, metadata={"is_column": False})


@dataclass(frozen=True, slots=True)
class Listing:
    """The arguments of `ContextStore.contexts`, checked."""

    user_id: str | None
    after: ContextSummary | None = None
    limit: int = 100
    labels: Mapping[str, str] | None = None
    title: str | None = None
    updated_since: float | None = None
    state: Sequence[str] | None = ()

    def __post_init__(self) -> None:
        if self.user_id is not None:
            object.__setattr__(self, "user_id", ContextKey(self.user_id, "").user_id)
        if self.after is not None and not isinstance(self.after, ContextSummary):
            raise InvalidArgumentError("after", self.after, "None or the last ContextSummary of the page before")
        check_number("limit", self.limit, 0)
        check_labels(self.labels)
        check_title(self.title)
        if self.updated_since is not None:
            check_real("updated_since", self.updated_since, "None or a time in seconds since the epoch")
        object.__setattr__(self, "state", _checked_names(self.state))

    @property
    def needs_state(self) -> bool:
        """Whether only a store that keeps named values and labels has the answer."""
        return bool(self.labels) or self.title is not None or self.state != ()


def _checked_names(names: Sequence[str] | None) -> Sequence[str] | None:
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(map(_is_name, names)):
        allowed = "a sequence of names without NUL and lone surrogates, or None for all values"
        raise InvalidArgumentError("state", names, allowed)
    return tuple(names)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and not any(char == "\x00" or "\ud800" <= char <= "\udfff" for char in name)


def check_labels(labels: Mapping[str, str] | None) -> None:
    """Raise InvalidArgumentError if labels to look for are not texts by name."""
    if labels is None:
        return
    if not isinstance(labels, Mapping) or not all(isinstance(text, str) for item in labels.items() for text in item):
        raise InvalidArgumentError("labels", labels, "None or a mapping of names to texts")


def check_title(title: str | None) -> None:
    """Raise InvalidArgumentError if a part of a title to look for is no text."""
    if title is not None and not isinstance(title, str):
        raise InvalidArgumentError("title", title, "None or a text")
