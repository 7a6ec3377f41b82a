"""Names of values and labels, which indexes hold as they are, in the order of their bytes."""

from __future__ import annotations

from typing import Any, Final, get_args

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.model import StateKind
from taskctx_sql.sql.row_codec.column_values import is_column_text

_KINDS: Final = get_args(StateKind)
# An entry of an index on Postgres holds at most 2,704 bytes.
MAX_NAME_BYTES: Final = 2_000
MAX_LABEL_CHARACTERS: Final = 255


def check_name(kind: str, name: Any) -> None:
    """Raise InvalidArgumentError for a kind that there is not, or a name that a column cannot hold or an index."""
    if kind not in _KINDS:
        raise InvalidArgumentError("kind", kind, " or ".join(map(repr, _KINDS)))
    if kind == "label":
        _check_short("the name of a label", name)
    elif not is_column_text(name) or not name or len(name.encode()) > MAX_NAME_BYTES:
        allowed = f"a text of 1 to {MAX_NAME_BYTES:,} bytes as UTF-8, without NUL and lone surrogates"
        raise InvalidArgumentError("the name of a value", name, allowed)


def check_label(value: Any) -> None:
    """Raise InvalidArgumentError for what cannot be the text of a label."""
    _check_short("the text of a label", value, least=0)


def _check_short(what: str, value: Any, least: int = 1) -> None:
    if not is_column_text(value) or not least <= len(value) <= MAX_LABEL_CHARACTERS:
        allowed = f"a text of {least} to {MAX_LABEL_CHARACTERS} characters, without NUL and lone surrogates"
        raise InvalidArgumentError(what, value, allowed)
