"""The slow path of the codec: values part by part into what ``json`` writes as it is, and the tags back."""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Any, Final

from taskctx_sql.codec.distinct_keys import stand_ins
from taskctx_sql.codec.foreign_values import (
    are_crowded,
    fields_of,
    is_model,
    is_same,
    number_of,
    plain_scalar,
    shown,
    text_of,
)
from taskctx_sql.codec.tags import FROM_TAG, LIST_TAGS, TAGS, TO_TAG, escape, from_tag
from taskctx_sql.errors import LossyValueWarning, UnstorableValueError

# The lowest of the limits that a reader may have: Python 3.11 reads 993 levels, SQLite's JSON functions 1,000.
MAX_DEPTH: Final = 900
# Beyond, readers differ: some make a float of it, and Python refuses to print more than 4,300 digits.
MAX_INTEGER_BITS: Final = 63

# In a file. The original reads integers of fewer digits than this, unless its program says otherwise.
_UNREADABLE: Final = 10**4300
# What no program can forbid itself to print and read.
_PRINTED_BY_ALL: Final = 10**640

# How much of a place a message shows.
SHOWN_PLACE: Final = 300


def from_file_tag(obj: dict[str, Any]) -> Any:
    """Read a tag in a file, unless we would not write it so: then it is the original's, and stays as it is."""
    if len(obj) != 1:
        return obj
    ((tag, content),) = obj.items()
    return from_tag(obj) if tag in TAGS and _is_ours(tag, content) else obj


def _is_ours(tag: str, content: Any, steps: int = 8) -> bool:
    """Whether ``{tag: content}`` in a file is what we write for some value. It looks at the surface only."""
    if type(content) is not (list if tag in LIST_TAGS else str):
        return False
    try:
        value = from_tag({tag: content})
    except ValueError:
        return False
    if tag == "__tuple__":
        return True
    if tag == "__int__":
        return abs(value) >= _PRINTED_BY_ALL and hex(value) == content
    if tag not in LIST_TAGS:
        return bool(Encoding(strict=True, warn=False, for_file=True).tree(value, "") == {tag: content})
    if len(value) != len(content):
        return False
    if tag != "__items__" or any(type(key) is not str for key in value):
        return True
    # Only strings as keys: we write that for an object that would be taken for a tag, and for no other.
    ((key, item),) = value.items() if len(value) == 1 else [("", None)]
    return key in TAGS and steps > 0 and _is_ours(key, item, steps - 1)


_warned: set[type] = set()

# Types of which each value comes back as itself, and as no other's.
_EXACT: Final = frozenset({*TO_TAG, tuple, set, frozenset, dict, list}) - {PurePath}


# A step from a container to one of its children, the child, and whether it must be hashable when it comes back.
_Child = tuple[str, Any, bool]


class _Part:
    """A container whose children are being converted."""

    __slots__ = ("children", "depth", "done", "finish", "holder", "place")

    def __init__(
        self, holder: Any, children: Iterable[_Child], finish: Callable[[list[Any]], Any], place: _Place, depth: int
    ) -> None:
        self.holder, self.children, self.finish = holder, iter(children), finish
        self.place, self.depth = place, depth
        self.done: list[Any] = []


class Encoding:
    """The slow path: one value, part by part, into what ``json`` writes as it is.

    It keeps its own stack, because Python's would not hold a value of `MAX_DEPTH`.
    """

    def __init__(self, *, strict: bool, warn: bool, for_file: bool) -> None:
        self._strict = strict
        self._warn = warn
        self._for_file = for_file
        # Of tuples and sets in sets, by identity: what holds them is held by the caller meanwhile.
        self._digests: dict[int, str] = {}
        # How many parts so far come back as something else, so that two keys might become one.
        self._converted = 0

    def tree(self, value: Any, place: str) -> Any:
        """Return what JSON can write for the value, which is called ``place`` in errors and warnings."""
        parts = [_Part(None, [("", value, False)], lambda done: done[0], (None, place), 0)]
        holders: set[int] = set()
        while True:
            part = parts[-1]
            child = next(part.children, None)
            if child is None:
                parts.pop()
                holders.discard(id(part.holder))
                result = part.finish(part.done)
                if not parts:
                    return result
                parts[-1].done.append(result)
                continue
            step, item, hashable = child
            opened = self._open(item, (part.place, step), part.depth + 1, holders, hashable)
            if isinstance(opened, _Part):
                holders.add(id(opened.holder))
                parts.append(opened)
            else:
                part.done.append(opened)

    def _open(self, value: Any, place: _Place, depth: int, holders: set[int], hashable: bool) -> Any:
        """Return what JSON writes for a scalar, or the part that a container is."""
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self._str(value)
        if kind is int:
            return self._int(value)
        if kind is float:
            return self._float(value)
        if id(value) in holders:
            return self._as_text(value, place, "it contains itself", "{...}" if isinstance(value, dict) else "[...]")
        try:
            opened = self._open_other(value, place, depth, holders, hashable)
            if isinstance(opened, _Part) and opened.depth > MAX_DEPTH:
                return self._as_text(value, place, "nested too deep", f"<{kind.__name__} nested too deep>")
            return opened
        except (UnstorableValueError, LossyValueWarning):
            # The second is raised where a program made errors of warnings.
            raise
        except Exception as error:
            # A user's own class may raise anything from its methods; its neighbours are stored all the same.
            return self._as_text(value, place, f"{type(error).__name__} while reading it")

    def _open_other(self, value: Any, place: _Place, depth: int, holders: set[int], hashable: bool) -> Any:
        kind = type(value)
        self._converted += kind not in _EXACT
        if isinstance(value, Enum):
            return self._open(value.value, (place, ".value"), depth, holders, hashable)
        if isinstance(value, str | int | float):
            plain = plain_scalar(value)
            if not is_same(plain, value) and plain == plain:
                return self._as_text(value, place, f"it is more than the {type(plain).__name__} that its class says")
            return self._open(plain, place, depth, holders, hashable)
        if isinstance(value, bytearray | memoryview):
            value = bytes(value)
        for known, (tag, write) in TO_TAG.items():
            if isinstance(value, known):
                text = write(value)
                if kind is not known and not _comes_back(value, tag, text):
                    return self._as_text(value, place, f"it is more than the {known.__name__} that its class says")
                return {tag: self._str(text)}
        number = number_of(value)
        if number is not None:
            return self._int(number) if isinstance(number, int) else self._float(number)
        if isinstance(value, tuple):
            children = _numbered(tuple.__iter__(value), hashable)
            return _Part(value, children, lambda done: {"__tuple__": done}, place, depth + 1)
        if isinstance(value, set | frozenset) and are_crowded(value):
            return self._as_text(value, place, "too many of its members have one hash")
        if isinstance(value, frozenset):
            return self._set(value, "__frozenset__", place, depth)
        if hashable:
            # What it would be read as can be no key and no member of a set.
            return self._as_text(value, place, "as a key or in a set")
        if isinstance(value, set):
            return self._set(value, "__set__", place, depth)
        if isinstance(value, dict):
            return self._dict(value, dict.items(value), place, depth)
        if isinstance(value, list):
            return _Part(value, _numbered(list.__iter__(value), False), lambda done: done, place, depth)
        fields = fields_of(value)
        if fields is not None:
            return self._dict(value, fields.items(), place, depth)
        if is_model(value):
            return self._open(value.model_dump(), place, depth, holders, hashable)
        return self._as_text(value, place, "JSON has no form for it")

    def _set(self, holder: Collection[Any], tag: str, place: _Place, depth: int) -> _Part:
        members, before = list(self._in_stable_order(holder)), self._converted

        def finish(done: list[Any]) -> Any:
            return {tag: self._apart(members, done, place) if self._converted > before else done}

        return _Part(holder, _numbered(members, True), finish, place, depth + 1)

    def _dict(self, holder: Any, pairs: Iterable[tuple[Any, Any]], place: _Place, depth: int) -> Any:
        pairs = list(pairs)
        items = [(_plain_key(key), item) for key, item in pairs]
        keys = [key for key, _ in items]
        plain = all(type(key) is str and (self._for_file or _is_clean(key)) for key in keys)
        is_apart = not plain or len(set(keys)) == len(keys)
        if plain and is_apart and not (len(items) == 1 and keys[0] in TAGS and self._needs_escape(*items[0])):
            steps = [(f"[{shown(key)}]", item, False) for key, item in items]
            return _Part(holder, steps, lambda done: dict(zip(keys, done, strict=True)), place, depth)
        if are_crowded(key for key, _ in items):
            return self._as_text(holder, place, "too many of its keys have one hash")
        before = self._converted

        def finish(done: list[Any]) -> Any:
            if not is_apart or self._converted > before:
                done[::2] = self._apart([key for key, _ in pairs], done[::2], place)
            return _items(done)

        flat = []
        for key, item in items:
            step = f"[{shown(key)}]" if isinstance(key, str | int) else f"[<{type(key).__name__}>]"
            flat += [(step, key, True), (step, item, False)]
        return _Part(holder, flat, finish, place, depth + 2)

    def _apart(self, members: Sequence[Any], trees: list[Any], place: _Place) -> list[Any]:
        """Return what JSON writes for keys or members of a set, so that as many come back."""
        apart = list(trees)
        for at, text in stand_ins(members, trees).items():
            step = f"[<{type(members[at]).__name__}>]"
            apart[at] = self._as_text(members[at], (place, step), "it would come back as another one", text)
        return apart

    def _in_stable_order(self, items: Collection[Any]) -> Iterator[Any]:
        """Sets have no order; sorted by what is in them, equal sets have equal texts."""
        if len(items) < 2:
            return iter(items)
        return iter(sorted(items, key=self._order))

    def _order(self, item: Any) -> tuple[str, str]:
        # A text of what holds others would hold theirs, and be made again at each level.
        text = self._digest(item) if isinstance(item, tuple | frozenset) else text_of(item)
        return type(item).__name__, text

    def _digest(self, item: Any) -> str:
        if not isinstance(item, tuple | frozenset):
            return f"{type(item).__name__} {text_of(item)}"
        if id(item) not in self._digests:
            try:
                own: Any = tuple if isinstance(item, tuple) else frozenset
                parts = [self._digest(part) for part in own.__iter__(item)]
            except RecursionError:
                # The stack ends here, and so does the order.
                return ""
            if isinstance(item, frozenset):
                parts.sort()
            content = json.dumps([type(item).__name__, *parts]).encode()
            self._digests[id(item)] = hashlib.sha256(content).hexdigest()
        return self._digests[id(item)]

    def _needs_escape(self, tag: str, content: Any) -> bool:
        return not self._for_file or _is_ours(tag, content)

    def _str(self, text: str) -> Any:
        return text if self._for_file or _is_clean(text) else {"__str__": escape(text)}

    def _int(self, number: int) -> Any:
        if number.bit_length() <= MAX_INTEGER_BITS:
            return number
        if self._for_file and abs(number) < _UNREADABLE:
            # What this program cannot print, as one may set how many digits that are, is written as its tag.
            with contextlib.suppress(ValueError):
                int.__repr__(number)
                return number
        return {"__int__": hex(number)}

    def _float(self, number: float) -> Any:
        if self._for_file or number - number == 0.0:
            return number
        return {"__float__": float.__repr__(number)}

    def _as_text(self, value: Any, place: _Place, reason: str, text: str | None = None) -> Any:
        if self._strict:
            raise UnstorableValueError(_shown(place), value, reason)
        kind = type(value)
        if self._warn and kind not in _warned:
            message = f"{_shown(place)} is a {kind.__name__} ({reason}): stored as its text"
            warnings.warn(message, LossyValueWarning, stacklevel=2)
            # Not before: where warnings are errors, the next save is to be refused, too.
            _warned.add(kind)
        return self._str(text_of(value) if text is None else text)


def _numbered(items: Iterable[Any], hashable: bool) -> Iterator[_Child]:
    return ((f"[{index}]", item, hashable) for index, item in enumerate(items))


def _plain_key(key: Any) -> Any:
    """A key that is stored as a string anyway, as that string."""
    if isinstance(key, Enum) and isinstance(key.value, str):
        key = key.value
    if not isinstance(key, str):
        return key
    plain = str.__str__(key)
    return plain if is_same(plain, key) else key


def _items(flat: list[Any]) -> dict[str, Any]:
    """Keys and values in turn, as a tagged object; or a plain one, if all keys became strings on the way."""
    keys, values = flat[::2], flat[1::2]
    if all(type(key) is str for key in keys) and len(set(keys)) == len(keys) and not TAGS.issuperset(keys):
        return dict(zip(keys, values, strict=True))
    return {"__items__": [list(pair) for pair in zip(keys, values, strict=True)]}


# Where a value is: its holder's place and its own step from there. Put into words only when it is needed.
_Place = tuple[Any, str]


def _shown(place: _Place) -> str:
    steps = []
    at: Any = place
    while at is not None:
        at, step = at
        steps.append(step)
    text = "".join(reversed(steps))
    return text if len(text) <= SHOWN_PLACE else f"{text[:SHOWN_PLACE]}..."


def _is_clean(text: str) -> bool:
    """Whether UTF-8 and both engines take it as it is."""
    if "\x00" in text:
        return False
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


def _comes_back(value: Any, tag: str, text: str) -> bool:
    """Whether a value of a class of somebody's own (pandas' times, say) is no more than the known type it is one of."""
    again = FROM_TAG[tag](text)
    # Not equal to itself, as a NaN, or as a time that a change of the clocks makes twice: then its text tells.
    # A path of another system has the same text, and other parts.
    return bool(again == value) or (tag != "__path__" and text_of(again) == text_of(value))
