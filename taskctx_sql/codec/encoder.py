"""The slow path of encoding: convert a value, part by part, to a tree that ``json`` writes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Any, Final

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
from taskctx_sql.codec.members import SetOrder, stand_ins
from taskctx_sql.codec.tags import FROM_TAG, LIST_TAGS, TAGS, TO_TAG, escape, from_tag
from taskctx_sql.errors import LossyValueWarning, UnstorableValueError

# Below the lowest limit of a reader: Python 3.11 reads 993 levels, SQLite's JSON functions 1,000.
MAX_DEPTH: Final = 900
# Readers differ about larger ones: some return a float, and Python refuses to print more than 4,300 digits.
MAX_INTEGER_BITS: Final = 63

# By default, the original reads smaller integers than this in a file.
_UNREADABLE: Final = 10**4300
# Every program can print and read smaller integers, whatever its limit.
_PRINTED_BY_ALL: Final = 10**640


def from_file_tag(obj: dict[str, Any]) -> Any:
    """Return the value of a tagged object in a file, unless `Encoder` would not write it: then it is the original's."""
    if len(obj) != 1:
        return obj
    ((tag, content),) = obj.items()
    return from_tag(obj) if tag in TAGS and _is_ours(tag, content) else obj


def _is_ours(tag: str, content: Any, levels: int = 8) -> bool:
    """Whether `Encoder` writes ``{tag: content}`` in a file for some value. Nested values are not checked."""
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
        return bool(Encoder(strict=True, warn=False, for_file=True).tree(value, "") == {tag: content})
    if len(value) != len(content):
        return False
    if tag != "__items__" or any(type(key) is not str for key in value):
        return True
    # With string keys only, it is written just for an object that would be mistaken for a tag.
    ((key, item),) = value.items() if len(value) == 1 else [("", None)]
    return key in TAGS and levels > 0 and _is_ours(key, item, levels - 1)


# The position of a value within another one: the path of its container, and the step from there. Formatted only when
# it is needed.
ValuePath = tuple[Any, str]
_MAX_PATH: Final = 300


def _path_text(path: ValuePath) -> str:
    """Return a path as text, such as ``data['files'][0]``, cut if it is long."""
    steps = []
    rest: Any = path
    while rest is not None:
        rest, step = rest
        steps.append(step)
    text = "".join(reversed(steps))
    return text if len(text) <= _MAX_PATH else f"{text[:_MAX_PATH]}..."


_warned: set[type] = set()

# Types whose values all come back as themselves, and different from each other.
_EXACT: Final = frozenset({*TO_TAG, tuple, set, frozenset, dict, list}) - {PurePath}

# The step from a container to a child, the child, and whether it must be hashable when it is read back.
_Child = tuple[str, Any, bool]


class _Part:
    """A container whose children are being converted."""

    __slots__ = ("children", "depth", "done", "finish", "holder", "path")

    def __init__(
        self, holder: Any, children: Iterable[_Child], finish: Callable[[list[Any]], Any], path: ValuePath, depth: int
    ) -> None:
        self.holder, self.children, self.finish = holder, iter(children), finish
        self.path, self.depth = path, depth
        self.done: list[Any] = []


class Encoder:
    """Converts one value to a tree that ``json`` writes.

    It keeps a stack of its own, because Python's is too small for a value of `MAX_DEPTH`.
    """

    def __init__(self, *, strict: bool, warn: bool, for_file: bool) -> None:
        self._strict = strict
        self._warn = warn
        self._for_file = for_file
        self._set_order = SetOrder()
        # How many parts so far are read back as other values, so that two keys might become one.
        self._converted = 0

    def tree(self, value: Any, name: str) -> Any:
        """Return the tree for a value, which errors and warnings call ``name``."""
        parts = [_Part(None, [("", value, False)], lambda done: done[0], (None, name), 0)]
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
            opened = self._open(item, (part.path, step), part.depth + 1, holders, hashable)
            if isinstance(opened, _Part):
                holders.add(id(opened.holder))
                parts.append(opened)
            else:
                part.done.append(opened)

    def _open(self, value: Any, path: ValuePath, depth: int, holders: set[int], hashable: bool) -> Any:
        """Return the tree for a scalar, or a `_Part` for a container."""
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
            return self._as_text(value, path, "it contains itself", "{...}" if isinstance(value, dict) else "[...]")
        try:
            opened = self._open_other(value, path, depth, holders, hashable)
            if isinstance(opened, _Part) and opened.depth > MAX_DEPTH:
                return self._as_text(value, path, "nested too deep", f"<{kind.__name__} nested too deep>")
            return opened
        except (UnstorableValueError, LossyValueWarning):
            # The warning is raised if the program turns warnings into errors.
            raise
        except Exception as error:
            # A user's class may raise anything from its methods; other values are stored all the same.
            return self._as_text(value, path, f"{type(error).__name__} while reading it")

    def _open_other(self, value: Any, path: ValuePath, depth: int, holders: set[int], hashable: bool) -> Any:
        kind = type(value)
        self._converted += kind not in _EXACT
        if isinstance(value, Enum):
            return self._open(value.value, (path, ".value"), depth, holders, hashable)
        if isinstance(value, str | int | float):
            plain = plain_scalar(value)
            if not is_same(plain, value) and plain == plain:
                return self._as_text(value, path, f"it is more than the {type(plain).__name__} that its class says")
            return self._open(plain, path, depth, holders, hashable)
        if isinstance(value, bytearray | memoryview):
            value = bytes(value)
        for known, (tag, write) in TO_TAG.items():
            if isinstance(value, known):
                text = write(value)
                if kind is not known and not _comes_back(value, tag, text):
                    return self._as_text(value, path, f"it is more than the {known.__name__} that its class says")
                return {tag: self._str(text)}
        number = number_of(value)
        if number is not None:
            return self._int(number) if isinstance(number, int) else self._float(number)
        if isinstance(value, tuple):
            children = _numbered(tuple.__iter__(value), hashable)
            return _Part(value, children, lambda done: {"__tuple__": done}, path, depth + 1)
        if isinstance(value, set | frozenset) and are_crowded(value):
            return self._as_text(value, path, "too many of its members have one hash")
        if isinstance(value, frozenset):
            return self._set(value, "__frozenset__", path, depth)
        if hashable:
            # It is read back as a value that cannot be a key or a member of a set.
            return self._as_text(value, path, "as a key or in a set")
        if isinstance(value, set):
            return self._set(value, "__set__", path, depth)
        if isinstance(value, dict):
            return self._dict(value, dict.items(value), path, depth)
        if isinstance(value, list):
            return _Part(value, _numbered(list.__iter__(value), False), lambda done: done, path, depth)
        fields = fields_of(value)
        if fields is not None:
            return self._dict(value, fields.items(), path, depth)
        if is_model(value):
            return self._open(value.model_dump(), path, depth, holders, hashable)
        return self._as_text(value, path, "JSON has no form for it")

    def _set(self, holder: Collection[Any], tag: str, path: ValuePath, depth: int) -> _Part:
        members, before = self._set_order.sort(holder), self._converted

        def finish(done: list[Any]) -> Any:
            return {tag: self._apart(members, done, path) if self._converted > before else done}

        return _Part(holder, _numbered(members, True), finish, path, depth + 1)

    def _dict(self, holder: Any, pairs: Iterable[tuple[Any, Any]], path: ValuePath, depth: int) -> Any:
        pairs = list(pairs)
        items = [(_plain_key(key), item) for key, item in pairs]
        keys = [key for key, _ in items]
        plain = all(type(key) is str and (self._for_file or _is_clean(key)) for key in keys)
        is_apart = not plain or len(set(keys)) == len(keys)
        if plain and is_apart and not (len(items) == 1 and keys[0] in TAGS and self._needs_escape(*items[0])):
            steps = [(f"[{shown(key)}]", item, False) for key, item in items]
            return _Part(holder, steps, lambda done: dict(zip(keys, done, strict=True)), path, depth)
        if are_crowded(key for key, _ in items):
            return self._as_text(holder, path, "too many of its keys have one hash")
        before = self._converted

        def finish(done: list[Any]) -> Any:
            if not is_apart or self._converted > before:
                done[::2] = self._apart([key for key, _ in pairs], done[::2], path)
            return _items(done)

        flat = []
        for key, item in items:
            step = f"[{shown(key)}]" if isinstance(key, str | int) else f"[<{type(key).__name__}>]"
            flat += [(step, key, True), (step, item, False)]
        return _Part(holder, flat, finish, path, depth + 2)

    def _apart(self, members: Sequence[Any], trees: list[Any], path: ValuePath) -> list[Any]:
        """Return the trees for keys or members of a set, so that as many are read back."""
        apart = list(trees)
        for index, text in stand_ins(members, trees).items():
            step = f"[<{type(members[index]).__name__}>]"
            apart[index] = self._as_text(members[index], (path, step), "it would come back as another one", text)
        return apart

    def _needs_escape(self, tag: str, content: Any) -> bool:
        return not self._for_file or _is_ours(tag, content)

    def _str(self, text: str) -> Any:
        return text if self._for_file or _is_clean(text) else {"__str__": escape(text)}

    def _int(self, number: int) -> Any:
        if number.bit_length() <= MAX_INTEGER_BITS:
            return number
        if self._for_file and abs(number) < _UNREADABLE:
            # A program can limit the digits it prints; longer integers are written as a tag.
            with contextlib.suppress(ValueError):
                int.__repr__(number)
                return number
        return {"__int__": hex(number)}

    def _float(self, number: float) -> Any:
        if self._for_file or number - number == 0.0:
            return number
        return {"__float__": float.__repr__(number)}

    def _as_text(self, value: Any, path: ValuePath, reason: str, text: str | None = None) -> Any:
        if self._strict:
            raise UnstorableValueError(_path_text(path), value, reason)
        kind = type(value)
        if self._warn and kind not in _warned:
            message = f"{_path_text(path)} is a {kind.__name__} ({reason}): stored as its text"
            warnings.warn(message, LossyValueWarning, stacklevel=2)
            # Not before: if warnings are errors, the next save must be refused, too.
            _warned.add(kind)
        return self._str(text_of(value) if text is None else text)


def _numbered(items: Iterable[Any], hashable: bool) -> Iterator[_Child]:
    return ((f"[{index}]", item, hashable) for index, item in enumerate(items))


def _plain_key(key: Any) -> Any:
    """Return a key that is stored as a string anyway as that string."""
    if isinstance(key, Enum) and isinstance(key.value, str):
        key = key.value
    if not isinstance(key, str):
        return key
    plain = str.__str__(key)
    return plain if is_same(plain, key) else key


def _items(flat: list[Any]) -> dict[str, Any]:
    """Return alternating keys and values as a tagged object, or as a plain one if all keys became strings."""
    keys, values = flat[::2], flat[1::2]
    if all(type(key) is str for key in keys) and len(set(keys)) == len(keys) and not TAGS.issuperset(keys):
        return dict(zip(keys, values, strict=True))
    return {"__items__": [list(pair) for pair in zip(keys, values, strict=True)]}


def _is_clean(text: str) -> bool:
    """Whether UTF-8 and both engines accept it unchanged."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return "\x00" not in text


def _comes_back(value: Any, tag: str, text: str) -> bool:
    """Whether a value of a subclass of a known type (such as pandas' times) holds no more than that type."""
    again = FROM_TAG[tag](text)
    # A NaN, or a time that a clock change repeats, is not equal to itself: then the text decides. A path of another
    # system has the same text, but other parts.
    return bool(again == value) or (tag != "__path__" and text_of(again) == text_of(value))
