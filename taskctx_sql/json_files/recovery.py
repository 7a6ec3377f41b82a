"""Reading a history file entry by entry, in little memory, and past damage.

In the original's layout each entry begins on its own line, where reading continues after a damaged part.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from taskctx_sql import codec
from taskctx_sql.json_files import files, history_format
from taskctx_sql.model import ContextUpdate, Damage

CHUNK: Final = 1 << 20
# After so many damaged entries, no entry is read past the beginning of the next one: each could begin a thousand levels
# deep, and a file of such beginnings would cost a thousand times its size.
MAX_FAILURES: Final = 50

_SPACE: Final = re.compile(r"[ \t\r\n]*")
# Where an entry begins in the original's layout. A line break inside a string is always escaped, and the lines
# within an entry are indented further, so nothing else looks like it.
_NEXT_ENTRY: Final = re.compile(r"\n  (?=\{)")
# What a byte that is not UTF-8 is decoded to; no text of a valid file has one of these.
_BAD_BYTE: Final = re.compile("[\udc80-\udcff]")
# The error handler for bytes that are not UTF-16 or UTF-32.
_BAD_UNIT: Final = "taskctx-bad-unit"


class Entry(NamedTuple):
    """A whole entry of a file, from byte ``start`` up to byte ``end``."""

    update: ContextUpdate
    start: int
    end: int


def read_entries(path: Path, *, chunk: int = CHUNK) -> Iterator[Entry | Damage]:
    """Yield a history file's entries and its damaged parts in order, reading it chunk by chunk.

    Memory holds at most an entry and a chunk, unless the file is damaged and not in the original's layout.
    """
    with files.open_file(path) as file:
        yield from _EntryReader(file, chunk).read()


class _EntryReader:
    """The part of a file's text that is being read."""

    def __init__(self, file: BinaryIO, chunk: int) -> None:
        self._file = file
        self._chunk = chunk
        self._encoding = _encoding_of(file.read(4))
        file.seek(0)
        # How invalid characters are decoded, and how many bytes an ASCII character has.
        self._errors, self._unit = ("surrogateescape", 1) if self._encoding == "utf-8" else (_BAD_UNIT, 2)
        if self._encoding.startswith("utf-32"):
            self._unit = 4
        self._decoder = codecs.getincrementaldecoder(self._encoding)(self._errors)
        self._text = ""
        self._at = 0
        # An index of the text and its byte in the file; other bytes are counted from there.
        self._known = (0, 0)
        self._ended = False
        # Whether a comma must come next.
        self._after_entry = False
        self._after_rest = False
        self._failures = 0

    def read(self) -> Iterator[Entry | Damage]:
        """Yield what is in the file."""
        if self._next() == "\ufeff":
            self._at += 1
        if self._next() != "[":
            yield self._rest("it is not a list of updates" if self._next() else "it is empty")
            return
        self._at += 1
        while (letter := self._next()) not in ("", "]"):
            if self._after_entry and letter == ",":
                self._at += 1
                if not self._next():
                    break
            elif self._after_entry:
                here = self._byte(self._at)
                yield Damage(here, here, "a comma is missing")
            yield self._entry()
        if self._after_rest:
            return
        if not self._next():
            here = self._byte(self._at)
            yield Damage(here, here, "the file ends here, and the list does not")
            return
        self._at += 1
        if self._next():
            yield self._rest("it comes after the end of the list")

    def _entry(self) -> Entry | Damage:
        while True:
            try:
                value, end = self._value()
            except (ValueError, RecursionError) as error:
                if self._ended or _NEXT_ENTRY.search(self._text, self._at):
                    self._failures += 1
                    return self._skip(_reason(error))
                self._read_more()
                continue
            if end < len(self._text) or self._ended:
                break
            # A number may continue in the next chunk.
            self._read_more()
        begin, self._at, self._after_entry = self._at, end, True
        start, stop = self._byte(begin), self._byte(end)
        if not self._text.isascii() and _BAD_BYTE.search(self._text, begin, end):
            return Damage(start, stop, f"it has bytes that are not {self._encoding[:6].upper()}")
        try:
            return Entry(history_format.update_of(value, "the entry"), start, stop)
        except ValueError as error:
            return Damage(start, stop, str(error))

    def _value(self) -> tuple[Any, int]:
        following = _NEXT_ENTRY.search(self._text, self._at) if self._failures > MAX_FAILURES else None
        if following is None:
            return codec.read_file_value(self._text, self._at)
        value, end = codec.read_file_value(self._text[self._at : following.start()], 0)
        return value, self._at + end

    def _skip(self, reason: str) -> Damage:
        """Skip to the next entry, or to the end, and return what was skipped."""
        start = self._byte(self._at)
        while (found := _NEXT_ENTRY.search(self._text, self._at)) is None:
            if self._ended:
                return self._rest(reason)
            self._read_more()
        self._at, self._after_entry = found.end(), False
        return Damage(start, self._byte(self._at), reason)

    def _rest(self, reason: str) -> Damage:
        """Skip to the end, and return what was skipped."""
        start, self._after_rest, self._ended = self._byte(self._at), True, True
        self._at = len(self._text)
        # Seek instead of reading: a sparse file may be far larger than its contents.
        return Damage(start, self._file.seek(0, os.SEEK_END), reason)

    def _next(self) -> str:
        """Skip white space, and return the next character; an empty text at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            assert found is not None
            self._at = found.end()
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._read_more()

    def _read_more(self) -> None:
        """Drop what was read, and read as much as is pending, so that a long entry is rarely parsed again."""
        self._known = (0, self._byte(self._at))
        rest, self._at = self._text[self._at :], 0
        data = self._file.read(max(self._chunk, len(rest)))
        self._ended = not data
        self._text = rest + self._decoder.decode(data, final=self._ended)

    def _byte(self, at: int) -> int:
        known, byte = self._known
        if self._text.isascii():
            return byte + (at - known) * self._unit
        low, high = min(known, at), max(known, at)
        errors = self._errors if self._encoding == "utf-8" else "surrogatepass"
        between = len(self._text[low:high].encode(self._encoding, errors))
        self._known = (at, byte + between if at >= known else byte - between)
        return self._known[1]


def _encoding_of(beginning: bytes) -> str:
    """Return a file's encoding. Editors also write UTF-16; its byte order mark is read as a character."""
    marks = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
    if beginning.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        marks = {"utf-16": "utf-16-be", "utf-32": "utf-32-be"}
    encoding = json.detect_encoding(beginning)
    return marks.get(encoding, encoding)


def _bad_unit(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


codecs.register_error(_BAD_UNIT, _bad_unit)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return f"it is not a whole entry: {getattr(error, 'msg', None) or error}"
