"""Filling the templates. What was recorded is untrusted: all of it is escaped, and shown without direction marks."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from taskctx_sql.errors import MissingPackageError
from taskctx_sql.model.report_rows import OUTCOMES
from taskctx_sql.pages import colors, reading, scales, selection
from taskctx_sql.pages.links import LISTS, PARTS, Links
from taskctx_sql.plain_text import plain

if TYPE_CHECKING:
    from jinja2 import Environment

# Line breaks, spaces of several widths, and joiners, which scripts and emoji need.
_KEPT: Final = "\n\t\u00a0\u2009\u202f\u3000\u200c\u200d"
# The text of a cell, a title or a line has at most so many characters.
MAX_CHARACTERS: Final = 400
# The files that a browser gets as one.
_PARTS: Final = {"style.css": ("style.css", "task.css"), "page.js": ("page.js", "task.js")}


def render(name: str, links: Links, **values: Any) -> str:
    """Return a view as HTML.

    Args:
        name: The name of its template without the ending, such as ``overview``.
        links: Gives the addresses of the other views.
        values: What the template shows.

    Raises:
        MissingPackageError: Jinja is not installed.
    """
    given = {"frame": "layout.html.jinja", "frozen": False, **values}
    return environment().get_template(f"{name}.html.jinja").render(links=links, **given)


@cache
def environment() -> Environment:
    """Return the environment of the templates, with the formats of `scales` as filters.

    Raises:
        MissingPackageError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingPackageError("jinja2", "ui") from error
    made = Environment(
        loader=PackageLoader("taskctx_sql.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escaped,
    )
    made.filters.update(
        when=scales.when,
        iso=scales.iso,
        ago=scales.ago,
        number=scales.number,
        compact=scales.compact,
        cost=scales.cost,
        bytes=scales.size,
        seconds=scales.duration,
        short=short,
        color=colors.color_class,
        lines=reading.pretty_text,
    )
    made.globals.update(
        LISTS=LISTS,
        PARTS=PARTS,
        OUTCOMES=OUTCOMES,
        PERIODS=selection.PERIODS,
        share=scales.share,
        moment_text=selection.moment_text,
    )
    return made


@cache
def asset(name: str) -> str:
    """Return the text of the style sheet ``style.css``, with its colors, or of the script ``page.js``."""
    folder = files("taskctx_sql.pages").joinpath("templates")
    text = "".join(folder.joinpath(part).read_text(encoding="utf-8") for part in _PARTS.get(name, (name,)))
    return colors.variables() + text if name == "style.css" else text


def short(text: str | None, most: int = MAX_CHARACTERS) -> str:
    """Return a text of at most so many characters, with the number of all of them if some are left out."""
    text = text or ""
    return text if len(text) <= most else f"{text[:most]} ... ({len(text):,} characters)"


def _escaped(value: Any) -> Any:
    """Return a text without control characters and direction marks, which would reverse the text around it."""
    # What a macro returned, a Markup, went through here in its parts.
    return plain(value, keep=_KEPT) if type(value) is str else value
