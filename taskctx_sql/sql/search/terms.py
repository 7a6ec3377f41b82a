"""What a word is looked up by in the index: each text that has the word has all of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

# Bytes on Postgres, characters on SQLite.
_LENGTH: Final = 3
# More would take longer to look up than they save of comparing texts.
_MOST: Final = 12


def prefixes(words: Iterable[Sequence[str]]) -> list[str]:
    """Return the words of one or two letters for which FTS5 is asked by the trigrams that begin with them."""
    short = (forms[0] for forms in words if len(forms) == 1 and len(forms[0]) < _LENGTH)
    # FTS5 and Python may not agree on the case of letters that are not ASCII.
    return [word for word in short if all(letter.isascii() or letter.lower() == letter.upper() for letter in word)]


def match_expression(words: Iterable[Sequence[str]], begun: Mapping[str, Sequence[str]] | None = None) -> str | None:
    """Return what FTS5 is asked for words, each with its forms; None if it can look up none of them.

    ``begun`` has the trigrams that begin with a shorter word.
    """
    conditions = []
    for forms in words:
        if begun and forms[0] in begun:
            # A trigram that no text has, where there is none.
            conditions.append(" OR ".join(map(_quoted, begun[forms[0]])) or _quoted("\x01\x01\x01"))
            continue
        if all(len(form) >= _LENGTH for form in forms):
            each = [" AND ".join(_quoted(form[at : at + _LENGTH]) for at in _places(len(form))) for form in forms]
            conditions.append(" OR ".join(f"({one})" for one in each))
    return " AND ".join(f"({condition})" for condition in conditions) or None


def byte_terms(form: str) -> list[int]:
    """Return numbers of three successive bytes, as the function in Postgres has them; none for one or two bytes."""
    encoded = form.encode()
    if len(encoded) < _LENGTH:
        return []
    return sorted({int.from_bytes(encoded[at : at + _LENGTH], "big") for at in _places(len(encoded))})


def _places(length: int) -> list[int]:
    """Return where the parts of a text begin that are looked up: together they are all of it, if it is not long."""
    last = length - _LENGTH
    places = [*range(0, last, _LENGTH), last]
    step = -(-len(places) // _MOST)
    return places[::step]


def _quoted(part: str) -> str:
    quoted = part.replace('"', '""')
    return f'"{quoted}"'
