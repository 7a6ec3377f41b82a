"""What a person sees of the record: the views that `taskctx ui` serves, and that a frozen page holds.

Each view is a dataclass of data that a ``collect_...`` function reads, and a template that `render` fills. Addresses
come from a `Links`, so that the same templates serve an application with routes and a file without any.
"""

from taskctx_sql.pages.frozen import Frozen, collect_frozen, render_frozen
from taskctx_sql.pages.links import Links
from taskctx_sql.pages.lists import ListView, collect_list, csv_lines
from taskctx_sql.pages.overview import Overview, collect_overview
from taskctx_sql.pages.parts import Parts, PatientParts, WholeParts
from taskctx_sql.pages.render import render
from taskctx_sql.pages.search import SearchView, collect_search, marked
from taskctx_sql.pages.selection import Selection, selection_of

__all__ = [
    "Frozen",
    "Links",
    "ListView",
    "Overview",
    "Parts",
    "PatientParts",
    "SearchView",
    "Selection",
    "WholeParts",
    "collect_frozen",
    "collect_list",
    "collect_overview",
    "collect_search",
    "csv_lines",
    "marked",
    "render",
    "render_frozen",
    "selection_of",
]
