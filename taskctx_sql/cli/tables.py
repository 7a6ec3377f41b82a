"""Tables for people, which fit the terminal: texts are shortened, and columns that have no room are named.

Without a terminal nothing is shortened or left out, unless COLUMNS gives a width.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from taskctx_sql.cli import terminal
from taskctx_sql.plain_text import plain

# How a column is shortened: an id in its middle, a text at its end, other values never.
Kind = Literal["id", "text", "number", "value"]
# From a text and a width to a text that is no wider.
Shorten = Callable[[str, int], str]

_GAP: Final = 2
_NARROWEST: Final = 20
# The least widths before columns are left out. An id gets more if its rows would look the same.
_LEAST: Final = {"id": 12, "text": 16}
_LEAST_UNIQUE: Final = 16
# Without a terminal, longer cells do not move the columns of other rows.
_WIDEST_PADDING: Final = 60
# Which part of a shortened id is its beginning, in the order of preference.
_SPLITS: Final = (0.5, 0.25, 0.0, 0.75, 1.0)
# How much of what all ids have in common is left, where they differ in their middle.
_COMMON: Final = 3
_TOTAL: Final = "total"
# Of outcomes.
_STYLES: Final = {"failed": "red", "unfinished": "yellow"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column. If there is no room, the one with the highest rank is left out first, and rank 0 never.

    ``least`` is its least width, in cells, if it is not the one of its kind.
    """

    heading: str
    kind: Kind = "value"
    rank: int = 0
    least: int = 0


class Marked(str):
    """A text of which parts are printed in bold, where the output has colors; it has only printable characters."""

    __slots__ = ("matches",)

    matches: Sequence[tuple[int, int]]

    def __new__(cls, text: str, matches: Sequence[tuple[int, int]]) -> Marked:
        """Return the text with the places of the parts: the index of the first character, and that after the last."""
        marked = super().__new__(cls, text)
        marked.matches = matches
        return marked


def print_table(
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    total: Sequence[str] | None = None,
    remedy: str = "use a wider terminal",
) -> None:
    """Print a table.

    Args:
        title: The line above it.
        columns: The columns, which must be as many as a row has cells.
        rows: The texts of the cells.
        total: A last row with the sums; it is named in the first column without one.
        remedy: What shows the columns that were left out.
    """
    console = terminal.console()
    cells = [[plain(cell) for cell in row] for row in rows]
    if total is not None:
        # Any of these may be the first that is shown.
        named = zip(columns, total, strict=True)
        cells.append([cell if cell or column.kind == "number" else _TOTAL for column, cell in named])
    layout = _Layout(columns, cells, _width_of(console))
    print_line(title, style="bold")
    console.print(layout.line([column.heading for column in columns], "bold"), soft_wrap=True)
    for number, row in enumerate(cells):
        is_total = total is not None and number == len(cells) - 1
        console.print(layout.line(layout.named_once(row) if is_total else row, "bold" * is_total), soft_wrap=True)
    if layout.left_out:
        print_line(f"No room for: {', '.join(layout.left_out)}. To see them, {remedy}.")


def _width_of(console: Console) -> int | None:
    """Return the width of the output; None if lines may have any length, as in a file or for another program."""
    if terminal.is_terminal() or os.environ.get("COLUMNS", "").isdigit():
        return max(console.width, _NARROWEST)
    return None


def print_line(text: str, *, style: str = "") -> None:
    """Print a text, on as many lines as it needs."""
    console = terminal.console()
    width = _width_of(console)
    line = Text(plain(text), style)
    for part in [line] if width is None else line.wrap(console, width):
        part.rstrip()
        console.print(part, soft_wrap=True)


class _Layout:
    """Which columns are shown, and how wide they are."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> None:
        self._columns = columns
        cells = [[column.heading, *(row[index] for row in rows)] for index, column in enumerate(columns)]
        natural = [max(map(cell_len, texts)) for texts in cells]
        self._shorten: list[Shorten] = [
            _at_end if column.kind == "text" else partial(_in_middle, _SPLITS[0]) for column in columns
        ]
        self._shown = list(range(len(columns)))
        self.left_out: list[str] = []
        self._is_cut = width is not None
        if width is None:
            self._widths = [min(one, _WIDEST_PADDING) for one in natural]
            return
        self._widths = [self._least(index, cells[index], natural[index]) for index in self._shown]
        while self._missing(width) > 0:
            least_important = max(self._shown, key=lambda index: columns[index].rank)
            if not columns[least_important].rank:
                self._squeeze(width)
                break
            self._shown.remove(least_important)
        self.left_out = [column.heading for index, column in enumerate(columns) if index not in self._shown]
        self._widen(natural, -self._missing(width))
        for index in self._shown:
            if columns[index].kind == "id":
                self._shorten[index] = _best(cells[index][1:], self._widths[index])

    def named_once(self, row: Sequence[str]) -> list[str]:
        """Return the row of the sums with its name in one column."""
        first = next((index for index in self._shown if row[index] == _TOTAL), None)
        return ["" if cell == _TOTAL and index != first else cell for index, cell in enumerate(row)]

    def line(self, row: Sequence[str], style: str) -> Text:
        """Return the line of a row."""
        line = Text(style=style)
        for index in self._shown:
            kind, width, text = self._columns[index].kind, self._widths[index], row[index]
            if self._is_cut and kind in _LEAST:
                text = self._shorten[index](text, width)
            space = " " * max(width - cell_len(text), 0)
            line.append(space if kind == "number" else "")
            line.append(text, _STYLES.get(text, "") if kind == "value" else "")
            line.append("" if kind == "number" else space)
            line.append(" " * _GAP)
            if isinstance(cell := row[index], Marked):
                begin = len(line) - _GAP - len(space) - len(text)
                kept = len(text) - (text != cell)
                for start, end in cell.matches:
                    line.stylize("bold red", begin + min(start, kept), begin + min(end, kept))
        line.rstrip()
        return line

    def _least(self, index: int, texts: Sequence[str], natural: int) -> int:
        """Return the width that a column needs at least."""
        kind, heading = self._columns[index].kind, cell_len(texts[0])
        if kind not in _LEAST:
            return natural
        least = min(natural, max(self._columns[index].least or _LEAST[kind], heading))
        if kind == "id":
            different = len(set(texts[1:]))
            for width in range(least, min(natural, _LEAST_UNIQUE) + 1):
                if _different(_best(texts[1:], width), texts[1:], width) == different:
                    return width
        return least

    def _missing(self, width: int) -> int:
        """Return how much wider the shown columns are than the output; negative if there is room."""
        return sum(self._widths[index] + _GAP for index in self._shown) - _GAP - width

    def _squeeze(self, width: int) -> None:
        """Make the columns that can be shortened narrower than is good, the widest first."""
        flexible = [index for index in self._shown if self._columns[index].kind in _LEAST]
        while self._missing(width) > 0 and any(self._widths[index] > 1 for index in flexible):
            self._widths[max(flexible, key=lambda index: self._widths[index])] -= 1

    def _widen(self, natural: Sequence[int], room: int) -> None:
        """Give the columns that are shortened the room that is left, the narrowest first."""
        while room > 0 and (cut := [index for index in self._shown if self._widths[index] < natural[index]]):
            # An id is readable at twice its least width; beyond that, a text needs the room more.
            index = min(cut, key=lambda one: (self._widths[one] >= 2 * _LEAST_UNIQUE, self._widths[one]))
            self._widths[index] += 1
            room -= 1


def _best(texts: Sequence[str], width: int) -> Shorten:
    """Return the way of shortening ids that keeps the most of them different."""
    ways: list[Shorten] = [partial(_in_middle, split) for split in _SPLITS]
    if long := [text for text in texts if cell_len(text) > width]:
        # What all have in common is what the first and the last in their order have.
        common = next(
            (at for at, (one, other) in enumerate(zip(min(long), max(long), strict=False)) if one != other), 0
        )
        ways.append(partial(_between, common))
    # The first of those that are equally good.
    return max(ways, key=lambda way: _different(way, texts, width))


def _different(way: Shorten, texts: Sequence[str], width: int) -> int:
    return len({way(text, width) for text in texts})


def _fits(text: str, width: int) -> bool:
    # Letters without a width would otherwise be any number in a cell.
    return cell_len(text) <= width and len(text) <= 4 * width


def _at_end(text: str, width: int) -> str:
    """Return a text without its end, if it is too long."""
    return _in_middle(1.0, text, width)


def _in_middle(split: float, text: str, width: int) -> str:
    """Return a text without its middle, if it is too long; ``split`` is the part of the rest that is its beginning."""
    if _fits(text, width):
        return text
    room = max(width - cell_len(_ellipsis()), 0)
    head = round(room * split)
    return f"{_beginning(text, head)}{_ellipsis()}{_end(text, room - head)}"


def _between(common: int, text: str, width: int) -> str:
    """Return the part of a text that follows what texts have in common, and a little of that."""
    if _fits(text, width) or width < 2 * _COMMON:
        return _in_middle(_SPLITS[0], text, width)
    head = f"{_beginning(text, _COMMON)}{_ellipsis()}"
    return f"{head}{_at_end(text[common:], width - cell_len(head))}"


def _beginning(text: str, width: int) -> str:
    """Return as much of the beginning of a text as fits."""
    length = min(len(text), width)
    while cell_len(text[:length]) > width:
        length -= 1
    return text[:length]


def _end(text: str, width: int) -> str:
    """Return as much of the end of a text as fits."""
    start = max(len(text) - width, 0)
    while cell_len(text[start:]) > width:
        start += 1
    return text[start:]


def _ellipsis() -> str:
    """Return the mark of what is missing, in the output's encoding."""
    try:
        "\u2026".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "~"
    return "\u2026"
