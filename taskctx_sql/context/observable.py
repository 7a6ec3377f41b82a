"""Dicts and lists that report their changes, for the entries of the trackers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

# How deep within a tracker's entry changes are detected. There is a limit, since an entry may contain itself.
MAX_OBSERVED_DEPTH: Final = 8


class ObservableDict(dict[K, V]):
    """A dict that reports each key that changes to its listeners."""

    __slots__ = ("_listeners",)

    def __init__(self, items: Any = (), listener: Callable[[Any], None] | None = None) -> None:
        """Copy the items; ``listener`` is called with the key of every later change."""
        super().__init__(items)
        self._listeners: tuple[Callable[[Any], None], ...] = () if listener is None else (listener,)

    def watch(self, log: dict[int, Any]) -> None:
        """Note later changes of this dict in ``log``, by identity."""
        if not any(getattr(known, "log", None) is log for known in self._listeners):
            self._listeners = (*self._listeners, _EditLog(log, self))

    def unwatch(self, log: dict[int, Any]) -> None:
        """Stop noting changes in ``log``."""
        self._listeners = tuple(known for known in self._listeners if getattr(known, "log", None) is not log)

    def notify(self, key: Any) -> None:
        """Report a change of a key."""
        for listener in self._listeners:
            listener(key)

    def __reduce__(self) -> tuple[Any, ...]:
        # The items follow when the copy exists, since it may contain itself.
        return (dict, (), None, None, iter(list(self.items())))

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.notify(key)

    def __delitem__(self, key: K) -> None:
        super().__delitem__(key)
        self.notify(key)

    def observe_nested(self, parent: _Parent | None = None, depth: int = MAX_OBSERVED_DEPTH) -> None:
        """Replace the dicts and lists in it by ones that report changes to it, or to ``parent``."""
        for key, value in self.items():
            if type(value) in _OBSERVED_TYPES:
                # Replacing a value does not disturb the loop.
                super().__setitem__(key, _observable(value, parent or _Parent(self, key), depth))

    def reports_to(self, parent: _Parent) -> bool:
        """Whether it reports changes to ``parent`` already."""
        return parent in self._listeners

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc]  # dict has two overloads of it, for other types
        self.update(other)
        return self

    def pop(self, key: K, *default: Any) -> Any:
        if key not in self:
            return super().pop(key, *default)
        value = super().pop(key)
        self.notify(key)
        return value

    def popitem(self) -> tuple[K, V]:
        key, value = super().popitem()
        self.notify(key)
        return key, value

    def clear(self) -> None:
        keys = list(self)
        super().clear()
        for key in keys:
            self.notify(key)

    def setdefault(self, key: K, default: Any = None, /) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *others: Any, **items: Any) -> None:
        for key, value in dict(*others, **items).items():
            self[key] = value


@dataclass(frozen=True, slots=True)
class _EditLog:
    """A listener that notes the dict as edited in a log."""

    log: dict[int, Any]
    entry: Any

    def __call__(self, key: Any) -> None:
        self.log[id(self.entry)] = self.entry


@dataclass(frozen=True, slots=True, eq=False)
class _Parent:
    """A listener that reports changes below a key of an entry as changes of that key."""

    entry: ObservableDict[Any, Any]
    key: Any

    def __call__(self, _: Any) -> None:
        self.entry.notify(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Parent) and self.entry is other.entry and self.key is other.key


def _observable(value: Any, parent: _Parent, depth: int) -> Any:
    """Return a copy of a dict or a list that reports changes to ``parent``; any other value is returned as it is.

    One that reports to it already stays the same object, since a program may hold it from one save to the next.
    """
    if not depth or type(value) not in _OBSERVED_TYPES:
        return value
    if isinstance(value, _OBSERVABLE) and value.reports_to(parent):
        value.observe_nested(parent, depth - 1)
        return value
    if isinstance(value, list):
        return ObservableList((_observable(item, parent, depth - 1) for item in value), parent)
    return ObservableDict({key: _observable(item, parent, depth - 1) for key, item in value.items()}, parent)


def observable_entry(entry: Any) -> Any:
    """Return a tracker's entry as one whose changes are detected, in its dicts and lists too."""
    if not isinstance(entry, dict):
        return entry
    observable = entry if isinstance(entry, ObservableDict) else ObservableDict(entry)
    observable.observe_nested()
    return observable


def observable_entries(_: int, entries: Sequence[Any]) -> list[Any]:
    """Return a tracker's entries as ones whose changes are detected."""
    return [observable_entry(entry) for entry in entries]


class ObservableList(list[T]):
    """A list within a tracker's entry that reports its changes."""

    __slots__ = ("_listener",)

    def __init__(self, items: Iterable[T], listener: Callable[[Any], None]) -> None:
        """Copy the items; ``listener`` is called after every later change."""
        super().__init__(items)
        self._listener = listener

    def reports_to(self, parent: _Parent) -> bool:
        """Whether it reports changes to ``parent`` already."""
        return self._listener == parent

    def observe_nested(self, parent: _Parent, depth: int) -> None:
        """Replace the dicts and lists in it by ones that report changes to ``parent``."""
        for index, item in enumerate(self):
            if type(item) in _OBSERVED_TYPES:
                list.__setitem__(self, index, _observable(item, parent, depth))

    def __reduce__(self) -> tuple[Any, ...]:
        return as_list(self)


def _reporting(name: str) -> Callable[..., Any]:
    """Return a method of list that reports a change when it is done."""
    own = getattr(list, name)

    @wraps(own)
    def method(self: ObservableList[Any], *args: Any, **kwargs: Any) -> Any:
        result = own(self, *args, **kwargs)
        self._listener(None)
        return result

    return method


for _name in (
    "__setitem__", "__delitem__", "__iadd__", "__imul__",
    "append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse",
):  # fmt: skip
    setattr(ObservableList, _name, _reporting(_name))


_OBSERVABLE: Final = (ObservableDict, ObservableList)
_OBSERVED_TYPES: Final[frozenset[type[Any]]] = frozenset({dict, list, *_OBSERVABLE})


def as_list(items: list[Any]) -> tuple[Any, ...]:
    """Return what ``__reduce__`` of a list returns to be copied as a plain list; it may contain itself."""
    return (list, (), None, iter(list(items)))


def plain_entry(value: Any, copies: dict[int, Any] | None = None) -> Any:
    """Return a tracker's entry as ordinary dicts and lists, which are in ``copies``: an entry may contain itself."""
    if not isinstance(value, _OBSERVABLE):
        return value
    copies = {} if copies is None else copies
    if id(value) in copies:
        return copies[id(value)]
    if isinstance(value, ObservableDict):
        # Registered before it is filled.
        entry = copies[id(value)] = {}
        entry.update((key, plain_entry(item, copies)) for key, item in value.items())
        return entry
    items = copies[id(value)] = []
    items.extend(plain_entry(item, copies) for item in value)
    return items
